"""Watchdogs: for how long an event loop has given nobody else a turn."""

import json
import threading
import time
from asyncio import AbstractEventLoop, get_running_loop, sleep
from dataclasses import dataclass

import trio
from starlette.types import ASGIApp, Receive, Scope, Send

POLL = 0.001


@dataclass
class Block:
    """The longest wait for a turn, in milliseconds: on the clock, and of the loop's own CPU time.

    What else the machine does lengthens the one and not the other.
    """

    wall: float = 0.0
    cpu: float = 0.0
    turns: int = 0

    def note(self, wall: float, cpu: float) -> None:
        self.wall = max(self.wall, wall * 1000)
        self.cpu = max(self.cpu, cpu * 1000)
        self.turns += 1

    def __str__(self) -> str:
        return f"{self.cpu:.1f} ms of CPU, {self.wall:.1f} ms on the clock"


class Watchdog:
    """A thread that asks an asyncio event loop for a turn, again and again.

    What counts is the time from one turn to the next, less the thread's own pause: a block in C
    keeps the thread from asking as well.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._last = time.monotonic(), time.thread_time()
        self.worst = Block()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            had = threading.Event()
            try:
                self._loop.call_soon_threadsafe(self._turn, had)
            except RuntimeError:  # it has been closed
                return
            had.wait(60)
            time.sleep(POLL)

    def _turn(self, had: threading.Event) -> None:
        (wall, cpu), self._last = self._last, (time.monotonic(), time.thread_time())
        self.worst.note(self._last[0] - wall - POLL, self._last[1] - cpu)
        had.set()


class Watched:
    """An application in a process of its own, whose event loop is watched: ``GET /block`` gives the
    longest block since the last one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._watchdog: Watchdog | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/block":
            await self._app(scope, receive, send)
            return
        if self._watchdog is None:
            self._watchdog = Watchdog(get_running_loop())
        await sleep(5 * POLL)  # what was a block a moment ago is known after the next turn
        worst, self._watchdog.worst = self._watchdog.worst, Block()
        body = json.dumps(vars(worst) | {"cpu_total": time.process_time()}).encode()
        length = str(len(body)).encode()
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class TrioWatch(trio.abc.Instrument):
    """The same for trio, which tells when it looks for new events."""

    def __init__(self) -> None:
        self.worst = Block()
        self._began: tuple[float, float] | None = None

    def after_io_wait(self, timeout: float) -> None:
        self._began = time.monotonic(), time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        if self._began is not None:
            wall, cpu = self._began
            self.worst.note(time.monotonic() - wall, time.thread_time() - cpu)

    def __enter__(self) -> Block:
        trio.lowlevel.add_instrument(self)
        return self.worst

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)
