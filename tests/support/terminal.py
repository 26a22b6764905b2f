"""A program in a pseudo-terminal, as a person sees it and types at it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE

__all__ = ["Terminal"]

_CLEAR = "\x1b[H\x1b[2J"
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_MODES = ("25h", "25l", "1049h", "1049l")
"""The cursor is shown or hidden, the alternate screen is shown or left."""


class Terminal:
    """Runs ``command`` in a terminal of ``rows`` and ``columns``. Every wait is bounded."""

    def __init__(
        self, command: Sequence[str], cwd: Path, *, rows: int = 24, columns: int = 80
    ) -> None:
        self._screen, self._keyboard = pty.openpty()
        self.resize(rows, columns)
        self.settings = termios.tcgetattr(self._keyboard)
        self.output = ""
        """All that the program has written."""
        name = os.ttyname(self._keyboard)
        # The first terminal that a new session opens is the one whose Ctrl-C it gets.
        opened = ["sh", "-c", f'exec "$@" <{name} >{name} 2>&1', "sh", *command]
        environ = {n: v for n, v in os.environ.items() if n not in {"COLUMNS", "LINES"}}
        self._process = subprocess.Popen(
            opened, cwd=cwd, env={**environ, "TERM": "xterm"}, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)
        os.close(self._keyboard)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._screen, keys.encode())

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @property
    def shown(self) -> list[str]:
        """The lines of the newest picture, without styles."""
        return _STYLE.sub("", self.picture).splitlines()

    @property
    def picture(self) -> str:
        return self.output.rpartition(_CLEAR)[2].replace("\r\n", "\n")

    @property
    def chosen(self) -> str:
        """The line that is shown in reverse."""
        found = re.search(r"\x1b\[7m(.*?)\x1b\[0m", self.picture)
        return found[1] if found else ""

    def until(self, condition: Callable[[], object]) -> None:
        """Read what the program writes, until the condition holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.output[-2_000:]
            self._read()

    def until_shown(self, text: str) -> None:
        self.until(lambda: text in "\n".join(self.shown))

    def _read(self) -> None:
        if select.select([self._screen], [], [], 0.05)[0]:
            self.output += os.read(self._screen, 65_536).decode()

    def wait(self) -> int:
        """Wait for the end of the program, and return its exit code."""
        self.until(lambda: self._process.poll() is not None)
        self._read()
        return self._process.returncode

    def is_restored(self) -> bool:
        """Whether the terminal is as it was: its settings, its screen and its cursor."""
        last = {mode: self.output.rfind(f"\x1b[?{mode}") for mode in _MODES}
        return (
            termios.tcgetattr(self._keyboard) == self.settings
            and last["25h"] >= last["25l"]
            and last["1049l"] >= last["1049h"]
        )
