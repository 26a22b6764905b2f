"""Streams: the generation of an answer, responses to clients, and how many a worker admits."""
