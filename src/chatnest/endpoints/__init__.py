"""Endpoints: one class for each kind of request: chats, runs, limits."""
