"""FailPoints: a ledger around another one that dies, fails, forgets or hangs where a test says."""

import os
import signal
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import (
    Admitted,
    Charge,
    Hold,
    Ledger,
    Limit,
    LimitState,
    Refused,
    Reservation,
    Settlement,
)

__all__ = ["FailPoints"]

_OPERATIONS: Final = ("reserve", "renew", "settle", "release", "usage", "check")
_POINTS: Final = tuple(f"{name}.{when}" for name in _OPERATIONS for when in ("before", "after"))
_ACTIONS: Final = ("kill", "raise", "lose", "hang")


@dataclass(slots=True)
class _Armed:
    action: str
    times: int | None


class FailPoints:
    """A `Ledger` that passes every call on to `ledger`, and fails on purpose where it is armed.

    A point is an operation of the ledger (reserve, renew, settle, release, usage, check) and
    whether it was already carried out: "settle.before", "settle.after". The one after is reached
    only by a call that succeeded. An action is one of

    - "kill": SIGKILL to the own process; nothing runs after it (POSIX only);
    - "raise": LedgerUnavailable;
    - "lose": LedgerUnavailable, the call having been carried out; only after a call;
    - "hang": wait until cancelled.

    `arm` is for the own process. With `folder`, another process arms by a file there, named after
    the point and containing the action, as `plant` writes it: whoever removes the file fires, so
    that one of several workers does, once. What was armed in the process comes first.

    Nothing in chatnest knows of it: without this wrapper there is no point at which to fail.
    Raises `ValueError` for a name that is no point or action, also of a file in `folder` at the
    start (those with a leading dot are skipped), and of a file's content when its point is reached.
    """

    def __init__(self, ledger: Ledger, *, folder: str | os.PathLike[str] | None = None) -> None:
        self.ledger: Ledger = ledger
        """The one that keeps the accounts."""
        self.fired: list[tuple[str, str]] = []
        """Points and actions that have fired in this process, in order."""
        self.reached: Counter[str] = Counter()
        """How often each point was reached, armed or not."""
        self._armed: dict[str, deque[_Armed]] = {point: deque() for point in _POINTS}
        self._folder = None if folder is None else Path(folder)
        self._changed = anyio.Event()
        for file in () if self._folder is None else self._folder.iterdir():
            if not file.name.startswith("."):
                _check(file.name, None)

    def __repr__(self) -> str:
        return f"FailPoints({self.ledger!r})"

    # What the test does

    def arm(self, point: str, action: str, *, times: int | None = 1) -> None:
        """Let `point` fail by `action` the next `times` times, None for always.

        Several for one point are used up one after the other. Raises `ValueError` for an unknown
        point or action, for "lose" before a call, and for `times` below 1.
        """
        _check(point, action)
        if times is not None and times < 1:
            raise ValueError(f"a point is armed for one time or more, not for {times}")
        self._armed[point].append(_Armed(action, times))

    def disarm(self, point: str | None = None) -> None:
        """Forget what is armed in this process at `point`, or everywhere. Files stay."""
        if point is not None:
            _check(point, None)
        for each in _POINTS if point is None else (point,):
            self._armed[each].clear()

    async def until_fired(self, point: str, times: int = 1, *, within: float = 20.0) -> None:
        """Wait until `point` has fired `times` times in this process.

        Raises `ValueError` for an unknown point, `TimeoutError` after `within` seconds.
        """
        _check(point, None)
        with anyio.move_on_after(within) as scope:
            while [name for name, _ in self.fired].count(point) < times:
                await self._changed.wait()
        if scope.cancelled_caught:
            raise TimeoutError(f"{point} has not fired {times} times in {within} s: {self.fired}")

    @staticmethod
    def plant(folder: str | os.PathLike[str], point: str, action: str) -> Path:
        """Arm `point` once for whichever process gets there first; gives the file.

        Replaces a file that nobody has claimed. Raises `ValueError` as `arm` does, and `OSError`
        where the folder cannot be written.
        """
        _check(point, action)
        file = Path(folder, point)
        new = file.with_name(f".{point}.{os.getpid()}.{time.monotonic_ns()}")
        new.write_text(action)
        return new.replace(file)

    # The ledger

    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        await self._point("reserve.before")
        answer = await self.ledger.reserve(reservation)
        await self._point("reserve.after")
        return answer

    async def renew(self, hold: Hold, lease: int) -> None:
        await self._point("renew.before")
        await self.ledger.renew(hold, lease)
        await self._point("renew.after")

    async def settle(self, hold: Hold, charge: Charge) -> Settlement:
        await self._point("settle.before")
        settlement = await self.ledger.settle(hold, charge)
        await self._point("settle.after")
        return settlement

    async def release(self, reservation: Reservation) -> None:
        await self._point("release.before")
        await self.ledger.release(reservation)
        await self._point("release.after")

    def now(self) -> int:
        return self.ledger.now()

    async def usage(self, limits: tuple[Limit, ...]) -> tuple[LimitState, ...]:
        await self._point("usage.before")
        states = await self.ledger.usage(limits)
        await self._point("usage.after")
        return states

    async def check(self) -> None:
        await self._point("check.before")
        await self.ledger.check()
        await self._point("check.after")

    async def aclose(self) -> None:
        await self.ledger.aclose()

    # Their parts

    async def _point(self, point: str) -> None:
        self.reached[point] += 1
        action = self._take(point) or self._claim(point)
        if action is None:
            return
        self.fired.append((point, action))
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        if action == "kill":
            _kill()
        if action == "hang":
            await anyio.sleep_forever()
        raise LedgerUnavailable

    def _take(self, point: str) -> str | None:
        armed = self._armed[point]
        if not armed:
            return None
        first = armed[0]
        if first.times is not None:
            first.times -= 1
            if first.times == 0:
                armed.popleft()
        return first.action

    def _claim(self, point: str) -> str | None:
        """The action in the point's file, for the one process that could remove the file."""
        if self._folder is None:
            return None
        file = self._folder / point
        try:
            action = file.read_text().strip()
            if not action:
                return None  # a shell has opened it, and not yet written
            file.unlink()
        except FileNotFoundError:
            return None
        _check(point, action)
        return action


def _check(point: str, action: str | None) -> None:
    if point not in _POINTS:
        raise ValueError(f"{point!r} is no fail point; there are {', '.join(_POINTS)}")
    if action is not None and action not in _ACTIONS:
        raise ValueError(f"{action!r} is no action; there are {', '.join(_ACTIONS)}")
    if action == "lose" and point.endswith(".before"):
        after = point.replace("before", "after")
        raise ValueError(f"an answer is lost after a call: arm {after!r}, not {point!r}")


def _kill() -> None:  # pragma: no cover  # nothing lives to tell
    os.kill(os.getpid(), signal.SIGKILL)
    while True:  # another thread may be the one that is told
        time.sleep(1)
