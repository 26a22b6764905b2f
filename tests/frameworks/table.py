"""Write docs/discussion/cells.md's tables from a report of test_cells.py, as ``nox -s cells`` does.

python -m tests.frameworks.table REPORT.xml
"""

import json
import math
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tests.frameworks.programs import PROGRAMS
from tests.frameworks.servers import SERVERS

PAGE = Path(__file__).parents[2] / "docs/discussion/cells.md"
MARK = "<!-- what nox -s cells has measured -->\n"


class Cell(NamedTuple):
    """Milliseconds from the model's word to the client's having it, and from the client's leaving
    to the model's being left.
    """

    first_token: list[float]
    stop: list[float]


Name = tuple[str, str]
Cells = dict[Name, Cell]


def read(report: Path) -> tuple[Cells, set[Name]]:
    """The cells of a report, and the names of those that have failed."""
    cells: Cells = {}
    failed = set()
    for case in ET.parse(report).getroot().iter("testcase"):
        program, _, server = str(case.get("name"))[len("test_a_cell[") : -1].partition("-")
        found = {str(p.get("name")): str(p.get("value")) for p in case.iter("property")}
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add((program, server))
        else:
            times = (json.loads(found[name]) for name in ("first_token_ms", "stop_ms"))
            cells[program, server] = Cell(*times)
    return cells, failed


def quantile(times: Iterable[float], part: float) -> float:
    """The time that so many of them do not exceed."""
    ordered = sorted(times)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def summary(cells: Cells) -> str:
    """By server, over all of its programs."""
    rows = [["server", "cells", "first token p50", "p99", "stop p50", "p99"]]
    for server in SERVERS:
        mine = [cell for (_, other), cell in cells.items() if other == server]
        if mine:
            rows.append([server, str(len(mine)), *_columns(mine)])
    return _table([*rows, ["all", str(len(cells)), *_columns(list(cells.values()))]])


def _columns(cells: Sequence[Cell]) -> list[str]:
    first = list(chain.from_iterable(cell.first_token for cell in cells))
    stop = list(chain.from_iterable(cell.stop for cell in cells))
    return [f"{quantile(times, part):.1f}" for times in (first, stop) for part in (0.5, 0.99)]


def grid(cells: Cells) -> str:
    """Each cell: the medians of the first token and of the stop."""
    rows = [["", *SERVERS]]
    for program in PROGRAMS:
        row = [program.name]
        for server in SERVERS:
            cell = cells.get((program.name, server))
            row.append(
                "-"
                if cell is None
                else f"{quantile(cell.first_token, 0.5):.1f}, {quantile(cell.stop, 0.5):.1f}"
            )
        rows.append(row)
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |\n" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}\n")
    return "".join(lines)


def main() -> None:
    """Put the tables between the page's two marks."""
    cells: Cells = {}
    failed: set[Name] = set()
    for report in sys.argv[1:]:
        passed, not_passed = read(Path(report))
        cells |= passed
        failed = (failed - set(passed)) | not_passed
    if failed:
        sys.exit(f"these have failed: {sorted(failed)}")
    before, _, after = PAGE.read_text().split(MARK)
    PAGE.write_text(f"{before}{MARK}\n{summary(cells)}\n{grid(cells)}\n{MARK}{after}")


if __name__ == "__main__":
    main()
