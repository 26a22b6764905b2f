"""Crossings: the watched windows of books in memory, and the thresholds crossed in them. No I/O."""

from collections import OrderedDict

import msgspec

from chatnest.ledger.watch import Crossing, Watch, WatchRow, retry_at

__all__ = ["Crossings"]


class Crossings:
    """At most ``most`` windows and ``most`` crossings; the oldest are dropped. Not thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: OrderedDict[tuple[str, str, str], WatchRow] = OrderedDict()
        self._crossings: OrderedDict[tuple[str, str, str, int], Crossing] = OrderedDict()
        self._due: dict[tuple[str, str, str, int], int] = {}  # only pending crossings

    def watched(self, name: str, account: str, period: str) -> WatchRow:
        key = name, account, period
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = WatchRow()
            if len(self._rows) > self._most:
                self._rows.popitem(last=False)
        return row

    def watches(self, name: str, account: str) -> list[Watch]:
        return [
            row.watch
            for key, row in self._rows.items()
            if key[:2] == (name, account) and row.watch is not None
        ]

    def cross(self, crossing: Crossing) -> None:
        self._crossings[crossing.key] = crossing
        self._due[crossing.key] = crossing.at
        if len(self._crossings) > self._most:
            dropped, _ = self._crossings.popitem(last=False)
            self._due.pop(dropped, None)

    # ------------------------------------------------ delivery

    def next(self, now: int) -> Crossing | None:
        """As Watched.next_crossing."""
        for key, due in self._due.items():
            if due <= now:
                crossing = self._crossings[key]
                self._due[key] = retry_at(crossing.at, now)
                return msgspec.structs.replace(crossing, is_new=due == crossing.at)
        return None

    def end(self, crossing: Crossing, state: str) -> None:
        """As Watched.end_crossing."""
        if self._due.pop(crossing.key, None) is not None:
            kept = self._crossings[crossing.key]
            self._crossings[crossing.key] = msgspec.structs.replace(kept, state=state)

    def all(self) -> list[Crossing]:
        """All crossings, oldest first."""
        return list(self._crossings.values())
