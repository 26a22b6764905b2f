"""Helpers for every layer: event loops, signals, identifiers, argument checks, addresses."""
