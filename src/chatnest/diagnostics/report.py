"""Prints the results of checks, one a line, as text or as JSON."""

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from chatnest._util.terminal import printable
from chatnest.diagnostics.checks import Check, Level

__all__ = ["report"]

_LEVELS: Final[tuple[Level, ...]] = ("ok", "warn", "fail", "skip")


def report(checks: Sequence[Check], *, as_json: bool) -> None:
    """Write the checks to standard output."""
    try:
        (_write_json if as_json else _write)(checks)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_json(checks: Sequence[Check]) -> None:
    for check in checks:
        sys.stdout.write(json.dumps(msgspec.to_builtins(check)) + "\n")  # ASCII only


def _write(checks: Sequence[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        advice = f" -> {check.advice}" if check.advice else ""
        line = f"{check.level:<4}  {check.name:<{width}}  {check.found}{advice}"
        sys.stdout.write(printable(line) + "\n")
    counts = Counter(check.level for check in checks)
    summary = ", ".join(f"{counts[level]} {level}" for level in _LEVELS)
    sys.stdout.write(f"{len(checks)} checks: {summary}\n")
