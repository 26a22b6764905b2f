"""What the tests here have measured: kept as JSON beside the page that shows it as a table."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs/discussion/disconnects.md"
KEPT = PAGE.with_suffix(".json")
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->\n"


class Results:
    """Takes what a soak has recorded as ``measured`` into the file, in place of what was there."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter = config.pluginmanager.get_plugin("terminalreporter")
        self._rows: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        for name, value in report.user_properties:
            if name == "measured" and isinstance(value, dict):
                self._rows[f"{value['what']} · {value['where']}"] = value
                if self._reporter is not None:
                    line = " · ".join(value[key] for key in ("what", "where", "target", "figure"))
                    self._reporter.write_line(f"{time.strftime('%H:%M:%S')} {line}")

    def pytest_sessionfinish(self) -> None:
        if self._rows:
            rows = kept() | self._rows
            text = json.dumps(dict(sorted(rows.items())), indent=1, ensure_ascii=False)
            KEPT.write_text(text + "\n", encoding="utf-8")


def kept() -> dict[str, dict[str, str]]:
    rows: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    return rows


def table() -> str:
    """All that is kept, as Markdown."""
    lines = ["| what | where | target | measured |", "|---|---|---|---|"]
    cells = ("what", "where", "target", "figure")
    lines += ["| " + " | ".join(row[cell] for cell in cells) + " |" for row in kept().values()]
    return "\n".join([*lines, ""])


def rendered(page: str) -> str:
    """The page with the table of now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{len(kept())} figures in {PAGE.name}\n")
