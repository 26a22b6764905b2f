"""Marker: a small file beside the ledger that records which books the running processes have open.

Its name is ``.NAME-books``. Each process that uses the books holds a shared lock on it. While no
process holds one, the record is not binding.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from chatnest.stores.survey import Reason, StoreChanged

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows: processes cannot find each other
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

__all__ = ["BooksId", "Marker"]

_MOST_BYTES: Final = 1_000
"""Bytes of the record, padded, so that a new record always overwrites the old one."""

_POLL_SECONDS: Final = 0.005


class BooksId(msgspec.Struct, frozen=True):
    """The identity of the books: the file, its write-ahead log and the word in it. ``adopted_at``
    is in milliseconds.
    """

    word: str
    file: tuple[int, int]
    log: tuple[int, int] | None
    adopted_at: int = 0


class Marker:
    """The marker at ``path``, and this process's lock on it. For one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1

    # ------------------------------------------------ the record

    def read(self) -> BooksId | None:
        """The recorded books, or None without a readable record."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=BooksId)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, books: BooksId) -> None:
        """Record the books. All processes with these books write the same record."""
        with contextlib.suppress(OSError):  # a full disk: later processes cannot compare
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                text = msgspec.json.encode(books).ljust(_MOST_BYTES)
                os.pwrite(handle, text, 0)
            finally:
                os.close(handle)

    # ------------------------------------------------ the lock

    @property
    def is_locked(self) -> bool:
        """Whether this process holds a lock."""
        return self._lock >= 0

    def lock(self, patience: float) -> bool:
        """Take a lock. Returns whether no other process has one: then the lock is exclusive, and
        other processes wait for ``share``, for at most ``patience`` seconds each.

        Raises StoreChanged if another process keeps an exclusive lock for longer than that.
        """
        self.unlock()  # an earlier attempt may have failed
        if not _HAS_LOCKS:  # pragma: no cover
            return True
        try:
            self._lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # SQLite cannot create files there either, and reports why
            return True
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait_for_others(patience)
            return False
        return True

    def _wait_for_others(self, patience: float) -> None:
        """Wait for a shared lock: a process that has just started is about to write its record."""
        give_up = time.monotonic() + patience
        while time.monotonic() < give_up:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            time.sleep(_POLL_SECONDS)
        self.unlock()
        raise StoreChanged(
            Reason("another process is opening the ledger's file", "try again in a moment")
        )

    def share(self) -> None:
        """Turn an exclusive lock into a shared one."""
        if self.is_locked:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def unlock(self) -> None:
        """Release the lock, if there is one."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def is_used(self) -> bool:
        """Whether any process holds a lock."""
        if not _HAS_LOCKS:  # pragma: no cover
            return False
        try:
            handle = os.open(self._path, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False
