"""Intake: how many new chats a worker lets in, by how far behind its event loop is. No I/O.

The unit is a turn of the loop: everything that was ready, once. A request waits for a few of them,
so the length of a turn is what everybody feels, `/healthz` and refusals too. After a turn that took
longer than ``lag_seconds`` nobody is let in. The chats of one turn may bring a good part of that as
work, and the first chats after a calm turn more, so that a burst is taken on a slow machine, too.
Where turns stay long, or somebody was refused, there is a crowd: then a small part of it, so that
no queue stands.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic, thread_time
from typing import Final

from chatnest._util.loops import soon_here
from chatnest.errors import Overloaded

__all__ = ["Intake", "Soon"]

_BURST: Final = 1.0
"""The work that one turn lets in, as a share of ``lag_seconds``."""
_LEAST_BURST: Final = 256
"""Chats since the last calm turn that are a burst, however slow the machine is."""
_BURST_COST: Final = 0.008
"""Seconds of lag that each chat of a burst may cause, beside ``lag_seconds``. About ten times what
one takes on the machine where this was measured.
"""
_CROWD: Final = 0.04
"""The same while there is a crowd. Turns that have more work than this, for ``lag_seconds``, make
one.
"""
_WAITING: Final = 0.08
"""How long chats may wait for the model in a crowd, as a share of ``lag_seconds``: by the rate at
which others reach it (Little's law).
"""
_LEAST_WAITING: Final = 12
"""Chats that may wait for the model in a crowd, whatever that rate is."""
_RATE_SECONDS: Final = 0.1
"""For which that rate is counted, before it counts half."""
_CROWD_SECONDS: Final = 1.0
"""Seconds for which a crowd lasts after its last sign."""
_FIRST_COST: Final = 0.0005
"""Seconds of work that a chat counts for until some were seen."""
_SEEN: Final = 200
"""Chats by which the cost of one is known. Then those from before count half."""
_WAITING_SECONDS: Final = 1.0
"""Seconds of a generation of chats that wait for the model. Two generations are counted."""

Soon = Callable[[Callable[[int], None], int], object]
"""Call a function in the next turn of the event loop, with an argument."""


class Intake:
    """Whether one more chat may begin in this worker.

    While chats arrive, a callback stands in each turn of the event loop and measures it; while none
    does, nothing runs. ``open_streams`` says how many there are; beyond ``streams`` no chat begins.
    Work is CPU time of the loop's thread: a core that others use makes turns long, and not costs.
    """

    def __init__(
        self,
        lag_seconds: float,
        streams: int,
        open_streams: Callable[[], int],
        *,
        clock: Callable[[], float] = monotonic,
        work: Callable[[], float] = thread_time,
    ) -> None:
        self._bound = lag_seconds
        self._streams = streams
        self._open_streams = open_streams
        self._clock = clock
        self._work = work
        self._soon: Soon | None = None  # of the loop that is watched
        self._watch = 0  # the number of the callback that stands in the loop
        self._watching = False
        self._since = 0.0  # when this turn began
        self._worked = 0.0  # the CPU time by then
        self._taken = self._refused = 0  # in this turn
        self._burst = 0  # chats since the last calm turn
        self._coming = 0  # taken in this turn, without a place yet
        self._chats, self._spent = float(_SEEN // 10), _SEEN // 10 * _FIRST_COST
        self._waiting = self._waiting_before = 0  # of this generation, and of the last one
        self._generation, self._generation_since = 0, 0.0
        self._called, self._rate, self._rate_since = 0, 0.0, 0.0
        self._calm_at = 0.0  # when a turn was last short
        self._crowded_until = 0.0
        self.lag: float = 0.0
        """Seconds of the last turn that was measured."""
        self.refusing: float = 0.0
        """Seconds of work that whoever refuses has spent on it in this turn, and has said so."""

    @property
    def is_crowded(self) -> bool:
        """Whether a chat was refused lately."""
        return self._clock() < self._crowded_until

    def take(self, soon: Soon | None = None, *, whole: bool = False) -> bool:
        """Whether a chat may begin; it counts then. Outside of a task, ``soon`` is needed. One that
        is there as a ``whole`` waits for the model from here on.
        """
        now = self._clock()
        behind = now - self._since
        if not self._watching or (behind > self._bound and self._is_elsewhere(soon)):
            self._begin(now, soon)
            behind = 0.0
        if self._open_streams() < self._streams and self._fits(max(self.lag, behind), now):
            self._taken += 1
            self._burst += 1
            if whole:
                self._waiting += 1
            else:
                self._coming += 1
            return True
        self._refused += 1
        self._crowded_until = now + _CROWD_SECONDS
        return False

    def _is_elsewhere(self, soon: Soon | None) -> bool:
        """Whether another event loop is watched, which may have ended."""
        return self._soon != (soon or soon_here())

    def _fits(self, behind: float, now: float) -> bool:
        if now >= self._crowded_until:
            if self._burst < _LEAST_BURST:
                return behind <= self._bound + self._burst * _BURST_COST
            return behind <= self._bound and self._taken < self._most(_BURST)
        return behind <= self._bound and self._taken < self._most(_CROWD) and not self._is_queue()

    def _most(self, share: float) -> float:
        """Chats that bring this share of ``lag_seconds`` as work, with all that is done beside."""
        return max(1.0, share * self._bound * self._chats / self._spent)

    def place(self, *, counted: bool = False) -> Callable[[bool], None]:
        """For a chat that was taken and whose body is there, so that bodies which never come keep
        nobody out: to be called once, as soon as it calls the model (True), or ends before that. A
        place that is never given back is forgotten in seconds. One that was taken as a whole is
        ``counted`` already.
        """
        if not counted:
            self._coming = max(0, self._coming - 1)
            self._waiting += 1
        return partial(self._leave, self._generation)

    def _leave(self, generation: int, called: bool) -> None:  # given by position
        self._called += called
        if generation == self._generation:
            self._waiting = max(0, self._waiting - 1)
        elif generation == self._generation - 1:
            self._waiting_before = max(0, self._waiting_before - 1)

    def _is_queue(self) -> bool:
        most = max(_LEAST_WAITING, self._rate * _WAITING * self._bound)
        return self._coming + self._waiting + self._waiting_before >= most

    def check_room(self) -> None:
        """Raise Overloaded if there are as many streams as there may be."""
        if self._open_streams() >= self._streams:
            raise Overloaded

    # ------------------------------------------------ turns of the loop

    def _begin(self, now: float, soon: Soon | None) -> None:
        if not self._watching:
            self._burst = 0
        self._watching = True
        self._watch += 1
        self._since = now
        self._soon = soon or soon_here()
        self._taken = self._refused = 0
        self.lag = 0.0
        self._soon(self._first_turn, self._watch)

    def _first_turn(self, watch: int) -> None:
        """The rest of the turn in which it all began, which is no measure of a whole one."""
        if watch == self._watch and self._soon is not None:
            self._since, self._worked = self._clock(), self._work()
            self._calm_at = self._since
            self._soon(self._turn, watch)

    def _turn(self, watch: int) -> None:
        if watch != self._watch or self._soon is None:
            return
        now, worked = self._clock(), self._work()
        self.lag, spent = now - self._since, worked - self._worked
        if spent <= self._bound * _CROWD:
            self._calm_at = now
            self._burst = 0
        elif now - self._calm_at > self._bound and self._burst >= _LEAST_BURST:
            self._crowded_until = now + _CROWD_SECONDS
        self._count(now)
        self._spent += max(0.0, spent - self.refusing)
        self.refusing = 0.0
        self._chats += self._taken
        if self._chats > 2 * _SEEN:
            self._chats, self._spent = self._chats / 2, self._spent / 2
        self._since, self._worked = now, worked
        self._coming = 0
        if self._taken or self._refused or self.lag > self._bound:
            self._taken = self._refused = 0
            self._soon(self._turn, watch)
        else:
            self._watching, self._soon = False, None  # the loop need not live as long as this

    def _count(self, now: float) -> None:
        if now - self._rate_since >= _RATE_SECONDS:
            rate = self._called / (now - self._rate_since)
            self._rate = (self._rate + rate) / 2
            self._called, self._rate_since = 0, now
        if now - self._generation_since >= _WAITING_SECONDS:
            self._generation, self._generation_since = self._generation + 1, now
            self._waiting, self._waiting_before = 0, self._waiting
