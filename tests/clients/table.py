"""Write the tables of docs/reference/clients.md from a report of test_clients.py, as ``nox -s
clients`` does.

python -m tests.clients.table REPORT.xml
"""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.clients.world import CLIENTS

PAGE: Final = Path(__file__).parents[2] / "docs/reference/clients.md"
MARK: Final = "<!-- written by nox -s clients -->\n"

COLUMNS: Final = {
    "text": "text",
    "reasoning_and_sources": "shows",
    "tools": "tools",
    "image": "image",
    "stop": "stop",
    "error_after_text": "cut after text",
    "charged_error_before_text": "charged, before text",
    "uncharged_error": "provider's 503",
    "connection_cut[False]": "connection lost",
    "connection_cut[True]": "same, with a key",
}
"""The tests of the table, and the heads of their columns."""

REFUSALS: Final = {
    "refusal[busy]": "rate (429)",
    "refusal[spent]": "budget (402 or 429)",
    "refusal[narrow]": "too long (413)",
    "refusal[nope]": "unknown model (404)",
}

Notes = dict[tuple[str, str], set[tuple[str, int]]]


def read(report: Path) -> Notes:
    """The outcomes and numbers of calls by client and test. Exits if a test has failed."""
    notes: Notes = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        name = str(case.get("name"))
        if case.find("failure") is not None or case.find("error") is not None:
            sys.exit(f"this has failed: {name}")
        for found in case.iter("property"):
            outcome, _, calls = str(found.get("value")).rpartition("|")
            client = next((each for each in CLIENTS if each in name), None)
            if client is not None:
                key = client, str(found.get("name"))
                notes.setdefault(key, set()).add((outcome, int(calls)))
    return notes


def behaviours(notes: Notes) -> str:
    """Each client: what it does, and how often the model was called."""
    rows = [["client", "format", *COLUMNS.values()]]
    for name, client in CLIENTS.items():
        cells = [_calls(notes.get((name, column), ())) for column in COLUMNS]
        rows.append([_title(name), f"`{client.format}`", *cells])
    return _table(rows)


def refusals(notes: Notes) -> str:
    """Each format: what the user of its clients reads."""
    rows = [["client", *REFUSALS.values()]]
    for name in CLIENTS:
        cells = [_said(notes.get((name, column), ())) for column in REFUSALS]
        rows.append([_title(name), *cells])
    return _table(rows)


def _calls(found: Iterable[tuple[str, int]]) -> str:
    """The outcome where it is short, and the numbers of calls."""
    outcomes = list(found)
    if not outcomes:
        return "-"
    calls = "/".join(sorted({str(number) for _, number in outcomes}))
    words = {outcome for outcome, _ in outcomes if len(outcome) < len("reasoning, sources ")}
    word = ", ".join(sorted(words)) if len(words) == 1 else ""
    return f"{word} ({calls})" if word and word != "yes" else calls


def _said(found: Iterable[tuple[str, int]]) -> str:
    return "; ".join(sorted(outcome for outcome, _ in found)) or "-"


def _title(name: str) -> str:
    language, _, program = name.partition("-")
    return f"{program} ({language})"


def _table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |\n" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}\n")
    return "".join(lines)


def main(arguments: list[str]) -> None:
    """Put the tables between the page's two marks."""
    notes: Mapping[tuple[str, str], set[tuple[str, int]]] = read(Path(arguments[0]))
    before, _, after = PAGE.read_text().split(MARK)
    found = dict(notes)
    PAGE.write_text(f"{before}{MARK}\n{behaviours(found)}\n{refusals(found)}\n{MARK}{after}")


if __name__ == "__main__":
    main(sys.argv[1:])
