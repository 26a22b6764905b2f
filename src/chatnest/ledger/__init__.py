"""Ledgers: the tokens, requests and streams that accounts hold and have used under their limits.

model.py has the rules; each store has a folder. Import a store that needs a library from its
folder, as in ``chatnest.ledger.sqlite``.
"""

from chatnest.ledger.base import Charge, Hold, Ledger, Limit, LimitState
from chatnest.ledger.memory import MemoryLedger

__all__ = ["Charge", "Hold", "Ledger", "Limit", "LimitState", "MemoryLedger"]
