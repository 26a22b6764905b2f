"""Reasons of a SQLite file that cannot be read or written."""

import sqlite3
from collections.abc import Iterable
from typing import Final

from chatnest.stores.survey import Reason

__all__ = ["explain_sqlite"]

_BY_CODE: Final = {
    sqlite3.SQLITE_BUSY: Reason(
        "another process has the file locked for longer than ledger.busy_timeout",
        "find it, for example with `fuser`; the cause may be a copy or a long transaction",
    ),
    sqlite3.SQLITE_FULL: Reason("the disk is full", "free some space"),
    sqlite3.SQLITE_IOERR: Reason("reading or writing the file fails", "check the disk"),
    sqlite3.SQLITE_CORRUPT: Reason(
        "the file is damaged", "stop all servers, keep a copy, and restore a backup"
    ),
    sqlite3.SQLITE_NOTADB: Reason("the file is not a SQLite database", "choose another path"),
    sqlite3.SQLITE_CANTOPEN: Reason(
        "the file cannot be opened", "let this user read and write it and its directory"
    ),
    sqlite3.SQLITE_READONLY: Reason(
        "the file cannot be written", "let this user read and write it and its directory"
    ),
}


def explain_sqlite(causes: Iterable[BaseException]) -> Reason:
    """The reason in a chain of exceptions, the first cause first."""
    for cause in causes:
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _BY_CODE:
            return _BY_CODE[code & 0xFF]
    return Reason("SQLite fails", "check the file, its directory and the disk")
