"""Connections: those of a worker that wait for their client, with a deadline for each of them.

A connection that serves a request is in no queue: its answer has deadlines of its own. When
descriptors run out, the connection that has waited longest is closed first, so that a new one gets
in.
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
"""Seconds between two looks at the deadlines, at most."""

_LATE_SECONDS: Final = 1.0
"""Seconds for the rest of a body that had its time before it was answered."""

_RESERVED: Final = 2
"""One of so many descriptors is kept for upstream connections and for what comes in one burst."""

_LARGEST_RESERVE: Final = 2_730
"""Descriptors; three quarters of them are a backlog of some 2,048."""

_HEAD_GRACE_SECONDS: Final = 1.0
"""Seconds in which a head is not late: an older body that is still coming goes before it."""

_SAY_SECONDS: Final = 60.0
"""Seconds between two lines of the log about descriptors."""


class Connection(Protocol):
    """What is kept in the queues. ``queue`` is the one that it is in, and for the table to set."""

    queue: "Queue | None"

    def expire(self) -> None:
        """End a connection whose deadline has passed."""
        ...

    def abort(self) -> None:
        """Free its descriptor at once."""
        ...


Queue: TypeAlias = OrderedDict[Connection, float]
"""Connections in the order in which they began to wait, each with that time."""


class Connections:
    """The queues of a worker: ``heads`` have a request's head to send, ``bodies`` the body of a
    request that is being served, ``rests`` the body of one that was answered already, ``late`` the
    same after a body that was waited for in vain, and ``idle`` ones nothing. One timer looks at all
    of them.
    """

    def __init__(
        self, loop: AbstractEventLoop, *, head_seconds: float, rest_seconds: float, idle: float
    ) -> None:
        self.heads: Queue = OrderedDict()
        self.bodies: Queue = OrderedDict()  # the application has a deadline for these
        self.rests: Queue = OrderedDict()
        self.late: Queue = OrderedDict()
        self.idle: Queue = OrderedDict()
        self._leaving: Queue = OrderedDict()  # closed for their descriptors, which they still have
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
        self._said = -inf

    def move(self, connection: Connection, queue: Queue | None) -> None:
        """From the queue that it is in to the end of another one, or to none."""
        if connection.queue is not None:
            connection.queue.pop(connection, None)
        connection.queue = queue
        if queue is not None:
            queue[connection] = self._now()
            if not self._armed and queue is not self.bodies and queue is not self._leaving:
                self._armed = True
                self._call_later(self._tick, self._look)

    def move_to_rest(self, connection: Connection) -> None:
        """Its request was answered before its body was there. If that was waited for, as for one
        that gets a 408, it has had its time.
        """
        since = self.bodies.get(connection, inf)
        is_late = self._now() - since >= self._late_after
        self.move(connection, self.late if is_late else self.rests)

    def _look(self) -> None:
        now = self._now()
        for queue, seconds in self._deadlines:
            while queue and now - next(iter(queue.values())) >= seconds:
                connection = next(iter(queue))
                self.move(connection, None)
                connection.expire()
        self._armed = any(queue for queue, _ in self._deadlines)
        if self._armed:
            self._call_later(self._tick, self._look)

    # ------------------------------------------------ descriptors

    def make_room(self, newcomer: Connection, descriptor: int) -> None:
        """Close those that have waited longest if ``descriptor`` is from the reserve. A new
        descriptor is the lowest that is free, so that at least as many are in use.
        """
        if descriptor < self._full:
            return
        while descriptor - len(self._leaving) >= self._full:
            oldest = self._oldest(newcomer)
            if oldest is None:
                break
            self.move(oldest, self._leaving)
            oldest.abort()
            self._closed += 1
        self._say(descriptor)

    def _oldest(self, newcomer: Connection) -> Connection | None:
        """The one longest without a head, or if these are all new, without a whole request."""
        since, oldest = inf, None
        for queue, _ in self._deadlines:
            first = next(iter(queue), None)
            if first is not None and first is not newcomer and queue[first] < since:
                since, oldest = queue[first], first
        first = next(iter(self.bodies), None)
        if first is not None and self._now() - since < _HEAD_GRACE_SECONDS:
            return first if self.bodies[first] < since else oldest
        return oldest

    def _say(self, descriptor: int) -> None:
        now = self._now()
        if now - self._said < _SAY_SECONDS:
            return
        _log.warning(
            "open files: descriptors=%d limit=%d closed=%d. Connections without a complete request "
            "are closed, the oldest first. Raise the limit (ulimit -n, LimitNOFILE=) if these are "
            "not an attack.",
            descriptor + 1,
            self._limit,
            self._closed,
        )
        self._said, self._closed = now, 0


def backlog() -> int:
    """How many connections may wait to be accepted. The event loop accepts all of them before it
    can close one, so they must fit into the reserve: beyond the limit it would close them.
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
