"""Announcement: a server that is told to end says so for a while, and serves on, before it ends.

Who sends requests here looks at ``/readyz`` now and then, on a new connection. Once the server has
begun to end it takes none, and what comes before the next look is refused.
"""

import asyncio
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from chatnest._util.signals import heard_first

__all__ = ["Announcement", "OfParent"]

_log = logging.getLogger("chatnest.cli")

_LOOK_SECONDS: Final = 1.0
"""Between two looks of a worker at what its parent was told, which reaches it in a thousandth."""


class Announcement:
    """Of a process that serves alone, or that has workers. SIGTERM begins it; the server hears of
    that when ``seconds`` are over, or as soon as there is a second signal. It hears of SIGINT at
    once: who presses Ctrl+C is waiting.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = _Flag()
        self._over = _Flag()

    @property
    def begun(self) -> bool:
        """Whether the server is about to end."""
        return self._begun.is_set()

    def to_workers(self) -> "OfParent":
        """What is sent to the workers."""
        return OfParent(self._begun, self._over)

    @contextmanager
    def before_end(self) -> Iterator[None]:
        """Meanwhile, signals come here before they come to the server, which has its handlers."""
        thread = threading.Thread(target=self._end_in_time, daemon=True)
        thread.start()
        try:
            with heard_first(self._hear):
                yield
        finally:
            self._over.set()
            self._begun.set()
            thread.join()

    def _hear(self, number: int, server_does: Callable[[], object]) -> None:
        if number == signal.SIGTERM and not self._begun.is_set() and not self._over.is_set():
            self._begun.set()
        else:
            self._over.set()
            server_does()

    def _end_in_time(self) -> None:
        """In a thread, since a parent has no event loop. It is there before the signal: what a
        handler may do is little.
        """
        self._begun.wait()
        if self._over.is_set():
            return
        _log.warning("ending in %g s: /readyz says so, and all else goes on", self._seconds)
        if not self._over.wait(self._seconds):
            # A parent that waits for a worker hears nothing until that has ended, which waits too.
            self._over.set()
            signal.raise_signal(signal.SIGTERM)


class OfParent:
    """An announcement in a worker, whose parent is told, and tells it to end when that is over.

    Whoever tells all processes (as systemd does) tells the worker as well. Its SIGTERM waits until
    the announcement is over; where there is none, for a moment: its parent may not know yet.
    """

    def __init__(self, begun: "_Flag", over: "_Flag") -> None:
        self._begun = begun
        self._over = over
        self._told = False

    @property
    def begun(self) -> bool:
        """Whether the server is about to end."""
        return self._begun.is_set()

    @contextmanager
    def before_end(self) -> Iterator[None]:
        """Meanwhile, signals come here before they come to the server, which has its handlers."""
        loop = asyncio.get_running_loop()

        def hear(number: int, server_does: Callable[[], object]) -> None:
            if number == signal.SIGTERM and not self._told and not self._over.is_set():
                self._told = True
                loop.call_soon_threadsafe(loop.call_later, _LOOK_SECONDS, look)
            else:
                server_does()

        def look() -> None:
            if self._begun.is_set() and not self._over.is_set():
                loop.call_later(_LOOK_SECONDS, look)
            else:
                signal.raise_signal(signal.SIGTERM)

        with heard_first(hear):
            yield


class _Flag:
    """Once it has been set, it is so in every process that it was sent to. They only look; when
    the process that made it has ended, they see it set.

    multiprocessing's Event has a lock, which a worker would keep that is killed while it looks.
    """

    def __init__(self) -> None:
        self._heard, self._say = multiprocessing.Pipe(duplex=False)

    def __getstate__(self) -> Any:
        return self._heard

    def __setstate__(self, heard: Any) -> None:
        self._heard = heard

    def set(self) -> None:
        if not self.is_set():
            self._say.send_bytes(b"!")  # which nobody takes out

    def is_set(self) -> bool:
        return self._heard.poll()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it was set within ``seconds``, or at all, however long that takes."""
        return self._heard.poll(seconds)
