"""Place: which file at a path is the books, as all processes that use it agree.

A file can be deleted, or another one moved to its path, while processes have it open. They would
go on in a file that no other process can see, so each of them compares the file it has open with
the file at the path. A process that starts compares the file at the path with the one that the
others have open, which the marker records. While no process uses the books, the file at the path
is the books.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from chatnest.ledger.base import wall_clock
from chatnest.ledger.sqlite.marker import BooksId, Marker
from chatnest.stores.survey import Reason, StoreChanged

__all__ = ["Overwritten", "Place"]

_ADVICE: Final = (
    "put the right file back, or run `chatnest ledger adopt`, which makes the file at that path "
    "the books from then on"
)
_DELETED: Final = Reason("the ledger's file was deleted while servers used it", _ADVICE)
_REPLACED: Final = Reason("the ledger's file was replaced while servers used it", _ADVICE)
_LOG_GONE: Final = Reason(
    "the write-ahead log of the ledger's file was deleted or replaced while servers used it",
    _ADVICE,
)
_OLD_LOG: Final = Reason(
    "the ledger's file was replaced, and the write-ahead log beside it belongs to the old file",
    _ADVICE,
)
_OLDER: Final = Reason(
    "the ledger's file was overwritten with another ledger, or with an older copy", _ADVICE
)


class Overwritten(StoreChanged):
    """The file holds an older copy of this ledger."""


class Place:
    """A path, the file there, and the books that this process knows. For one thread."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # a host may change its directory  # noqa: PTH100
        folder, name = os.path.split(self._path)
        self._marker = Marker(Path(folder, f".{name}-books"))
        self._books: BooksId | None = None
        self._log: tuple[int, int] | None = None  # the log of the connection
        self._seen = -1  # the generation seen last
        self._log_is_gone = False
        self._size = 0  # bytes of the file itself when it was last confirmed
        self._confirmed = 0  # when the open file was last found at the path

    # ------------------------------------------------ opening

    def enter(self, patience: float) -> None:
        """Check the file before it is opened for writing. Raises StoreChanged if it is not the
        books. ``patience`` is in seconds.
        """
        if self._books is not None:
            self._return(self._books)
            return
        alone = self._marker.lock(patience)
        recorded, found = self._marker.read(), _identity(self._path)
        if recorded is None:
            return
        if alone:
            if found not in {None, recorded.file} and self.log() == recorded.log is not None:
                raise StoreChanged(_OLD_LOG)
        elif found != recorded.file:
            raise StoreChanged(_DELETED if found is None else _REPLACED)
        else:
            self._books = recorded

    def look(self) -> None:
        """Check the file before it is opened for reading. Raises StoreChanged if running servers
        have another file open.
        """
        recorded, found = self._marker.read(), _identity(self._path)
        if recorded is not None and found != recorded.file and self._marker.is_used():
            raise StoreChanged(_DELETED if found is None else _REPLACED)

    def _return(self, books: BooksId) -> None:
        """Return to the file that was open before, or to one that was adopted since."""
        recorded, found = self._marker.read(), _identity(self._path)
        if found == books.file and (recorded is None or recorded.word == books.word):
            if self._log_is_gone:
                raise StoreChanged(_LOG_GONE)
            return
        if recorded is None or recorded.adopted_at < self._confirmed or recorded.file != found:
            raise StoreChanged(_DELETED if found is None else _REPLACED)
        self._books, self._seen, self._log_is_gone, self._size = recorded, -1, False, 0

    def opened(self) -> None:
        """Note that a new connection was made."""
        self._log = None

    # ------------------------------------------------ within a transaction

    def raised(self) -> None:
        """Note that this process has raised the generation: copies made before are older."""
        self._seen += 1

    def confirm(self, word: str, generation: int, logical_size: Callable[[], int]) -> None:
        """Compare the open file, which contains this word and generation, with the file at the
        path. ``logical_size`` returns the bytes of the file including its log.

        Raises StoreChanged.
        """
        found, books = _identity(self._path), self._books
        if books is None:
            if found is None:
                raise StoreChanged(_DELETED)
            books = self._books = BooksId(word, found, None)
        if found != books.file:
            raise StoreChanged(_DELETED if found is None else _REPLACED)
        log = self.log()
        if self._log is None:
            self._log = log
        elif log != self._log:
            self._log_is_gone = True
            raise StoreChanged(_LOG_GONE)
        if word != books.word:  # another ledger, an adopted file, or a copy found to be older
            raise StoreChanged(_OLDER)
        if generation < self._seen:
            raise Overwritten(_OLDER)
        size = _size(self._path)
        if size < self._size <= logical_size():  # SQLite itself truncates only unused pages
            raise StoreChanged(_OLDER)
        self._size = size
        self._seen, self._confirmed = generation, wall_clock()
        if books.log != log:
            self._books = msgspec.structs.replace(books, log=log)
            self._marker.write(self._books)
            self._marker.share()

    def log(self) -> tuple[int, int] | None:
        """The identity of the write-ahead log at the path."""
        return _identity(os.path.realpath(self._path) + "-wal")

    def leave(self) -> None:
        """Note that this process does not use the books any more."""
        if self._marker.is_locked:
            books = self._books
            if books is not None and self.log() is None and books == self._marker.read():
                self._marker.write(msgspec.structs.replace(books, log=None))
            self._marker.unlock()

    # ------------------------------------------------ by an operator

    def adopted(self, word: str) -> None:
        """Record that the file now at the path, with this word in it, is the books."""
        found = _identity(self._path)
        assert found is not None  # noqa: S101  # it was written just now
        self._marker.write(BooksId(word, found, self.log(), wall_clock()))

    def drop_old_log(self) -> bool:
        """Before a file is adopted, remove the log of the file that was here before. Returns
        whether there was one.
        """
        recorded, found = self._marker.read(), _identity(self._path)
        if recorded is None or found == recorded.file:
            return False
        if self.log() != recorded.log or recorded.log is None:
            return False
        for end in "-wal", "-shm":
            Path(os.path.realpath(self._path) + end).unlink(missing_ok=True)
        return True

    def describe(self) -> str:
        """A sentence for the operator about the file at the path."""
        recorded, found = self._marker.read(), _identity(self._path)
        used = recorded is not None and self._marker.is_used()
        if found is None:
            deleted = "; servers still have a deleted file open" if used else ""
            return f"there was no file{deleted}"
        if recorded is None or recorded.file == found:
            return "the file was in its place"
        replaced = ", which servers still have open" if used else ""
        return f"the file is not the one that was there before{replaced}"


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
