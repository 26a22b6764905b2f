"""Deadlines for stores: a store that is too slow counts as unavailable."""

from collections.abc import Iterator
from contextlib import contextmanager

from anyio import fail_after

from chatnest.errors import LedgerUnavailable

__all__ = ["within"]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Cancel the block after ``seconds``, and raise LedgerUnavailable."""
    try:
        with fail_after(seconds):
            yield
    except TimeoutError:
        raise LedgerUnavailable from None
