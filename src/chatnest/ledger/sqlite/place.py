"""Place: which file at a path is the books, as all processes that use it agree.

A file can be deleted, or another one moved to its path, while processes have it open: they would
go on in a file that nobody else can see. So each of them compares what it has open with what is at
the path. A process that starts compares with what the others have open: that stands in a small
file beside the ledger, ``.NAME-books``, on which each of them holds a shared lock. While nobody
holds one, whatever is at the path is the books.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from chatnest.ledger.base import wall_clock
from chatnest.stores.survey import Reason, StoreChanged

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows: no process knows of another
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

__all__ = ["Books", "Overwritten", "Place"]

_MOST_BYTES: Final = 1_000
_POLL_SECONDS: Final = 0.005
_ADVICE: Final = (
    "put the right file back; or run `chatnest ledger adopt`, which makes what is at that path the "
    "books from then on"
)
_DELETED: Final = Reason("the ledger's file was deleted while servers used it", _ADVICE)
_REPLACED: Final = Reason("the ledger's file was replaced while servers used it", _ADVICE)
_LOG_GONE: Final = Reason(
    "the write-ahead log of the ledger's file was deleted or replaced while servers used it",
    _ADVICE,
)
_OLD_LOG: Final = Reason(
    "the ledger's file was replaced, and the write-ahead log beside it belongs to the one before",
    _ADVICE,
)
_OLDER: Final = Reason(
    "the ledger's file was overwritten with another ledger, or with an older copy", _ADVICE
)


class Overwritten(StoreChanged):
    """The file holds an older copy of this ledger."""


class Books(msgspec.Struct, frozen=True):
    """Which books these are: a file, its log and the word in it. ``adopted_at`` is in ms."""

    word: str
    file: tuple[int, int]
    log: tuple[int, int] | None
    adopted_at: int = 0


class Place:
    """A path, what is there, and what this process knows to be the books. For one thread."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # a host may change its directory  # noqa: PTH100
        folder, name = os.path.split(self._path)
        self.marker: Path = Path(folder, f".{name}-books")
        self._lock = -1
        self._books: Books | None = None
        self._log: tuple[int, int] | None = None  # of the connection
        self._seen = -1
        self._log_is_gone = False
        self._size = 0  # bytes of the file itself, when it was confirmed last
        self._confirmed = 0  # when what is open was at the path, last

    # ------------------------------------------------ opening

    def enter(self, patience: float) -> None:
        """Before the file is opened to write. Raises StoreChanged if it is not the books."""
        if self._books is not None:
            self._return()
            return
        alone = self._join(patience)
        noted, found = self.noted(), _identity(self._path)
        if noted is None:
            return
        if alone:
            if found not in {None, noted.file} and self.log() == noted.log is not None:
                raise StoreChanged(_OLD_LOG)
        elif found != noted.file:
            raise StoreChanged(_DELETED if found is None else _REPLACED)
        else:
            self._books = noted

    def look(self) -> None:
        """Before the file is opened to read. Raises StoreChanged if running servers, by their
        marker, have another one.
        """
        noted, found = self.noted(), _identity(self._path)
        if noted is not None and found != noted.file and self._is_used():
            raise StoreChanged(_DELETED if found is None else _REPLACED)

    def _return(self) -> None:
        """To the file that was open before, or to one that was adopted since."""
        assert self._books is not None  # noqa: S101  # entered before
        noted, found = self.noted(), _identity(self._path)
        if found == self._books.file and (noted is None or noted.word == self._books.word):
            if self._log_is_gone:
                raise StoreChanged(_LOG_GONE)
            return
        if noted is None or noted.adopted_at < self._confirmed or noted.file != found:
            raise StoreChanged(_DELETED if found is None else _REPLACED)
        self._books, self._seen, self._log_is_gone, self._size = noted, -1, False, 0

    def opened(self) -> None:
        """A new connection was made."""
        self._log = None

    # ------------------------------------------------ within a transaction

    def raised(self) -> None:
        """Note that this process has raised the generation: copies from before are older."""
        self._seen += 1

    def confirm(self, word: str, generation: int, logical_size: Callable[[], int]) -> None:
        """Compare what is open, which has these values in it, with what is at the path.
        ``logical_size`` gives the bytes of the file with what its log adds.

        Raises StoreChanged.
        """
        found, books = _identity(self._path), self._books
        if books is None:
            if found is None:
                raise StoreChanged(_DELETED)
            books = self._books = Books(word, found, None)
        if found != books.file:
            raise StoreChanged(_DELETED if found is None else _REPLACED)
        log = self.log()
        if self._log is None:
            self._log = log
        elif log != self._log:
            self._log_is_gone = True
            raise StoreChanged(_LOG_GONE)
        if word != books.word:  # another ledger, a file that was adopted, or one that is marked
            raise StoreChanged(_OLDER)
        if generation < self._seen:
            raise Overwritten(_OLDER)
        size = _size(self._path)
        if size < self._size <= logical_size():  # SQLite cuts off what is not in use any more
            raise StoreChanged(_OLDER)
        self._size = size
        self._seen, self._confirmed = generation, wall_clock()
        if books.log != log:
            self._books = msgspec.structs.replace(books, log=log)
            self.note(self._books)
            self._share()

    def log(self) -> tuple[int, int] | None:
        return _identity(os.path.realpath(self._path) + "-wal")

    # ------------------------------------------------ the marker

    def noted(self) -> Books | None:
        """What the marker says."""
        try:
            return msgspec.json.decode(self.marker.read_bytes(), type=Books)
        except (OSError, msgspec.DecodeError):
            return None

    def note(self, books: Books) -> None:
        """Have the marker say that. All processes that have these books write the same."""
        with contextlib.suppress(OSError):  # a full disk: those who start later cannot compare
            handle = os.open(self.marker, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                text = msgspec.json.encode(books).ljust(_MOST_BYTES)
                os.pwrite(handle, text, 0)
            finally:
                os.close(handle)

    def adopted(self, word: str) -> None:
        """What is at the path now is the books, with that word in it."""
        found = _identity(self._path)
        assert found is not None  # noqa: S101  # it was written just now
        self.note(Books(word, found, self.log(), wall_clock()))

    def drop_old_log(self) -> bool:
        """Before a file is adopted: remove the log of another one that was here. Says whether."""
        noted, found = self.noted(), _identity(self._path)
        if noted is None or found == noted.file or self.log() != noted.log or noted.log is None:
            return False
        for end in "-wal", "-shm":
            Path(os.path.realpath(self._path) + end).unlink(missing_ok=True)
        return True

    def describe(self) -> str:
        """What is at the path, as a sentence for the operator."""
        noted, found = self.noted(), _identity(self._path)
        used = noted is not None and self._is_used()
        if found is None:
            return "there was no file" + (
                "; servers have one open that was deleted" if used else ""
            )
        if noted is None or noted.file == found:
            return "the file was in its place"
        return "the file is not the one before" + (
            ", which servers have open still" if used else ""
        )

    # ------------------------------------------------ the lock

    def leave(self) -> None:
        """Say that this process does not use the books any more."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            if self._books is not None and self.log() is None and self._books == self.noted():
                self.note(msgspec.structs.replace(self._books, log=None))
            os.close(lock)

    def _join(self, patience: float) -> bool:
        """Whether no other process uses the books. Keeps others from asking until `confirm`."""
        if self._lock >= 0:  # an attempt before this one failed
            self.leave()
        if not _HAS_LOCKS:  # pragma: no cover
            return True
        try:
            self._lock = os.open(self.marker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # then SQLite can make no file there either, and says why
            return True
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait_for_others(patience)
            return False
        return True

    def _wait_for_others(self, patience: float) -> None:
        """One that has just started is about to say which books it has."""
        give_up = time.monotonic() + patience
        while time.monotonic() < give_up:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            time.sleep(_POLL_SECONDS)
        self.leave()
        raise StoreChanged(
            Reason("another process has been opening the ledger's file", "try again in a moment")
        )

    def _share(self) -> None:
        if self._lock >= 0:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _is_used(self) -> bool:
        if not _HAS_LOCKS:  # pragma: no cover
            return False
        try:
            handle = os.open(self.marker, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # for each transaction
    except OSError:
        return 0


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  # for each transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino
