"""SharedCells: numbers of all workers in memory that they share, with a row for each of them.

A worker owns its row as long as it runs: it holds a lock on one byte of the memory's file, which
the kernel takes back when the process ends, also after SIGKILL. The next worker goes on counting in
the row of one that has ended, so that no counter goes back, and no file is left.
"""

import contextlib
import fcntl
import mmap
import multiprocessing.reduction
import os
import tempfile
from collections.abc import MutableSequence
from typing import Any, Final

from chatnest.telemetry.metrics import LocalCells, Row
from chatnest.telemetry.series import Layout

__all__ = ["SharedCells"]

_SPARE: Final = 16
"""Rows beyond twice the workers, for more of them by SIGTTIN."""
_BYTES: Final = 8
"""Bytes of a number. A write of one is atomic, as it is aligned."""


class SharedCells:
    """The numbers of ``workers`` processes, by a layout. Pickled for a new process, it becomes the
    same memory there.
    """

    def __init__(self, layout: Layout, *, workers: int) -> None:
        self._size, self._streams, self._lost = layout.size, layout.streams, layout.lost
        self._gauges = layout.gauges
        self._count = 2 * workers + _SPARE
        self._file = _anonymous_file()
        os.ftruncate(self._file, self._count * self._size * _BYTES)
        self._open()

    def _open(self) -> None:
        # A descriptor of this file is never closed: that would drop the locks of the process.
        self._map = mmap.mmap(self._file, self._count * self._size * _BYTES)
        numbers = memoryview(self._map).cast("d")
        self._rows: list[Any] = [
            numbers[row * self._size : (row + 1) * self._size] for row in range(self._count)
        ]
        self._mine: MutableSequence[float] | None = None

    def __getstate__(self) -> Any:
        file = multiprocessing.reduction.DupFd(self._file)
        return file, self._size, self._streams, self._lost, self._gauges, self._count

    def __setstate__(self, state: Any) -> None:
        file, self._size, self._streams, self._lost, self._gauges, self._count = state
        self._file = file.detach()
        self._open()

    @property
    def mine(self) -> MutableSequence[float]:
        """See Cells. The first use takes a row."""
        if self._mine is None:
            self._mine = self._take()
        return self._mine

    def rows(self) -> list[Row]:
        """See Cells. For the parent, which has no row of its own."""
        found = (
            Row(row.tolist(), is_live=not self._is_free(number))
            for number, row in enumerate(self._rows)
        )
        return [row for row in found if row.is_live or any(row.values)]

    def _take(self) -> MutableSequence[float]:
        for number, row in enumerate(self._rows):
            with contextlib.suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
                row[self._lost] += row[self._streams]
                for place in self._gauges:
                    row[place] = 0.0
                mine: MutableSequence[float] = row
                return mine
        return LocalCells(self._size).mine  # cannot happen: there are more rows than workers

    def _is_free(self, number: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError:
            return False
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)
        return True


def _anonymous_file() -> int:
    """A file without a name, which is gone with the last process that has it open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("chatnest-metrics")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
