"""RedisLedger: books in Redis or Valkey, for any number of machines.

**Keys.** All begin with the prefix and the account as hash tag, as in ``chatnest:{ann}:``, and all
end by themselves.

============== ============= =================================================== ================
``counters``   hash          ``NAME:DAY`` to ``settled held overrun expired``    end of the last
                             and ``adjusted``, where that is not 0               day + keep_days
``holds``      hash          hold to ``STATE TOKENS ADMITTED_AT LINES``, for     lease + keep_days
                             those that live, and that have expired
``due``        sorted set    hold by the end of its lease                        lease + keep_days
``window:N:W`` sorted set    hold by its time of admission                       the window
``end:HOLD``   string        how a hold ended, and its charge, with the first    remember
                             account of the hold
``turns:DAY``  stream        records, at most ``max_turns`` of a day (UTC): of   keep_days + 1
                             each settlement, with the first account of the
                             hold; of each expiry, and its release, with every
                             account that it charged; of each adjustment. No
                             content.
``adjust:ID``  string        an adjustment                                       keep_days + 35
============== ============= =================================================== ================

**Steps.** Each operation is one script, one round trip, and atomic: it touches declared keys alone,
ends no loop later than a fixed number of steps, and reads the server's clock. The rules are those
of ``chatnest.ledger.model``, with one difference that only a clock which is set back can show: an
expired lease is charged when its account is touched next, not when anything is. An operation
charges up to 64 of them for an account; others stay held until the next, which counts the same.

**Clusters.** What shares a slot is one step. A hold over several slots (a principal's and a
tenant's) takes a step for each, in the order of the slots:

- No account is ever overspent: each step is atomic, and admits by its own account's figures.
- A refusal by a later step undoes the earlier ones, windows too. In between, these hold something
  for a request that is not admitted, so that another may be refused without need, never admitted.
- Where a later step grants less, the earlier ones are lowered to it afterwards.
- Should the worker or the server fail in between, what was held is released by the caller, or
  charged when its lease ends, as any hold is.
- Settlements and releases are done for each slot once. One that failed half way raises
  LedgerUnavailable, and does the rest when it is repeated.

**Failovers.** Redis replicates after it answers. A failover may lose the last moments, and with
them holds and settlements; a settlement whose hold was lost is charged all the same.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec
from anyio.lowlevel import RunVar

from chatnest.errors import ConfigurationError, LedgerUnavailable, ZoneConflict
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
from chatnest.ledger.days import day_of
from chatnest.ledger.redis.answers import (
    ADMITTED,
    DAYS,
    REFUSED,
    Admission,
    in_order,
    refusal,
    states_of,
)
from chatnest.ledger.redis.books import Books
from chatnest.ledger.redis.keys import Days, Keys, Part, field_of, fields_of, tag_of
from chatnest.stores.survey import RedisSurvey

if TYPE_CHECKING:
    from chatnest.ledger.redis.audit import RedisAudit
    from chatnest.stores.redis import Link, Script

__all__ = ["RedisLedger"]

_NOW: Final = {"settle": 2}
"""Where an answer has the server's time."""

_SCRIPTS: Final = {
    "reserve": ("mark", "common", "limits", "reserve"),
    "usage": ("mark", "common", "limits", "usage"),
    "settle": ("mark", "common", "settle"),
    "release": ("mark", "common", "release"),
    "renew": ("mark", "common", "renew"),
    "adjust": ("mark", "common", "adjust"),
    "check": ("mark", "check"),
    "zone": ("mark", "zone"),
    "enrol": ("mark", "enrol"),
    "learn": ("learn",),
    "remark": ("remark",),
    "put": ("put",),
    "look": ("look",),
    "page": ("page",),
}
_FACTS: Final = (
    "server_name",
    "redis_version",
    "valkey_version",
    "role",
    "aof_enabled",
    "maxmemory",
    "maxmemory_policy",
    "cluster_enabled",
    "connected_slaves",
    "aof_last_write_status",
)


class RedisLedger:
    """Limits that hold for all machines that use one Redis (6 or newer) or Valkey server.

    ``url`` is ``redis://user:password@host:6379/0``, ``rediss://`` for TLS, ``unix://path``,
    ``redis+sentinel://host:26379,host:26379/service`` or ``redis+cluster://host:6379,host:6379``;
    what follows a ``?`` are options of redis-py.

    ``timeout`` is in seconds, each for the wait for one of ``max_connections`` and for the exchange
    with the server; after one that failed, the next fail at once, until the server answers again.
    ``keep_days`` is for how long after its end a day is kept, and an expired hold known; no lease
    may be longer. ``remember``, in seconds, is for how long any other ended hold is known, so
    that a repetition does nothing. ``clock`` is for tests: milliseconds since the epoch instead of
    the server's time.

    On asyncio only, since redis-py is; each event loop has connections of its own.
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
        try:
            from chatnest.stores import redis as client  # noqa: PLC0415  # an extra
        except ImportError as exc:
            raise ConfigurationError(
                "RedisLedger needs the package redis. Install chatnest with it: pip install "
                "'.[redis]' in a copy of its repository."
            ) from exc
        if min(timeout, keep_days, remember, max_connections, max_turns) <= 0:
            raise ConfigurationError("RedisLedger's settings are all greater than 0.")
        address = client.Address(url, timeout=timeout, max_connections=max_connections)
        self._shown, self._kind = address.shown, address.kind
        self._new_link: Callable[[], Link] = partial(client.Link, address)
        self._links: RunVar[Link | None] = RunVar("chatnest_redis_link", None)
        self._scripts = {name: client.Script(_text(name)) for name in _SCRIPTS}
        self.prefix: str = prefix
        self._texts: dict[str, Script] = {}
        self._make_script = client.Script
        self._keys = Keys(prefix, client.slot_of if address.is_cluster else None)
        self._days = Days(keep_days)
        self._books = Books(self._link, self._scripts, self._keys, shown=self._shown, clock=clock)
        self._keep = keep_days * 86_400_000
        self._remember = int(remember * 1000)
        self._max_turns = max_turns
        self._clock = clock
        self._ahead = 0

    def __repr__(self) -> str:
        return f"RedisLedger({self._shown!r})"

    # ------------------------------------------------ operations

    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        wish, admission = reservation, Admission(reservation)
        new_zones = await self._books.agree(wish.limits)
        for part in self._keys.parts_of_wish(wish):
            end_key = self._keys.of_end(part.homes[0], wish.id)
            args = wish.id, admission.tokens, wish.min_tokens, wish.lease
            answer = await self._run_limits("reserve", part, (end_key,), args)
            if answer[0] == REFUSED:  # a hold that has ended was admitted once, and that counts
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
            if granted > admission.tokens:
                await self._renew(part, wish.id, wish.lease, admission.tokens)
        return admission.answer()

    async def renew(self, hold: Hold, lease: int) -> None:
        for part in self._keys.parts_of_lines(hold.lines, hold.id):
            await self._renew(part, hold.id, lease)

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        settlements = []
        for part in self._keys.parts_of_lines(hold.lines, hold.id):
            tokens, first, _ = await self._run(
                "settle",
                part,
                (
                    hold.id,
                    charge.tokens,
                    hold.tokens,
                    self._remember,
                    *(fields_of(part.lines, tag) for tag in part.homes),
                    *_record(part, charge),
                ),
                (self._keys.of_end(part.homes[0], hold.id),),
            )
            settlements.append(Settlement(tokens=tokens, first=first == 1))
        # One that had failed half way is done by whoever did its last step.
        return settlements[-1]

    async def release(self, reservation: Reservation) -> None:
        for part in self._keys.parts_of_wish(reservation):
            await self._release(part, reservation.id, undo=False)

    async def usage(self, limits: tuple[Limit, ...]) -> tuple[LimitState, ...]:
        states: list[tuple[int, LimitState]] = []
        await self._books.agree(limits)
        for part in self._keys.parts_of_limits(limits):
            _, now, *figures = await self._run_limits("usage", part, (), ())
            states.extend(states_of(part, figures, now))
        return in_order(states)

    def now(self) -> int:
        """The server's time, as its last answer told."""
        return wall_clock() + self._ahead if self._clock is None else self._clock()

    async def check(self) -> None:
        """Write something: a replica, or a server without memory or disk, refuses that."""
        await self._books.check()

    async def facts(self) -> dict[str, str]:
        """What the server says about itself, as far as it matters here: its version, its role,
        whether it appends to a file, what it does when its memory is full, whether it is a cluster.
        """
        info = await self._link().info()
        return {name: str(info[name]) for name in _FACTS if name in info}

    async def policies(self) -> dict[str, str]:
        """What each primary does when its memory is full (`maxmemory-policy`), by its name. Empty
        where the server does not tell, or is away.
        """
        try:
            answers = await self._link().ask("INFO", "memory")
        except LedgerUnavailable:
            return {}
        return {
            name: str(info["maxmemory_policy"])
            for name, info in answers.items()
            if "maxmemory_policy" in info
        }

    async def survey(self) -> RedisSurvey:
        """What there is to say about the server. Of the books, it only looks up an account."""
        from chatnest.ledger.redis.survey import look  # noqa: PLC0415  # seldom needed

        async def usage() -> None:
            if await self._books.peek() is not None:  # it would begin books
                limit = Limit(name="streams", kind="concurrency", account="%survey", limit=1)
                await self.usage((limit,))

        return await look(
            self._link(),
            shown=self._shown,
            kind=self._kind,
            write=self._books.touch,
            script=usage,
            clock=wall_clock,
        )

    async def script(
        self, text: str, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> Any:
        """Run a script of another part's on the server, by the ledger's connections. Its keys begin
        with ``prefix``, and share a hash tag. Raises LedgerUnavailable.
        """
        if text not in self._texts:
            self._texts[text] = self._make_script(text)
        return await self._link().run(self._texts[text], keys, args)

    def audit(self) -> "RedisAudit":
        """The same books, for those who look after them."""
        from chatnest.ledger.redis.audit import RedisAudit  # noqa: PLC0415  # seldom needed

        return RedisAudit(
            self._link,
            self._run,
            self._books,
            self._scripts,
            self._keys,
            clock=self._clock,
            keep=self._keep,
            max_turns=self._max_turns,
        )

    async def aclose(self) -> None:
        """Let go of this event loop's connections. A later operation makes new ones."""
        link = self._links.get()
        if link is not None:
            self._links.set(None)
            await link.aclose()

    # ------------------------------------------------ their parts

    async def _undo(self, wish: Reservation, admission: Admission) -> None:
        for part, _ in admission.done:
            await self._release(part, wish.id, undo=True)

    async def _release(self, part: Part, hold_id: str, *, undo: bool) -> None:
        windows = [self._keys.of_window(limit) for _, limit in part.limits if limit.kind == "rate"]
        await self._run(
            "release",
            part,
            (hold_id, self._remember, int(undo)),
            (self._keys.of_end(part.homes[0], hold_id), *(windows if undo else ())),
        )

    async def _renew(self, part: Part, hold_id: str, lease: int, most: int = -1) -> None:
        await self._run("renew", part, (hold_id, lease, most))

    async def _run_limits(
        self, name: str, part: Part, more_keys: tuple[str, ...], args: tuple[str | int, ...]
    ) -> list[int]:
        """Run a script that looks at limits. Should it be another day on the server than was
        thought here, the answer says what time it is, and the second attempt knows.
        """
        windows = list(
            dict.fromkeys(
                self._keys.of_window(limit) for _, limit in part.limits if limit.kind == "rate"
            )
        )
        before = 1 + 4 * len(part.homes) + len(more_keys)
        places = {key: before + place for place, key in enumerate(windows, 1)}
        for _ in range(2):
            now = self.now()
            words = chain.from_iterable(
                self._arguments(each, part, places, now) for each in part.limits
            )
            answer: list[int] = await self._run(
                name,
                part,
                (len(part.limits), *words, *args),
                (*more_keys, *windows),
                now,
                limits=[limit for _, limit in part.limits],
            )
            if answer[0] != DAYS:
                break
        else:
            raise LedgerUnavailable  # a clock that jumps about
        return answer

    def _arguments(
        self, placed: tuple[int, Limit], part: Part, places: dict[str, int], now: int
    ) -> tuple[str | int, ...]:
        _, limit = placed
        if limit.kind == "rate":
            window = places[self._keys.of_window(limit)]
            return limit.kind, limit.limit, limit.window * 1000, window
        home = part.homes.index(tag_of(limit.account)) + 1
        if limit.kind == "concurrency":
            return limit.kind, limit.limit, home, field_of(limit.name, "")
        start, middle, stop, first, second, oldest = self._days.around(limit.timezone, now)
        fields = field_of(limit.name, first), field_of(limit.name, second)
        return limit.kind, limit.limit, home, start, middle, stop, *fields, oldest

    async def _run(
        self,
        name: str,
        part: Part,
        args: tuple[str | int, ...],
        more_keys: tuple[str, ...] = (),
        now: int | None = None,
        *,
        limits: Sequence[Limit] = (),
    ) -> Any:
        now = self.now() if now is None else now
        today = day_of(now, "UTC")
        keys = list(chain.from_iterable(self._keys.of_account(tag, today) for tag in part.homes))
        common = (self._keep, self._max_turns, len(part.homes))
        place = _NOW.get(name, 1)
        answer = await self._books.run(
            name, part.tag, [*keys, *more_keys], [*common, *args], time_at=place, limits=limits
        )
        self._ahead = answer[place] - wall_clock()
        return answer

    def _link(self) -> "Link":
        link = self._links.get()
        if link is None:
            link = self._new_link()
            self._links.set(link)
        return link


def _record(part: Part, charge: Charge) -> tuple[str | int, ...]:
    """What a turn's record says of its charge, as names and values."""
    record = msgspec.structs.asdict(charge)
    del record["tokens"]
    record["lines"] = msgspec.json.encode([line.key for line in part.lines]).decode()
    return tuple(chain.from_iterable(record.items()))


def _text(name: str) -> str:
    folder = files("chatnest.ledger.redis") / "scripts"
    return "\n".join(folder.joinpath(f"{part}.lua").read_text() for part in _SCRIPTS[name])
