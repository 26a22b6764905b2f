"""Accounting: the ledger as a turn sees it, even while the ledger is unavailable."""
