"""What the interpreter may take for granted in a process that does nothing but serve."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sniffio

__all__ = ["serving_only"]

_NEW_OBJECTS: Final = 10_000
"""As many as two hundred streams make; with 700, Python's own figure, it looks through their
tasks and frames again and again.
"""


@contextmanager
def serving_only() -> Iterator[None]:
    """Meanwhile, what has been made by now is not looked at by the garbage collector any more, and
    it looks less often; and anyio, which asks sniffio dozens of times in a request, is told at once
    which event loop runs in this thread. That is a tenth of the cost of a short request.
    """
    thresholds, library = gc.get_threshold(), sniffio.thread_local.name
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *thresholds[1:])
    sniffio.thread_local.name = "asyncio"
    try:
        yield
    finally:
        sniffio.thread_local.name = library
        gc.set_threshold(*thresholds)
        gc.unfreeze()
