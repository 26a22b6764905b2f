"""Screen: a table on a terminal, with a chosen row and keys."""

import os
import shutil
import sys
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import anyio

from chatnest.cli.output import table_lines

__all__ = ["Screen"]

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H\x1b[2J"
_CHOSEN: Final = "\x1b[7m{}\x1b[0m"
_HELP: Final = "up, down: choose   s, then y: stop the answer   q: quit"

_MOVES: Final = {"\x1b[A": -1, "k": -1, "\x1b[B": 1, "j": 1}


class Screen:
    """A context manager: within it, the terminal shows the table."""

    def __init__(self, head: Sequence[str]) -> None:
        self._head = head
        self._rows: list[list[str]] = []
        self._at = 0
        self._asks = False
        self._settings: list[object] = []

    def __enter__(self) -> Self:
        self._settings = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        self._put(_ENTER)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._put(_LEAVE)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._settings)  # type: ignore[arg-type]

    @property
    def chosen(self) -> str | None:
        """The id of the chosen row."""
        return self._rows[self._at][0] if self._rows else None

    def draw(self, rows: list[list[str]], note: str) -> None:
        """Draw new rows. The chosen row stays chosen as long as it exists."""
        ids = [row[0] for row in rows]
        if self.chosen in ids:
            self._at = ids.index(str(self.chosen))
        else:
            self._at = max(0, min(self._at, len(rows) - 1))
            self._asks = False
        self._rows = rows
        self.redraw(note)

    def redraw(self, note: str) -> None:
        """Draw the same rows again."""
        width, height = shutil.get_terminal_size()
        head, *lines = table_lines(self._head, self._rows)
        first = max(0, self._at - max(1, height - 5))
        shown = [
            _CHOSEN.format(line[:width]) if number == self._at else line[:width]
            for number, line in enumerate(lines)
        ][first : first + max(1, height - 4)]
        last = f"stop {self.chosen}? y: yes, any other key: no" if self._asks else _HELP
        count = f"{len(self._rows)} running answers, tokens are estimates"
        self._put("\n".join([_HOME + count, head[:width], *shown, note[:width], last[:width]]))

    async def key(self) -> str:
        """Wait for a key. Returns ``q``, ``s`` after it was confirmed, or an empty string if the
        screen only has to be drawn again.
        """
        while True:
            await anyio.wait_readable(sys.stdin)
            key = os.read(sys.stdin.fileno(), 8).decode("utf-8", "replace")
            if self._asks:
                self._asks = False
                return "s" if key == "y" else ""
            if key == "s" and self._rows:
                self._asks = True
                return ""
            if key in _MOVES:
                self._at = max(0, min(self._at + _MOVES[key], len(self._rows) - 1))
                return ""
            if key == "q":
                return key

    def _put(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
