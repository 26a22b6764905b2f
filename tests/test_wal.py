"""The files of SQLite that several processes write, with an older SQLite too."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sqlite3, sys
sqlite3.sqlite_version_info = tuple(map(int, sys.argv[2].split(".")))

import anyio
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.runs.sqlite import SQLiteRunLog

async def use():
    ledger, log = SQLiteLedger(sys.argv[1]), SQLiteRunLog(sys.argv[1] + "-runs")
    await ledger.check()
    await log.claim(None, owner="ann", fingerprint="f", run_id="r", lease=10)
    await ledger.aclose()
    await log.aclose()

anyio.run(use)
for path in sys.argv[1], sys.argv[1] + "-runs":
    tables = sqlite3.connect(path).execute("SELECT sql FROM sqlite_master WHERE type = 'table'")
    print(all("STRICT" in sql for (sql,) in tables))
"""


@pytest.mark.process
@pytest.mark.parametrize(("version", "strict"), [("3.36.0", "False"), ("3.37.0", "True")])
def test_tables_are_strict_where_sqlite_knows_what_that_is(version, strict, tmp_path: Path):
    """Or an older one could not make them."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "books"), version]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout.split(), result.stderr) == ([strict, strict], "")
