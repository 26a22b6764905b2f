"""Accounting: the ledger as a turn sees it, also while the ledger is unavailable."""
