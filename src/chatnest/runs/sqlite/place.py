"""Place: the path of a SQLite file that may be deleted or replaced while processes use it."""

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
"""The end of the name of a file that records which file the WAL belongs to."""


class Place:
    """Which file is at ``path``. Only one process at a time may create or replace it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None

    def unchanged(self) -> bool:
        """Whether the file is still the one that ``making`` opened."""
        return self._file is not None and self._look() == self._file

    @contextmanager
    def making(self) -> Iterator[None]:
        """Open the file within this block. The file exists, only its owner may read it, and no
        other process creates or clears it at the same time.
        """
        with self._alone():
            noted = self._beside(_NOTE)
            if noted.exists() and noted.read_text() != f"{self._look()}":
                # Deleted or replaced: SQLite would read the old file's WAL into this one.
                self._remove("", *_BESIDE)
            if not self._path.exists():
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE))
            for name in ("", *_BESIDE):  # SQLite gives the files that it creates the same mode
                with suppress(FileNotFoundError, PermissionError):
                    self._beside(name).chmod(_PRIVATE)
            self._file = self._look()
            noted.write_text(f"{self._file}")
            noted.chmod(_PRIVATE)
            yield

    def clear(self) -> None:
        """Remove a file that is not a database, unless another process has just replaced it."""
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
        """Hold a lock on the folder. A lock on the file would not do: closing its descriptor would
        release the locks that SQLite holds on it in this process.
        """
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
