"""The signals by which a process is told to end, heard before its server hears them."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

__all__ = ["heard_first"]


@contextmanager
def heard_first(hear: Callable[[int, Callable[[], object]], object]) -> Iterator[None]:
    """Meanwhile, call ``hear`` as soon as the process is told to end, with the signal's number and
    with what the server does about it, which is then for ``hear`` to do. A signal that the server
    takes no notice of is left alone; so is every signal outside of the main thread, which alone
    gets them.
    """
    former: dict[int, Callable[[int, FrameType | None], object]] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        hear(number, partial(former[number], number, frame))

    if threading.current_thread() is threading.main_thread():
        for number in map(int, (signal.SIGTERM, signal.SIGINT)):
            server_does = signal.getsignal(number)
            if callable(server_does):
                former[number] = server_does
                signal.signal(number, handle)
    try:
        yield
    finally:
        for number, server_does in former.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, server_does)
