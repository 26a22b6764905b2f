"""Output of commands: tables, JSON lines, times and names that are safe to print."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

__all__ = [
    "harmless",
    "shown",
    "table_lines",
    "time_text",
    "write_documents",
    "write_error",
    "write_table",
]


def write_documents(documents: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line."""
    for document in documents:
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


def write_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table."""
    sys.stdout.write("".join(f"{line}\n" for line in table_lines(head, rows)))


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table with columns as wide as needed. Numbers are aligned to the right."""
    rows = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    numeric = [all(map(_is_number, column)) for column in zip(*rows, strict=True)]
    numeric = numeric or [False] * len(head)
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numeric, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def shown(text: str) -> str:
    """A name in printable form: a name that a user chose must not control the terminal."""
    return text if text.isprintable() else repr(text)


def harmless(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(",", "").replace(".", "", 1).isdecimal()


def time_text(at: int) -> str:
    """A time in the form of RFC 3339, in UTC, to the millisecond."""
    found = datetime.fromtimestamp(at / 1000, UTC)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_error(sentence: str) -> None:
    """Write a sentence to stderr."""
    sys.stderr.write(f"chatnest: {sentence}\n")
