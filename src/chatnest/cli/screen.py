"""Screen: a table on a terminal, with a chosen row and keys."""

import os
import re
import shutil
import sys
import termios
import textwrap
import tty
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import anyio

from chatnest.cli.output import shown, table_lines

__all__ = ["Screen"]

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H\x1b[2J"
_CHOSEN: Final = "\x1b[7m{}\x1b[0m"
_HELP: Final = "up, down: choose   s, then y: stop the answer   q: quit"
_SHORT_HELP: Final = "s: stop, q: quit"

_UP: Final = ("\x1b[A", "\x1bOA", "k")
_DOWN: Final = ("\x1b[B", "\x1bOB", "j")
_KEY: Final = re.compile(r"\x1b[\[O][A-Za-z]|(?s:.)")
_BEGUN: Final = re.compile(r"\x1b[\[O]?\Z")
"""The beginning of an arrow key, whose end is still on its way."""
_READ_BYTES: Final = 256

_LEAST: Final = (8, 12, 10, 8)
"""To how many characters the first columns may be shortened in a narrow terminal."""
_CUT: Final = ".."
"""Stands for what was cut."""
_FRAME: Final = 3
"""The lines around the rows and the note: the count, the head and the help."""


class Screen:
    """A context manager: within it, the terminal shows the table."""

    def __init__(self, head: Sequence[str]) -> None:
        self._head = head
        self._rows: list[list[str]] = []
        self._at = 0
        self._asks = False
        self._settings: list[Any] = []
        self._typed = ""
        self._keys: deque[str] = deque()

    def __enter__(self) -> Self:
        self._settings = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        settings = termios.tcgetattr(sys.stdin)
        # Ctrl-Z would leave the shell on this screen, without a cursor.
        settings[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)
        self._put(_ENTER)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._put(_LEAVE)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._settings)

    @property
    def chosen(self) -> str | None:
        """The id of the chosen row."""
        return self._rows[self._at][0] if self._rows else None

    def draw(self, rows: list[list[str]], note: str = "") -> None:
        """Draw new rows. The chosen row stays chosen as long as it exists."""
        ids = [row[0] for row in rows]
        if self.chosen in ids:
            self._at = ids.index(str(self.chosen))
        else:
            self._at = max(0, min(self._at, len(rows) - 1))
            self._asks = False
        self._rows = rows
        self.redraw(note)

    def redraw(self, note: str = "") -> None:
        """Draw the same rows again."""
        width, height = shutil.get_terminal_size()
        head, *lines = _fitted(self._head, self._rows, width)
        said = textwrap.wrap(note, width)[: max(1, height - _FRAME - 1)] or [""]
        most = max(1, height - _FRAME - len(said))
        first = max(0, self._at - most + 1)
        rows = [
            _CHOSEN.format(line[:width]) if number == self._at else line[:width]
            for number, line in enumerate(lines)
        ][first : first + most]
        last = f"y: stop {self.chosen}, other keys: no" if self._asks else _HELP
        if len(last) > width and not self._asks:
            last = _SHORT_HELP
        answers = "answer" if len(self._rows) == 1 else "answers"
        count = f"{len(self._rows)} running {answers}, tokens are estimates"
        page = [count[:width], head[:width], *rows, *said, last[:width]]
        self._put(_HOME + "\n".join(page))

    async def key(self) -> str:
        """Wait for a key. Returns ``q``, ``s`` after it was confirmed, or an empty string if the
        screen only has to be drawn again.
        """
        while True:
            key = await self._next_key()
            if self._asks:
                self._asks = False
                return "s" if key == "y" else ""
            if key == "s" and self._rows:
                self._asks = True
                return ""
            if key in {*_UP, *_DOWN}:
                step = 1 if key in _DOWN else -1
                self._at = max(0, min(self._at + step, len(self._rows) - 1))
                return ""
            if key == "q":
                return key

    async def _next_key(self) -> str:
        """The next key. A read may have several, or a part of one. The end of input is ``q``."""
        while not self._keys:
            await anyio.wait_readable(sys.stdin)
            try:
                data = os.read(sys.stdin.fileno(), _READ_BYTES)
            except OSError:
                data = b""
            if not data:
                return "q"
            self._typed += data.decode("utf-8", "replace")
            begun = _BEGUN.search(self._typed)
            end = begun.start() if begun else len(self._typed)
            self._keys += _KEY.findall(self._typed[:end])
            self._typed = self._typed[end:]
        return self._keys.popleft()

    def _put(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _fitted(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of the table. If they are too long, ids keep their ends, and names their
    beginnings.
    """
    lines = list(table_lines(head, rows))
    cells = [[shown(cell) for cell in row] for row in rows]
    for column, least in enumerate(_LEAST):
        more = max(map(len, lines)) - width
        if more <= 0 or not cells:
            break
        most = max(least, max(len(row[column]) for row in cells) - more)
        for row in cells:
            if len(row[column]) > most:
                part = most - len(_CUT)
                row[column] = (
                    f"{_CUT}{row[column][-part:]}" if column == 0 else f"{row[column][:part]}{_CUT}"
                )
        lines = list(table_lines(head, cells))
    return lines
