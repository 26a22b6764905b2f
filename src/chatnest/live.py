"""Live: shows operators the running answers of all workers, by notes in the store of the runs.

    chatnest top                      a worker with open streams
    ── note "top": watch, stop ────►  reads it twice a second, which is all the work without a note
    ◄─ a note for each answer ─────   while operators watch
    ◄─ a note with the receipt ────   after a stop, once the answer is settled

A process that can write to the store can stop answers, just as it can change the books. There is no
work per token.
"""

import logging
import os
import platform
from collections.abc import Iterable, Sequence
from functools import partial
from math import ceil
from time import monotonic
from typing import Final

import anyio
import msgspec

from chatnest.bounds import ResolvedBounds
from chatnest.errors import LedgerUnavailable, RunCancelled
from chatnest.runs.base import RunLog
from chatnest.runs.memory import MemoryRunLog
from chatnest.streams.generation import Generation
from chatnest.streams.open_streams import OpenStreams
from chatnest.turn import Turn

__all__ = ["Board", "LiveAnswers", "LiveTurn", "Receipt", "Wishes"]

_log = logging.getLogger("chatnest.live")

LOOK_SECONDS: Final = 0.5
"""Seconds after which a worker with open streams reads the wishes of operators again."""

_RECEIPT_SECONDS: Final = 0.05
"""Seconds after which a worker checks again whether a stopped answer is settled."""

WISH_SECONDS: Final = 5.0
"""Seconds for which an operator's wishes count, unless they are written again."""

_SHOWN_SECONDS: Final = 10.0
"""Seconds for which the state of an answer is shown."""

_KEPT_SECONDS: Final = 600.0
"""Seconds for which a receipt is kept."""

_MOST_SHOWN: Final = 1_000
"""Maximum answers of a worker whose state is shown: the oldest ones."""

_BYTES_PER_TOKEN: Final = 4


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """The wishes of operators: to ``watch`` all answers, and to ``stop`` those with these ids."""

    watch: bool = False
    stop: tuple[str, ...] = ()


class LiveTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A running answer, as its worker sees it. ``seconds`` is the time since its request.
    ``output_tokens`` is an estimate from the bytes that have arrived. ``worker`` is its host and
    process id.
    """

    id: str
    principal: str
    model: str
    profile: str
    plan: str | None
    seconds: float
    input_tokens: int
    output_tokens: int
    worker: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The charge of a stopped answer, in tokens and nano-dollars, and the source of the figures."""

    id: str
    outcome: str
    charged: int
    money: int
    source: str


_wishes: Final = msgspec.json.Decoder(Wishes)
_turn: Final = msgspec.json.Decoder(LiveTurn)
_receipt: Final = msgspec.json.Decoder(Receipt)

_WISHES: Final = "top"
_NO_WISHES: Final = Wishes()


class Board:
    """The notes of running answers in the log of the runs. Raises LedgerUnavailable."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    async def wishes(self) -> Wishes:
        """The wishes of all operators."""
        text = await self._log.noted(_WISHES)
        return _NO_WISHES if text is None else _wishes.decode(text)

    async def wish(self, *, watch: bool = False, stop: Sequence[str] = ()) -> None:
        """Add a wish, which lasts for WISH_SECONDS. Callers repeat it until it is fulfilled: two
        operators may write at the same moment, and one wish is then lost.
        """
        others = await self.wishes()
        left = [each for each in others.stop if await self.receipt(each) is None]
        both = Wishes(watch=watch or others.watch, stop=tuple(dict.fromkeys((*left, *stop))))
        await self._log.note(_WISHES, _text(both), seconds=WISH_SECONDS)

    async def show(self, turn: LiveTurn) -> None:
        """Show the state of an answer."""
        await self._log.note(f"live:{turn.id}", _text(turn), seconds=_SHOWN_SECONDS)

    async def shown(self, turn_id: str) -> LiveTurn | None:
        """The state of an answer, if its worker shows it."""
        text = await self._log.noted(f"live:{turn_id}")
        return None if text is None else _turn.decode(text)

    async def charge(self, receipt: Receipt) -> None:
        """Write the receipt of a stopped answer."""
        await self._log.note(f"receipt:{receipt.id}", _text(receipt), seconds=_KEPT_SECONDS)

    async def receipt(self, turn_id: str) -> Receipt | None:
        """The receipt of an answer, once it is stopped and settled."""
        text = await self._log.noted(f"receipt:{turn_id}")
        return None if text is None else _receipt.decode(text)


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()


class LiveAnswers:
    """The running answers of a worker. ``tend`` shows or stops them on the wish of an operator."""

    def __init__(self, log: RunLog, streams: OpenStreams, bounds: ResolvedBounds) -> None:
        self._board = Board(log)
        self._is_shared = not isinstance(log, MemoryRunLog)
        self._streams = streams
        self._bounds = bounds
        self._stopped: dict[str, Turn] = {}
        self._failed = False

    async def tend(self) -> None:
        """Fulfil wishes while there are open streams, until cancelled. With a log in memory this
        does nothing, since no other process can write to it.
        """
        shown_at = 0.0
        while self._is_shared:
            await anyio.sleep(_RECEIPT_SECONDS if self._stopped else LOOK_SECONDS)
            if not (self._streams or self._stopped):
                continue
            try:
                with anyio.fail_after(self._bounds.ledger_seconds):
                    await self._give_receipts()
                    if monotonic() - shown_at >= LOOK_SECONDS * 0.9:
                        shown_at = monotonic()
                        await self._fulfil(await self._board.wishes())
            except (LedgerUnavailable, TimeoutError):
                pass  # the next look tries again, and requests log the reason
            except Exception:  # noqa: BLE001  # a custom log may raise anything
                if not self._failed:
                    self._failed = True
                    _log.exception("running answers cannot be shown. It is not logged again.")

    async def _fulfil(self, wishes: Wishes) -> None:
        if wishes == _NO_WISHES:
            return
        found = self._running()
        for turn_id in wishes.stop:
            if turn_id in found and turn_id not in self._stopped:
                self._stopped[turn_id] = found[turn_id].turn
                self._streams.stop(found[turn_id], RunCancelled())
                _log.warning("answer stopped by an operator: turn=%s", turn_id)
        if wishes.watch:
            first = sorted(found.values(), key=lambda each: each.turn.asked_at)[:_MOST_SHOWN]
            await self._show([each.turn for each in first])

    async def _show(self, turns: Iterable[Turn]) -> None:
        async with anyio.create_task_group() as tasks:
            for turn in turns:
                tasks.start_soon(partial(self._board.show, self._seen(turn)))

    async def _give_receipts(self) -> None:
        running = self._running()
        for turn_id, turn in list(self._stopped.items()):
            if turn.outcome or turn_id not in running:
                await self._board.charge(
                    Receipt(
                        id=turn_id,
                        outcome=turn.outcome or RunCancelled.code,  # it was never admitted
                        charged=turn.charged,
                        money=turn.charged_money,
                        source=turn.source,
                    )
                )
                del self._stopped[turn_id]

    def _running(self) -> dict[str, Generation]:
        sources = self._streams.sources()
        return {each.turn.id: each for each in sources if isinstance(each, Generation)}

    def _seen(self, turn: Turn) -> LiveTurn:
        answer = turn.answer
        arrived = self._bounds.answer_bytes - answer.bytes_left if answer.said else 0
        return LiveTurn(
            id=turn.id,
            principal=turn.principal,
            model=turn.model,
            profile=turn.profile.name,
            plan=turn.plan,
            seconds=round(monotonic() - turn.asked_at, 1),
            input_tokens=turn.input_tokens,
            output_tokens=ceil(arrived / _BYTES_PER_TOKEN),
            worker=f"{platform.node()}:{os.getpid()}",
        )
