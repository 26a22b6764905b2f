"""Stores: SQLite files and Redis servers, as ledgers and run logs use them."""
