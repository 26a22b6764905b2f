"""SQLiteRunLog: runs in a file, for several workers on one machine."""

from chatnest.runs.sqlite.log import SQLiteRunLog

__all__ = ["SQLiteRunLog"]
