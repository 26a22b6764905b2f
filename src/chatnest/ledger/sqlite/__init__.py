"""SQLiteLedger: the books in a file, for the workers of one machine."""

from chatnest.ledger.sqlite.ledger import SQLiteLedger

__all__ = ["SQLiteLedger"]
