"""Helpers for every layer: event loops, signals, identifiers, checks of arguments, addresses."""
