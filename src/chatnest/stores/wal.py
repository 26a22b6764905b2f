"""Opens a SQLite file in WAL mode that several processes write."""

import contextlib
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

__all__ = ["STRICT", "log_size", "open_wal", "without_waiting"]

_log = logging.getLogger("chatnest.ledger")

STRICT: Final = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
"""Ends a table whose columns accept only values of their types, if this SQLite supports that."""

_POLL_SECONDS: Final = 0.005
_PRIVATE: Final = 0o600
_KEPT_LOG: Final = 1024 * 1024
"""Bytes to which SQLite truncates the write-ahead log after it has written it into the file."""


def open_wal(
    path: str | os.PathLike[str],
    prepare: Callable[[sqlite3.Connection], object],
    *,
    synchronous: str,
    busy_timeout: float,
    any_thread: bool = False,
) -> sqlite3.Connection:
    """Open a connection in autocommit mode, after ``prepare`` has created the tables.

    Only this user may read the file and the files beside it, with any umask. ``busy_timeout`` is in
    seconds. Raises sqlite3.Error.
    """
    _make(Path(path))
    # SQLite does not wait for a lock when it switches to WAL.
    give_up = time.monotonic() + busy_timeout
    while True:
        connection = sqlite3.connect(
            path,
            timeout=busy_timeout,
            isolation_level=None,
            cached_statements=64,
            check_same_thread=not any_thread,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA journal_size_limit = {_KEPT_LOG}")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            prepare(connection)
        except sqlite3.OperationalError as exc:
            connection.close()
            is_busy = exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() >= give_up:
                raise
            time.sleep(_POLL_SECONDS)
        except BaseException:
            connection.close()
            raise
        else:
            _narrow(Path(path))
            return connection


def log_size(path: str | os.PathLike[str]) -> int:
    """Bytes of the write-ahead log of the file at ``path``."""
    try:
        return os.stat(_beside(Path(path), "-wal")).st_size  # noqa: PTH116  # often asked for
    except OSError:
        return 0


@contextlib.contextmanager
def without_waiting(connection: sqlite3.Connection, busy_timeout: float) -> Iterator[None]:
    """Within this block, raise sqlite3.OperationalError at once if another process holds a lock.
    ``busy_timeout`` applies again afterwards.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(busy_timeout * 1000)}")


def _make(path: Path) -> None:
    """Create the file for this user only, if it is missing. SQLite gives the files beside it the
    same mode. The file is not opened: closing it would release the locks that SQLite holds on it
    elsewhere in this process.
    """
    if hasattr(os, "mknod"):
        with contextlib.suppress(OSError):  # SQLite reports the fault
            os.mknod(path, _PRIVATE | stat.S_IFREG)
            path.chmod(_PRIVATE)  # mknod applies the umask


def _narrow(path: Path) -> None:
    """Make existing files readable for this user only."""
    for end in "", "-wal", "-shm":
        each = _beside(path, end)
        try:
            if each.stat().st_mode & 0o077:
                each.chmod(_PRIVATE)
        except FileNotFoundError:
            pass
        except OSError as exc:
            _log.warning("%s: other users can read the file: %s", each, exc.strerror)


def _beside(path: Path, end: str) -> Path:
    return Path(os.path.realpath(path) + end)
