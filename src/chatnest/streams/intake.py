"""Intake: how many new chats a worker admits, by the lag of its event loop. No I/O.

A turn of the loop runs each callback that is ready, once. Every request waits for a few turns, also
`/healthz` and refusals, so the length of a turn is what all clients feel. After a turn longer than
``lag_seconds`` no chat is admitted. The chats that one turn admits may bring work for a large part
of ``lag_seconds``. The first chats after a calm turn may bring more, so that a slow machine also
admits a burst. If turns stay long, or a chat was refused, there is a crowd: a turn then admits work
for a small part of ``lag_seconds``, so that no queue builds up.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic, thread_time
from typing import Final

from chatnest._util.loops import soon_here
from chatnest.errors import Overloaded

__all__ = ["Intake", "Soon"]

_BURST: Final = 1.0
"""Maximum work that one turn admits, as a share of ``lag_seconds``."""
_LEAST_BURST: Final = 256
"""Chats since the last calm turn that count as a burst on any machine."""
_BURST_COST: Final = 0.008
"""Seconds of lag that each chat of a burst may cause, beside ``lag_seconds``: about ten times the
time that a chat took where this was measured.
"""
_CROWD: Final = 0.04
"""Maximum work that one turn admits in a crowd, as a share of ``lag_seconds``. Turns with more work
than this, for ``lag_seconds``, make a crowd.
"""
_WAITING: Final = 0.08
"""Maximum time that chats wait for the model in a crowd, as a share of ``lag_seconds``. It follows
from the rate at which chats reach the model (Little's law).
"""
_LEAST_WAITING: Final = 12
"""Chats that may wait for the model in a crowd at any rate."""
_RATE_SECONDS: Final = 0.1
"""Seconds for which that rate is counted. Older counts have half the weight."""
_CROWD_SECONDS: Final = 1.0
"""Seconds from the last sign of a crowd to its end."""
_FIRST_COST: Final = 0.0005
"""Assumed seconds of work of a chat, before any was measured."""
_SEEN: Final = 200
"""Chats from which the work of one is estimated. Older chats have half the weight."""
_WAITING_SECONDS: Final = 1.0
"""Seconds of a generation of chats that wait for the model. The latest two generations count."""

Soon = Callable[[Callable[[int], None], int], object]
"""Call a function in the next turn of the event loop, with an argument."""


class Intake:
    """Decides whether one more chat may begin in this worker.

    While chats arrive, a callback in each turn of the event loop measures the turn. Without chats,
    nothing runs. ``open_streams`` returns how many streams are open; at ``streams`` no chat begins.
    Work is CPU time of the loop's thread: a busy core makes turns longer, and chats no dearer.
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
        self._soon: Soon | None = None  # of the measured loop
        self._watch = 0  # the number of the callback that is valid
        self._watching = False
        self._since = 0.0  # when this turn began
        self._worked = 0.0  # the CPU time by then
        self._taken = self._refused = 0  # in this turn
        self._burst = 0  # chats since the last calm turn
        self._coming = 0  # taken in this turn, and without a place so far
        self._chats, self._spent = float(_SEEN // 10), _SEEN // 10 * _FIRST_COST
        self._waiting = self._waiting_before = 0  # in this generation and in the previous one
        self._generation, self._generation_since = 0, 0.0
        self._called, self._rate, self._rate_since = 0, 0.0, 0.0
        self._calm_at = 0.0  # when a turn was last short
        self._crowded_until = 0.0
        self.lag: float = 0.0
        """Length of the last measured turn, in seconds."""
        self.refusing: float = 0.0
        """Seconds of work that refusals took in this turn. The code that refuses adds them."""

    @property
    def is_crowded(self) -> bool:
        """Whether there is a crowd."""
        return self._clock() < self._crowded_until

    def take(self, soon: Soon | None = None, *, whole: bool = False) -> bool:
        """Whether a chat may begin. If so, it is counted. Outside of a task, ``soon`` is required.
        With ``whole``, the request has arrived completely, so the chat waits for the model now.
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
        """Whether the measured event loop is another one, which may have ended."""
        return self._soon != (soon or soon_here())

    def _fits(self, behind: float, now: float) -> bool:
        if now >= self._crowded_until:
            if self._burst < _LEAST_BURST:
                return behind <= self._bound + self._burst * _BURST_COST
            return behind <= self._bound and self._taken < self._most(_BURST)
        return behind <= self._bound and self._taken < self._most(_CROWD) and not self._is_queue()

    def _most(self, share: float) -> float:
        """Chats whose work, with everything else in their turns, takes this share of
        ``lag_seconds``.
        """
        return max(1.0, share * self._bound * self._chats / self._spent)

    def place(self, *, counted: bool = False) -> Callable[[bool], None]:
        """A place among the chats that wait for the model, for a chat that was taken and whose body
        has arrived. Bodies that never arrive thus keep no chat out.

        Returns a function to call once: with True when the chat calls the model, with False if it
        ends before that. A place that is never given back expires after a few seconds. A chat that
        was taken as a ``whole`` is ``counted`` already.
        """
        if not counted:
            self._coming = max(0, self._coming - 1)
            self._waiting += 1
        return partial(self._leave, self._generation)

    def _leave(self, generation: int, called: bool) -> None:  # called by position
        self._called += called
        if generation == self._generation:
            self._waiting = max(0, self._waiting - 1)
        elif generation == self._generation - 1:
            self._waiting_before = max(0, self._waiting_before - 1)

    def _is_queue(self) -> bool:
        most = max(_LEAST_WAITING, self._rate * _WAITING * self._bound)
        return self._coming + self._waiting + self._waiting_before >= most

    def check_room(self) -> None:
        """Raise Overloaded if the maximum number of streams is open."""
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
        """Begin to measure with the next turn, since the first one began before its first chat."""
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
            self._watching, self._soon = False, None  # the loop may be freed

    def _count(self, now: float) -> None:
        if now - self._rate_since >= _RATE_SECONDS:
            rate = self._called / (now - self._rate_since)
            self._rate = (self._rate + rate) / 2
            self._called, self._rate_since = 0, now
        if now - self._generation_since >= _WAITING_SECONDS:
            self._generation, self._generation_since = self._generation + 1, now
            self._waiting, self._waiting_before = 0, self._waiting
