"""Ledgers: what is held and used, under which limits. The rules in model.py, a folder a store.

The stores that need a library are imported from their files: chatnest.ledger.sqlite.
"""

from chatnest.ledger.base import Charge, Hold, Ledger, Limit, LimitState
from chatnest.ledger.memory import MemoryLedger

__all__ = ["Charge", "Hold", "Ledger", "Limit", "LimitState", "MemoryLedger"]
