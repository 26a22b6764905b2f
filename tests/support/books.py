"""The books of servers in other processes, from outside: each look opens them, and lets them go."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from chatnest.ledger.audit import Audit, TurnRecord, Verdict
from chatnest.ledger.base import Ledger, Limit

T = TypeVar("T")


class Books:
    """What ``opened`` gives, as an auditor sees it."""

    def __init__(self, opened: Callable[[], Ledger]) -> None:
        self._opened = opened

    def verdict(self) -> Verdict:
        async def look(ledger: Any) -> Verdict:
            audit: Audit = ledger.audit()
            return await audit.verdict()

        return self._look(look)

    def turns(self) -> list[TurnRecord]:
        async def look(ledger: Any) -> list[TurnRecord]:
            audit: Audit = ledger.audit()
            return [r async for r in audit.records(0) if isinstance(r, TurnRecord)]

        return self._look(look)

    def used_and_held(self, account: str) -> tuple[int, int]:
        """Tokens."""

        async def look(ledger: Ledger) -> tuple[int, int]:
            limit = Limit(name="tokens", unit="tokens", window="day", account=account, amount=1)
            (state,) = await ledger.usage((limit,))
            return state.used, state.held

        return self._look(look)

    def _look(self, question: Callable[[Any], Awaitable[T]]) -> T:
        async def look() -> T:
            ledger = self._opened()
            try:
                return await question(ledger)
            finally:
                await ledger.aclose()

        return anyio.run(look)
