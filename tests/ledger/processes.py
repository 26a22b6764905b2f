"""Processes of their own that write the books: worker.py, started and listened to."""

import json
import subprocess
import sys
from pathlib import Path

from tests.ledger import worker
from tests.ledger.server import PATIENCE
from tests.servers.support import COMPLAINTS


def start(mode: str, where: Path | str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, worker.__file__, mode, str(where), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told_by(process: "subprocess.Popen[str]") -> dict[str, int]:
    """What it says at its end."""
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert not COMPLAINTS.search(errors), errors
    told: dict[str, int] = json.loads(output)
    return told
