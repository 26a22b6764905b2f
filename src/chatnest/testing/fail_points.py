"""FailPoints: a ledger wrapper that kills, fails, loses or hangs a call that a test chose."""

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
    """A `Ledger` that passes every call on to `ledger`, and fails at the points a test armed.

    A point is an operation of the ledger (reserve, renew, settle, release, usage, check) and a
    side: "settle.before" comes before the call, "settle.after" comes after it. Only a call that
    succeeded reaches "after". An action is one of

    - "kill": SIGKILL to this process; nothing runs after it (POSIX only);
    - "raise": raise LedgerUnavailable;
    - "lose": raise LedgerUnavailable although the call was carried out; only after a call;
    - "hang": wait until cancelled.

    `arm` is for this process. With `folder`, another process arms a point by a file in that
    folder: the file is named after the point and contains the action, as `plant` writes it. The
    process that removes the file fires, so exactly one of several workers fires, once. Points
    armed in the process come before files.

    No other part of chatnest refers to this wrapper, so production code has no fail points.
    Raises `ValueError` for an unknown point or action, for a file in `folder` at the start whose
    name is not a point (names with a leading dot are skipped), and for a file whose content is
    not an action, when its point is reached.
    """

    def __init__(self, ledger: Ledger, *, folder: str | os.PathLike[str] | None = None) -> None:
        self.ledger: Ledger = ledger
        """The wrapped ledger."""
        self.fired: list[tuple[str, str]] = []
        """(point, action) pairs that have fired in this process, in order."""
        self.reached: Counter[str] = Counter()
        """Number of times each point was reached, armed or not."""
        self._armed: dict[str, deque[_Armed]] = {point: deque() for point in _POINTS}
        self._folder = None if folder is None else Path(folder)
        self._changed = anyio.Event()
        for file in () if self._folder is None else self._folder.iterdir():
            if not file.name.startswith("."):
                _check(file.name, None)

    def __repr__(self) -> str:
        return f"FailPoints({self.ledger!r})"

    # Arming

    def arm(self, point: str, action: str, *, times: int | None = 1) -> None:
        """Make `point` fail with `action` the next `times` times; None means always.

        Several actions for one point are used up in order. Raises `ValueError` for an unknown
        point or action, for "lose" before a call, and for `times` below 1.
        """
        _check(point, action)
        if times is not None and times < 1:
            raise ValueError(f"times: expected None or an integer >= 1, got {times}")
        self._armed[point].append(_Armed(action, times))

    def disarm(self, point: str | None = None) -> None:
        """Remove the actions armed in this process at `point`, or at all points. Files stay."""
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
        """Arm `point` once, for the first process that reaches it. Return the file.

        Replaces a file that no process has claimed. Raises `ValueError` as `arm` does, and
        `OSError` if the folder cannot be written.
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

    # Firing

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
        """Return the action in the point's file if this process removed the file, else None."""
        if self._folder is None:
            return None
        file = self._folder / point
        try:
            action = file.read_text().strip()
            if not action:
                return None  # a shell has created the file, but not yet written the action
            file.unlink()
        except FileNotFoundError:
            return None
        _check(point, action)
        return action


def _check(point: str, action: str | None) -> None:
    if point not in _POINTS:
        raise ValueError(f"point: expected one of {', '.join(_POINTS)}, got {point!r}")
    if action is not None and action not in _ACTIONS:
        raise ValueError(f"action: expected one of {', '.join(_ACTIONS)}, got {action!r}")
    if action == "lose" and point.endswith(".before"):
        after = point.replace("before", "after")
        raise ValueError(
            f"point: expected one after a call for 'lose', got {point!r}. Arm {after!r}."
        )


def _kill() -> None:  # pragma: no cover  # the process dies here
    os.kill(os.getpid(), signal.SIGKILL)
    while True:  # the kernel may deliver the signal to another thread first
        time.sleep(1)
