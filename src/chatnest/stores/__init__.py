"""Stores: what a ledger and a run log need of a SQLite file or a Redis server."""
