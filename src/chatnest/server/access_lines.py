"""AccessLines: writes the lines of the access log to standard output, in its own thread."""

import logging
import threading
from collections.abc import Awaitable
from queue import SimpleQueue
from typing import Final, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatnest.telemetry.access_log import LOGGER

__all__ = ["AccessLines"]

_log = logging.getLogger("chatnest.cli")

_MOST: Final = 10_000
"""Maximum waiting lines. Further lines are dropped while the reader of the output is stuck."""
_ATOMIC: Final = 4_096
"""Maximum bytes of one write (PIPE_BUF). A pipe takes them in one piece, so that the lines of
several workers do not mix.
"""
_END_SECONDS: Final = 1.0
"""Maximum seconds for writing the last lines when the process ends."""


class AccessLines(logging.Handler):
    """Writes each record as one line. A reader that does not read cannot block the event loop:
    lines are then dropped, and counted in the log. After a failed write, no more lines are written.
    """

    def __init__(self, output: TextIO) -> None:
        super().__init__()
        self._output = output
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._dropped = 0
        self._works = True
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True, name="access log")
        self._thread.start()

    def of(self, app: ASGIApp) -> ASGIApp:
        """Wrap ``app``, and write its access log until its lifespan ends. Handlers of parent
        loggers no longer get these lines.
        """
        log = logging.getLogger(LOGGER)
        log.addHandler(self)
        log.setLevel(logging.INFO)
        log.propagate = False

        def with_lines(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            async def end(message: Message) -> None:
                if message["type"].startswith("lifespan.shutdown."):
                    self.close()
                await send(message)

            # A plain function rather than a coroutine, which saves a frame.
            return app(scope, receive, end if scope["type"] == "lifespan" else send)

        return with_lines

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        if not self._works:
            return
        if self._lines.qsize() < _MOST:
            self._lines.put(record.getMessage())
        else:
            self._dropped += 1

    def close(self) -> None:
        """Write the waiting lines, for at most a second. logging calls it when the process ends."""
        if not self._ends.is_set():
            self._ends.set()
            self._lines.put("")
            self._thread.join(_END_SECONDS)
        super().close()

    def _write(self) -> None:
        while self._works:
            text = ""
            if line := self._lines.get():
                text = f"{line}\n"
            while not self._lines.empty():
                if not (line := self._lines.get()):
                    continue
                if len(text) + len(line) >= _ATOMIC:
                    self._put(text)
                    text = ""
                text += f"{line}\n"
            self._put(text)
            if self._ends.is_set() and self._lines.empty():
                return

    def _put(self, text: str) -> None:
        try:
            self._output.write(text)
            self._output.flush()
        except (OSError, ValueError) as exc:
            self._works = False
            _log.warning("access log ended: cause=%r. Its reader is gone.", exc)
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            _log.warning("access log: lines=%d dropped, because they were not read.", dropped)
