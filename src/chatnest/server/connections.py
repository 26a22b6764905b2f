"""Connections: the connections of a worker that wait for their client, each with a deadline.

A connection that serves a request is not in a queue, because its answer has its own deadlines. When
descriptors run out, the connection that has waited longest is closed first, which admits a new one.
"""

import logging
import sys
from asyncio import AbstractEventLoop, TimerHandle
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import Final, Protocol, TypeAlias

__all__ = ["Connection", "Connections", "Queue", "backlog"]

_log = logging.getLogger("chatnest.cli")

_TICK_SECONDS: Final = 1.0
"""Maximum seconds between two checks of the deadlines."""

_LATE_SECONDS: Final = 1.0
"""Maximum seconds for the rest of a body that had already used up its time before its answer."""

_RESERVED: Final = 2
"""Divisor of the descriptor limit: that share is reserved for upstream connections and bursts."""

_LARGEST_RESERVE: Final = 2_730
"""Maximum reserved descriptors. Three quarters of them give a backlog of about 2,048."""

_HEAD_GRACE_SECONDS: Final = 1.0
"""Seconds before a head counts as late. Until then, an older incomplete body is closed first."""

_LOG_SECONDS: Final = 60.0
"""Minimum seconds between two log lines about descriptors."""


class Connection(Protocol):
    """A connection in the queues. ``queue`` is its current queue; only the table sets it."""

    queue: "Queue | None"

    def expire(self) -> None:
        """End the connection because its deadline has passed."""
        ...

    def abort(self) -> None:
        """Free the descriptor at once."""
        ...


Queue: TypeAlias = OrderedDict[Connection, float]
"""Connections in the order in which they started to wait, each with that time."""


class Connections:
    """The queues of a worker, by what its connections wait for. One timer checks all of them.

    ``heads``: the head of a request. ``bodies``: the body of a request that is being served.
    ``rests``: the rest of a body whose request was already answered. ``late``: the same, if the
    body had used up its time before the answer. ``idle``: the next request.
    """

    def __init__(
        self, loop: AbstractEventLoop, *, head_seconds: float, rest_seconds: float, idle: float
    ) -> None:
        self.heads: Queue = OrderedDict()
        self.bodies: Queue = OrderedDict()  # the application has their deadline
        self.rests: Queue = OrderedDict()
        self.late: Queue = OrderedDict()
        self.idle: Queue = OrderedDict()
        self._closing: Queue = OrderedDict()  # closed for their descriptors, but not yet freed
        self._late_after = rest_seconds / 2
        self._now = loop.time
        self._call_later: Callable[[float, Callable[[], None]], TimerHandle] = loop.call_later
        self._deadlines = (
            (self.heads, head_seconds),
            (self.rests, rest_seconds),
            (self.late, min(_LATE_SECONDS, rest_seconds)),
            (self.idle, idle),
        )
        self._tick = min(_TICK_SECONDS, head_seconds / 4, rest_seconds / 4, max(idle / 4, 0.05))
        self._armed = False
        self._limit = _most_descriptors()
        self._full = self._limit - _reserve(self._limit)
        self._closed = 0
        self._logged_at = -inf

    def move(self, connection: Connection, queue: Queue | None) -> None:
        """Move a connection to the end of another queue, or out of all queues."""
        if connection.queue is not None:
            connection.queue.pop(connection, None)
        connection.queue = queue
        if queue is not None:
            queue[connection] = self._now()
            if not self._armed and queue is not self.bodies and queue is not self._closing:
                self._armed = True
                self._call_later(self._tick, self._check)

    def move_to_rest(self, connection: Connection) -> None:
        """Move a connection whose request was answered before the end of its body.

        If the body had used up its time, as before a 408, the rest gets only `_LATE_SECONDS`.
        """
        since = self.bodies.get(connection, inf)
        is_late = self._now() - since >= self._late_after
        self.move(connection, self.late if is_late else self.rests)

    def _check(self) -> None:
        now = self._now()
        for queue, seconds in self._deadlines:
            while queue and now - next(iter(queue.values())) >= seconds:
                connection = next(iter(queue))
                self.move(connection, None)
                connection.expire()
        self._armed = any(queue for queue, _ in self._deadlines)
        if self._armed:
            self._call_later(self._tick, self._check)

    # ------------------------------------------------ descriptors

    def make_room(self, newcomer: Connection, descriptor: int) -> None:
        """Close the connections that waited longest if ``descriptor`` is in the reserve.

        A new descriptor is always the lowest free one, so at least as many are in use.
        """
        if descriptor < self._full:
            return
        while descriptor - len(self._closing) >= self._full:
            oldest = self._oldest(newcomer)
            if oldest is None:
                break
            self.move(oldest, self._closing)
            oldest.abort()
            self._closed += 1
        self._log_closed(descriptor)

    def _oldest(self, newcomer: Connection) -> Connection | None:
        """Return the connection that waited longest for a head. If all heads are recent, compare
        with the oldest incomplete body, too.
        """
        since, oldest = inf, None
        for queue, _ in self._deadlines:
            first = next(iter(queue), None)
            if first is not None and first is not newcomer and queue[first] < since:
                since, oldest = queue[first], first
        first = next(iter(self.bodies), None)
        if first is not None and self._now() - since < _HEAD_GRACE_SECONDS:
            return first if self.bodies[first] < since else oldest
        return oldest

    def _log_closed(self, descriptor: int) -> None:
        now = self._now()
        if now - self._logged_at < _LOG_SECONDS:
            return
        _log.warning(
            "open files: descriptors=%d limit=%d closed=%d. Connections without a complete request "
            "are closed, the oldest first. Raise the limit (ulimit -n, LimitNOFILE=) if these are "
            "not an attack.",
            descriptor + 1,
            self._limit,
            self._closed,
        )
        self._logged_at, self._closed = now, 0


def backlog() -> int:
    """Return the maximum number of connections that wait to be accepted.

    The event loop accepts all of them before it can close one, so they must fit into the reserve.
    """
    return max(1, int(_reserve(_most_descriptors()) * 3 // 4))


def _reserve(limit: float) -> float:
    return min(limit // _RESERVED, _LARGEST_RESERVE) if limit < inf else _LARGEST_RESERVE


def _most_descriptors() -> float:
    if sys.platform == "win32":
        return inf
    import resource  # noqa: PLC0415  # not on every system

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if soft == resource.RLIM_INFINITY else soft
