"""Streams: the response to one client, those that are open, and how many a worker lets in."""
