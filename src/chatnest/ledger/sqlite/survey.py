"""Examines a SQLite file and its file system. Creates and changes nothing."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from chatnest.ledger.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from chatnest.stores.reasons import reason_of
from chatnest.stores.survey import Reason, SQLiteSurvey

__all__ = ["look"]

_MOUNTS: Final = Path("/proc/self/mounts")


def look(path: str, *, busy_timeout: float, wal_is_safe: bool) -> SQLiteSurvey:
    """Examine the file at ``path``, or the directory in which it would be created."""
    file = Path(path)
    folder = file.absolute().parent
    exists = file.exists() and (not file.is_file() or file.stat().st_size > 0)
    return SQLiteSurvey(
        path=path,
        library=sqlite3.sqlite_version,
        wal_is_safe=wal_is_safe,
        exists=exists,
        unusable=_why_no_file(folder, file) or (_why_not(file, busy_timeout) if exists else None),
        file_system=_file_system(folder),
        free=shutil.disk_usage(folder).free if folder.is_dir() else None,
    )


def _why_no_file(folder: Path, file: Path) -> Reason | None:
    if not folder.is_dir():
        return Reason("its directory does not exist", "create it, or choose another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Reason(
            "this user may not write to its directory",
            "grant write access: SQLite creates files there",
        )
    if file.exists() and not os.access(file, os.R_OK | os.W_OK):
        return Reason("this user may not read and write it", "grant read and write access")
    return None


def _why_not(file: Path, busy_timeout: float) -> Reason | None:
    address = f"file:{quote(str(file.absolute()))}?mode=rw"
    try:
        with contextlib.closing(
            sqlite3.connect(address, uri=True, timeout=busy_timeout, isolation_level=None)
        ) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as exc:
        return reason_of(exc)
    if application != APPLICATION_ID:
        return Reason("the file belongs to another program", "choose another path")
    if schema > SCHEMA_VERSION:
        return Reason("the file was written by a newer chatnest", "update chatnest")
    return None


def _file_system(folder: Path) -> str | None:
    """The type of the file system, by the longest mount point that contains the folder."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found: tuple[int, str] | None = None
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        mount = Path(point.replace("\\040", " "))
        if folder.resolve().is_relative_to(mount) and (not found or len(mount.parts) >= found[0]):
            found = len(mount.parts), kind
    return found[1] if found else None
