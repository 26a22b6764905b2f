"""Chooses the default run log of an application: the store of its ledger."""

from typing import Protocol, runtime_checkable

from chatnest.runs.base import RunLog, RunServer, RunSettings
from chatnest.runs.memory import MemoryRunLog

__all__ = ["beside"]


@runtime_checkable
class _BookFile(Protocol):
    """A ledger in a file, such as SQLiteLedger."""

    path: str
    busy_timeout: float


def beside(ledger: object, settings: RunSettings) -> RunLog:
    """The run log that belongs to a ledger: on its Redis server, in a file beside its file, or in
    memory, which suits one worker.
    """
    # Imported only for such a ledger: sqlite3 is slow to import.
    if isinstance(ledger, RunServer):
        from chatnest.runs.redis import RedisRunLog  # noqa: PLC0415

        return RedisRunLog(ledger, settings)
    if isinstance(ledger, _BookFile):
        from chatnest.runs.sqlite import SQLiteRunLog  # noqa: PLC0415

        return SQLiteRunLog(f"{ledger.path}-runs", settings, busy_timeout=ledger.busy_timeout)
    return MemoryRunLog(settings)
