"""Where the runs of an application are kept, unless it says so: where its ledger is."""

from typing import Protocol, runtime_checkable

from chatnest.runs.base import RunLog, RunServer, RunSettings
from chatnest.runs.memory import MemoryRunLog

__all__ = ["beside"]


@runtime_checkable
class _BookFile(Protocol):
    """A ledger in a file, as SQLiteLedger is."""

    path: str
    busy_timeout: float


def beside(ledger: object, settings: RunSettings) -> RunLog:
    """On the Redis server of a ledger, in a file beside that of a ledger, else in memory, which
    suits one worker.
    """
    # Imported where there is such a ledger: sqlite3 is slow to import.
    if isinstance(ledger, RunServer):
        from chatnest.runs.redis import RedisRunLog  # noqa: PLC0415

        return RedisRunLog(ledger, settings)
    if isinstance(ledger, _BookFile):
        from chatnest.runs.sqlite import SQLiteRunLog  # noqa: PLC0415

        return SQLiteRunLog(f"{ledger.path}-runs", settings, busy_timeout=ledger.busy_timeout)
    return MemoryRunLog(settings)
