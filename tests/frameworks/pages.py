"""The programs that the pages of docs/how-to show, and how they say to start them."""

import re
import shlex
from pathlib import Path

HOW_TO = Path(__file__).parents[2] / "docs/how-to"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROGRAM = re.compile(
    r"as `(\w+)\.py`(?:(?!```).)*?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL
)


def programs(page: str, *, drain: str = "20") -> dict[str, str]:
    """What a page tells its reader to save, by the module's name. ``drain`` stands in for the 20
    seconds of the page.
    """
    found: dict[str, str] = dict(_PROGRAM.findall((HOW_TO / page).read_text()))
    shown, meant = "drain_at_signal=20", f"drain_at_signal={drain}"
    return {name: text.replace(shown, meant) for name, text in found.items()}


def patient(program: str) -> str:
    """With time for a disk that is busy: no test here is about a ledger that is away."""
    shown = 'ledger=SQLiteLedger("chatnest.db")'
    if shown not in program:
        return program
    program = re.sub(r"^from chatnest import ", r"\g<0>Bounds, ", program, flags=re.MULTILINE)
    return program.replace(shown, f"{shown}, bounds=Bounds(ledger_seconds=20, lag_seconds=60)")


def examples(page: str) -> list[str]:
    """All of a page's Python."""
    return _blocks(page, "python")


def commands(page: str) -> list[list[str]]:
    """The commands of a page, without the variables before them."""
    return [
        [word for word in shlex.split(line[1:]) if not re.match(r"[A-Z_]+=", word)]
        for line in "".join(_blocks(page, "console")).replace("\\\n", "").splitlines()
        if line.startswith("$")
    ]


def _blocks(page: str, language: str) -> list[str]:
    text = (HOW_TO / page).read_text()
    return [block for found, block in _BLOCK.findall(text) if found == language]
