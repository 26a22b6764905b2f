"""RedisLedger: books in Redis or Valkey, for any number of machines.

keys.py lists the keys. They expire by themselves, except those of a lifetime.

**Steps.** Each operation is one script, one round trip, and atomic. A script uses only the keys it
declares, bounds its loops, and reads the server's clock. The rules are those of
``chatnest.ledger.model``, with one difference, which only a clock that is set back can show: an
expired lease is charged when its own account is touched next, not with the next operation on any
account. One operation charges at most 64 expired leases of an account; the rest stay held until
the next, which counts the same.

**Clusters.** Accounts that share a slot share a step. A hold over several slots (a principal's and
a tenant's) takes one step for each, in the order of the slots:

- No account is ever overspent: each step is atomic, and admits by its own account's figures.
- If a later step refuses, the earlier steps are undone, windows included. Until then these hold
  tokens for a request that is not admitted: another request may be refused without need, but none
  is admitted wrongly.
- If a later step grants less, the earlier holds are lowered to it afterwards.
- If the worker or the server fails in between, the caller releases the holds, or they are charged
  when their lease ends, like any hold.
- Settlements and releases run once for each slot. If one fails half-way, it raises
  LedgerUnavailable, and a repetition does the rest.

**Failovers.** Redis replicates after it answers. A failover may lose the last moments, and with
them holds and settlements. A settlement is charged even if its hold was lost.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from chatnest._util.arguments import check_positive
from chatnest.errors import ZoneConflict
from chatnest.ledger.base import (
    Admitted,
    Charge,
    Hold,
    Limit,
    LimitState,
    Refused,
    Reservation,
    Settlement,
    wall_clock,
)
from chatnest.ledger.days import day_of, days_between
from chatnest.ledger.redis.answers import (
    ADMITTED,
    REFUSED,
    Admission,
    in_order,
    refusal,
    states_of,
)
from chatnest.ledger.redis.books import Books
from chatnest.ledger.redis.crossings import Crossings
from chatnest.ledger.redis.keys import Keys, Part, tag_of
from chatnest.ledger.redis.marks import Marks
from chatnest.ledger.redis.server import Server
from chatnest.ledger.redis.steps import Steps
from chatnest.ledger.redis.usage import decode_hashes, rows_of
from chatnest.ledger.usage import KEPT_MILLISECONDS, OWN, Used, check_currency, gathered
from chatnest.ledger.watch import Crossing
from chatnest.stores.survey import RedisSurvey

if TYPE_CHECKING:
    from chatnest.ledger.redis.audit import RedisAudit

__all__ = ["RedisLedger"]


class RedisLedger:
    """Limits that hold for all machines that use one Redis (6 or newer) or Valkey server.

    ``url`` is ``redis://user:password@host:6379/0``, ``rediss://`` for TLS, ``unix://path``,
    ``redis+sentinel://host:26379,host:26379/service`` or ``redis+cluster://host:6379,host:6379``.
    Options of redis-py may follow a ``?``.

    ``timeout`` is in seconds, and applies to the wait for one of ``max_connections`` and again to
    the exchange with the server. After a failed exchange, operations fail at once until the server
    answers again. ``keep_days`` is how long after its end a day is kept, and how long an expired
    hold is known; no lease may be longer. ``remember``, in seconds, is how long any other ended
    hold is known, so that operations on it are idempotent. ``clock`` is for tests: it returns
    milliseconds since the epoch, and replaces the server's time.

    Runs on asyncio only, like redis-py. Each event loop has its own connections.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "chatnest",
        timeout: float = 0.25,
        keep_days: int = 2,
        remember: float = 14_400,
        max_connections: int = 10,
        max_turns: int = 100_000,
        clock: Callable[[], int] | None = None,
    ) -> None:
        check_positive(
            timeout=timeout,
            keep_days=keep_days,
            remember=remember,
            max_connections=max_connections,
            max_turns=max_turns,
        )
        self._server = Server(url, timeout=timeout, max_connections=max_connections)
        self.prefix: str = prefix
        self.is_cluster: bool = self._server.slot_of is not None
        self._keys = Keys(prefix, self._server.slot_of)
        self._books = Books(self._server, self._keys, Marks(self._server, self._keys, clock))
        self._steps = Steps(
            self._books,
            self._keys,
            keep_days=keep_days,
            remember=int(remember * 1000),
            max_turns=max_turns,
            clock=clock,
        )
        self._crossings = Crossings(self._server, self._keys, self._books)
        self._max_turns = max_turns
        self._clock = clock

    def __repr__(self) -> str:
        return f"RedisLedger({self._server.shown!r})"

    # ------------------------------------------------ operations

    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        wish, admission = reservation, Admission(reservation)
        new_zones = await self._books.agree(wish.limits)
        for part in self._keys.parts_of_wish(wish):
            end_key = self._keys.of_end(part.homes[0], wish.id)
            args = (
                *(wish.id, admission.output, wish.min_output, wish.lease),
                *(wish.input_tokens, wish.money.fixed, wish.money.per_output, int(part.keeps)),
            )
            answer = await self._steps.run_limits("reserve", part, (end_key,), args, wish.limits)
            if answer[0] == REFUSED:  # not for a hold that has ended: its admission counts
                await self._undo(wish, admission)
            if answer[0] != ADMITTED:
                return refusal(part, answer)
            admission.add(part, answer)
        try:
            await self._books.keep_zones(new_zones)
        except ZoneConflict:
            await self._undo(wish, admission)
            raise
        for part, granted in admission.done:
            if granted > admission.output:
                await self._steps.renew(
                    part, wish.id, wish.lease, admission.output, wish.money.per_output
                )
        return admission.answer()

    async def renew(self, hold: Hold, lease: int) -> None:
        for part in self._keys.parts_of_lines(hold.lines, hold.id):
            await self._steps.renew(part, hold.id, lease)

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        settlements = []
        for part in self._keys.parts_of_lines(hold.lines, hold.id, charge.principal):
            tokens, first, _, money, *crossed = await self._steps.settle(
                part, hold, charge, _record(part, charge)
            )
            if crossed:
                self._crossings.note(part.tag)
            settlements.append(Settlement(tokens=tokens, money=money, first=first == 1))
        # After a settlement that failed half-way, the repetition that does the last step is first.
        return settlements[-1]

    async def release(self, reservation: Reservation) -> None:
        for part in self._keys.parts_of_wish(reservation):
            await self._steps.release(part, reservation.id, undo=False)

    async def _undo(self, wish: Reservation, admission: Admission) -> None:
        for part, _ in admission.done:
            await self._steps.release(part, wish.id, undo=True)

    async def usage(self, limits: tuple[Limit, ...]) -> tuple[LimitState, ...]:
        states: list[tuple[int, LimitState]] = []
        await self._books.agree(limits)
        for part in self._keys.parts_of_limits(limits):
            _, now, *figures = await self._steps.run_limits("usage", part, (), (), limits)
            states.extend(states_of(part, figures, now))
        return in_order(states)

    async def next_crossing(self) -> Crossing | None:
        return await self._crossings.next()

    async def end_crossing(self, crossing: Crossing, state: str) -> None:
        await self._crossings.end(crossing, state)

    async def own_usage(self, principal: str, since: str) -> list[Used]:
        days = days_between(since, max(since, day_of(self.now(), "UTC")))
        answer = await self._books.run(
            "own", tag_of(principal), self._keys.of_own_usage(principal, days), ()
        )
        rows = rows_of(decode_hashes(answer[2]), since)
        return gathered([(r, use) for r, use in rows.items() if r.principal == principal], OWN)

    async def count_refusals(self, counts: Mapping[tuple[str, str], int]) -> None:
        key = self._keys.of_refusals(day_of(self.now(), "UTC"))
        args: list[str | int] = [len(counts)]
        for (hour, name), number in counts.items():
            args += [f"{hour} {name}", number]
        args.append(KEPT_MILLISECONDS)
        await self._books.run("refuse", self._keys.home, [key], args)

    async def keep_currency(self, currency: str) -> None:
        check_currency(await self._books.currency(currency), currency)

    def now(self) -> int:
        """The server's time, estimated from its last answer."""
        return self._steps.now()

    async def check(self) -> None:
        """Write a key. A replica, or a server without memory or disk space, refuses to."""
        await self._books.check()

    async def aclose(self) -> None:
        """Close the connections of the running event loop. A later operation opens new ones."""
        await self._server.aclose()

    # ------------------------------------------------ for operators, and for other parts

    async def facts(self) -> dict[str, str]:
        """The server's version, role, persistence, memory and cluster mode, from ``INFO``."""
        return await self._server.facts()

    async def policies(self) -> dict[str, str]:
        """The ``maxmemory-policy`` of each primary, by its name. Empty if the server is unavailable
        or does not report it.
        """
        return await self._server.policies()

    async def survey(self) -> RedisSurvey:
        """Examine the server. Reads only the usage of one account from the books."""
        from chatnest.ledger.redis.survey import look  # noqa: PLC0415  # seldom needed

        async def usage() -> None:
            if await self._books.peek() is not None:  # without a mark, it would begin books
                limit = Limit(name="streams", unit="streams", account="%survey", amount=1)
                await self.usage((limit,))

        return await look(
            self._server.link(),
            shown=self._server.shown,
            kind=self._server.kind,
            write=self._books.touch,
            script=usage,
            clock=wall_clock,
        )

    async def script(
        self, text: str, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> Any:
        """Run a script of another part, such as the run log, on the ledger's connections. Its keys
        must begin with ``prefix`` and share a hash tag. Raises LedgerUnavailable.
        """
        return await self._server.run_text(text, keys, args)

    def audit(self) -> "RedisAudit":
        """The same books, for an audit."""
        from chatnest.ledger.redis.audit import RedisAudit  # noqa: PLC0415  # seldom needed

        return RedisAudit(
            self._server,
            self._steps,
            self._books,
            self._keys,
            clock=self._clock,
            max_turns=self._max_turns,
        )


def _record(part: Part, charge: Charge) -> tuple[str, ...]:
    """A turn's record of its charge, as names and values in turn."""
    record = msgspec.structs.asdict(charge)
    del record["tokens"], record["money"]
    record["facts"] = msgspec.json.encode(charge.facts).decode()
    lines = [line.key for line in part.lines if line.serial < 0]
    record["lines"] = msgspec.json.encode(lines).decode()
    return tuple(map(str, chain.from_iterable(record.items())))
