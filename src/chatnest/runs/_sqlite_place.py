"""Place: the path of a SQLite file that may be deleted or replaced under the processes using it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["Place"]

_PRIVATE: Final = 0o600
_BESIDE: Final = ("-wal", "-shm")
_NOTE: Final = "-place"
"""A file that notes which file SQLite's others belong to."""


class Place:
    """Which file lies at ``path``, and how it is made there by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None

    def unchanged(self) -> bool:
        """Whether the file is still the one that ``making`` has opened."""
        return self._file is not None and self._look() == self._file

    @contextmanager
    def making(self) -> Iterator[None]:
        """Open the file within this block. It is there, for its owner alone, and no other process
        makes or clears it in the same moment.
        """
        with self._alone():
            noted = self._beside(_NOTE)
            if noted.exists() and noted.read_text() != f"{self._look()}":
                # Deleted or replaced. SQLite would read the WAL of the former file into this one.
                self._remove("", *_BESIDE)
            if not self._path.exists():
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE))
            for name in ("", *_BESIDE):  # those that SQLite makes later are like the file itself
                with suppress(FileNotFoundError, PermissionError):
                    self._beside(name).chmod(_PRIVATE)
            self._file = self._look()
            noted.write_text(f"{self._file}")
            noted.chmod(_PRIVATE)
            yield

    def clear(self) -> None:
        """Remove a file that is no database, unless another process has just replaced it."""
        with self._alone():
            if self.unchanged():
                self._remove("", *_BESIDE)

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _beside(self, name: str) -> Path:
        return self._path.with_name(self._path.name + name)

    def _remove(self, *names: str) -> None:
        for name in names:
            self._beside(name).unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold a lock of the folder's. Closing a descriptor of the file itself would let go of the
        locks that SQLite has in this process.
        """
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
