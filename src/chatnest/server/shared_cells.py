"""SharedCells: the numbers of all workers in shared memory, with a row for each worker.

A worker owns its row as long as it runs: it holds a lock on one byte of the memory's file. The
kernel releases that lock when the process ends, even after SIGKILL. The next worker continues the
counts of that row, so no counter ever decreases. No file is left behind.
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
"""Rows in addition to two per worker, for workers that SIGTTIN adds."""
_BYTES: Final = 8
"""Bytes of a number. Writing one is atomic, since it is aligned."""


class SharedCells:
    """The numbers of ``workers`` processes, in the places of a layout. It can be pickled for a new
    process, which then shares the same memory.
    """

    def __init__(self, layout: Layout, *, workers: int) -> None:
        self._size, self._streams, self._lost = layout.size, layout.streams, layout.lost
        self._gauges = layout.gauges
        self._count = 2 * workers + _SPARE
        self._file = _anonymous_file()
        os.ftruncate(self._file, self._count * self._size * _BYTES)
        self._open()

    def _open(self) -> None:
        # Never close a descriptor of this file: that would release all locks of the process.
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
        """See Cells. The first access takes a row."""
        if self._mine is None:
            self._mine = self._take()
        return self._mine

    def rows(self) -> list[Row]:
        """See Cells. Only for the parent: in a worker, this would release the lock of its row."""
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
    """A file without a name. It is deleted when the last process closes it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("chatnest-metrics")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
