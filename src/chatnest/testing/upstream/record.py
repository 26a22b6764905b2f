"""Record: the requests of a fake upstream, and the waits of a test for them."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Literal, Self

import anyio.to_thread

from chatnest.testing.upstream.answers import Answer
from chatnest.testing.upstream.dialects.base import Dialect
from chatnest.testing.upstream.dialects.paths import dialects_beside

__all__ = ["Record", "SeenRequest"]


@dataclass(slots=True, eq=False)
class SeenRequest:
    """One request and its outcome. Times are those of `time.monotonic()`.

    `json` is the parsed body, None if it is not JSON. `state` is "open" at first, "served" once
    the answer has been played to its end, scripted faults included, and "aborted" if the client
    disconnected before; `closed_at` is that moment. `bytes_written` counts the bytes that the
    kernel took, within one write of at most 64 KiB; `pieces_sent` counts the pieces in them.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    json: Any
    received_at: float
    state: Literal["open", "served", "aborted"] = "open"
    closed_at: float | None = None
    pieces_sent: int = 0
    bytes_written: int = 0


class Record:
    """The script of a fake upstream, and the counters that a test reads.

    The upstream's thread writes it; any thread reads it. `requests` holds all requests in order of
    arrival; `served` and `aborted` count them by outcome, including requests to other paths.
    `connections` counts all accepted connections, `open_sockets` the connections open now.
    `dialects` has the paths that get the scripted answers.
    """

    def __init__(self, *answers: Answer, path: str = "/v1/chat/completions") -> None:
        self.path: str = path
        self.dialects: dict[str, type[Dialect]] = dialects_beside(path)
        self.default: Answer | Callable[[SeenRequest], Answer] = Answer()
        self.requests: list[SeenRequest] = []
        self.connections = 0
        self.open_sockets = 0
        self.served = 0
        self.aborted = 0
        self._queue: deque[Answer] = deque(answers)
        self._waiting: list[SimpleQueue[None]] = []

    @property
    def last(self) -> SeenRequest:
        """The latest request. Raises `IndexError` if there was none."""
        return self.requests[-1]

    def script(self, *answers: Answer) -> None:
        """Queue `answers`, one for each request of an answer; `default` answers the others.

        `default` is an answer, or a function from the request to an answer. The upstream's thread
        calls the function.
        """
        self._queue.extend(answers)

    def unscript(self) -> None:
        """Forget the answers that are still queued."""
        self._queue.clear()

    def wait(self, predicate: Callable[[Self], object], timeout: float = 20.0) -> None:
        """Block until `predicate(self)` is true. It is evaluated at each change, not at intervals.

        Raises `TimeoutError` after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        changes: SimpleQueue[None] = SimpleQueue()
        self._waiting.append(changes)
        try:
            while not predicate(self):
                changes.get(timeout=max(0.0, deadline - time.monotonic()))
                while not changes.empty():
                    changes.get()
        except Empty:
            raise TimeoutError(f"not within {timeout} s: {self!r}") from None
        finally:
            self._waiting.remove(changes)

    async def until(self, predicate: Callable[[Self], object], timeout: float = 20.0) -> None:  # noqa: ASYNC109 - the twin of `wait`, with the same signature
        """Wait as `wait` does, without blocking the event loop, on asyncio and trio.

        `predicate` is called in a worker thread. Raises `TimeoutError` after `timeout` seconds.
        """
        await anyio.to_thread.run_sync(self.wait, predicate, timeout, abandon_on_cancel=True)

    def take(self, seen: SeenRequest) -> Answer:
        """Return the answer for `seen`. Only the upstream's thread may call this."""
        try:
            return self._queue.popleft()
        except IndexError:
            return self.default if isinstance(self.default, Answer) else self.default(seen)

    def closes_on_accept(self) -> bool:
        """Return whether the next answer closes a new connection, and take that answer if so."""
        if not self._queue or self._queue[0].opening != "close_on_accept":
            return False
        self._queue.popleft()
        return True

    def notify(self) -> None:
        """Wake all waiters. Takes no lock, so the upstream's thread never blocks."""
        for changes in tuple(self._waiting):
            changes.put(None)

    def __repr__(self) -> str:
        states = [(seen.path, seen.state, seen.pieces_sent) for seen in self.requests[-10:]]
        return (
            f"<{type(self).__name__} connections={self.connections} open={self.open_sockets} "
            f"served={self.served} aborted={self.aborted} requests={len(self.requests)} {states}>"
        )
