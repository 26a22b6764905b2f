"""A SQLite file that several processes write, in WAL mode: how each of them opens it."""

import os
import sqlite3
import time
from collections.abc import Callable
from typing import Final

__all__ = ["STRICT", "open_wal"]

STRICT: Final = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
"""Ends a table whose columns take values of their types alone, where this SQLite knows of it."""

_POLL_SECONDS: Final = 0.005


def open_wal(
    path: str | os.PathLike[str],
    prepare: Callable[[sqlite3.Connection], object],
    *,
    synchronous: str,
    busy_timeout: float,
    any_thread: bool = False,
) -> sqlite3.Connection:
    """A connection in no transaction, after ``prepare`` has seen to the tables.

    ``busy_timeout`` is in seconds. Raises sqlite3.Error.
    """
    # Switching to WAL does not wait for a lock by itself.
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
            return connection
