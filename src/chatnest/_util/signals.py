"""Signals that end a process, intercepted before the server's own handler runs."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

__all__ = ["intercepted_signals"]


@contextmanager
def intercepted_signals(
    handler: Callable[[int, Callable[[], object]], object],
) -> Iterator[None]:
    """Within this block, SIGTERM and SIGINT call ``handler`` in place of the server's own handler.

    ``handler`` gets the signal's number and a function that runs the server's handler, which it
    must call itself. A signal for which the server has no handler is not intercepted. Only the
    main thread receives signals, so in other threads the block has no effect.
    """
    former: dict[int, Callable[[int, FrameType | None], object]] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        handler(number, partial(former[number], number, frame))

    if threading.current_thread() is threading.main_thread():
        for number in map(int, (signal.SIGTERM, signal.SIGINT)):
            servers_handler = signal.getsignal(number)
            if callable(servers_handler):
                former[number] = servers_handler
                signal.signal(number, handle)
    try:
        yield
    finally:
        for number, servers_handler in former.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, servers_handler)
