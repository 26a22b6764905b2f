"""Announcement: delays the graceful shutdown while ``/readyz`` already reports it.

A load balancer polls ``/readyz`` at intervals, on a new connection. A server that is shutting down
accepts no connections, so requests before the next poll would be refused. With an announcement the
server goes on serving until the load balancer has noticed.
"""

import asyncio
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from chatnest._util.signals import intercepted_signals

__all__ = ["Announcement", "OfParent"]

_log = logging.getLogger("chatnest.cli")

_POLL_SECONDS: Final = 1.0
"""Seconds between two checks by a worker of its parent's announcement."""


class Announcement:
    """The announcement of a process that serves alone, or that has workers.

    SIGTERM starts it. The server receives that signal after ``seconds``, or as soon as a second
    signal arrives. The server receives SIGINT at once, because Ctrl+C comes from a waiting user.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = _Flag()
        self._over = _Flag()

    @property
    def begun(self) -> bool:
        """Whether the announcement has started."""
        return self._begun.is_set()

    def to_workers(self) -> "OfParent":
        """Return the announcement in the form that is sent to the workers."""
        return OfParent(self._begun, self._over)

    @contextmanager
    def before_end(self) -> Iterator[None]:
        """Within this block, handle signals before the server's own handlers."""
        thread = threading.Thread(target=self._end_in_time, daemon=True)
        thread.start()
        try:
            with intercepted_signals(self._handle):
                yield
        finally:
            self._over.set()
            self._begun.set()
            thread.join()

    def _handle(self, number: int, servers_handler: Callable[[], object]) -> None:
        if number == signal.SIGTERM and not self._begun.is_set() and not self._over.is_set():
            self._begun.set()
        else:
            self._over.set()
            servers_handler()

    def _end_in_time(self) -> None:
        """Wait for the announcement, and end the server after it.

        This runs in a thread, because a parent has no event loop. The thread exists before the
        signal, because a signal handler must not do much.
        """
        self._begun.wait()
        if self._over.is_set():
            return
        _log.warning("shutdown announced: seconds=%g. /readyz gives 503 now.", self._seconds)
        if not self._over.wait(self._seconds):
            # A parent that joins a worker handles no signals, and that worker waits for `over`.
            self._over.set()
            signal.raise_signal(signal.SIGTERM)


class OfParent:
    """The announcement in a worker. The parent receives SIGTERM, and ends the worker afterwards.

    systemd sends SIGTERM to all processes, including the worker. The worker holds such a signal
    until the announcement is over. Without an announcement it holds the signal for a moment, as
    the parent may receive its own signal later.
    """

    def __init__(self, begun: "_Flag", over: "_Flag") -> None:
        self._begun = begun
        self._over = over
        self._is_waiting = False

    @property
    def begun(self) -> bool:
        """Whether the announcement has started."""
        return self._begun.is_set()

    @contextmanager
    def before_end(self) -> Iterator[None]:
        """Within this block, handle signals before the server's own handlers."""
        loop = asyncio.get_running_loop()

        def handle(number: int, servers_handler: Callable[[], object]) -> None:
            if number == signal.SIGTERM and not self._is_waiting and not self._over.is_set():
                self._is_waiting = True
                loop.call_soon_threadsafe(loop.call_later, _POLL_SECONDS, check)
            else:
                servers_handler()

        def check() -> None:
            if self._begun.is_set() and not self._over.is_set():
                loop.call_later(_POLL_SECONDS, check)
            else:
                signal.raise_signal(signal.SIGTERM)

        with intercepted_signals(handle):
            yield


class _Flag:
    """A flag that its process sets once, for all processes that received a copy.

    Copies can only read it. If the process that created the flag has ended, copies read it as set.
    multiprocessing's Event has a lock, which a worker that is killed while reading would keep.
    """

    def __init__(self) -> None:
        self._reader, self._writer = multiprocessing.Pipe(duplex=False)

    def __getstate__(self) -> Any:
        return self._reader

    def __setstate__(self, reader: Any) -> None:
        self._reader = reader

    def set(self) -> None:
        if not self.is_set():
            self._writer.send_bytes(b"!")  # stays in the pipe: no process reads it

    def is_set(self) -> bool:
        return self._reader.poll()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for at most ``seconds``, or without a limit. Return whether the flag is set."""
        return self._reader.poll(seconds)
