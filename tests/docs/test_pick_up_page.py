"""The commands of docs/how-to/pick-up.md, as they stand, against chatnest serve --demo."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chatnest.testing import parse_events
from tests.servers.support import Process

PAGE = Path(__file__).parents[2] / "docs/how-to/pick-up.md"
COMMANDS = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
MARK = "=" * 20


@pytest.mark.process
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_page(tmp_path: Path):
    command = ["-m", "chatnest", "serve", "--demo", "--port", "0", "--ledger", "memory:"]
    with Process(command, cwd=tmp_path) as process:
        script = f"echo {MARK}\n".join(COMMANDS).replace(":8000", f":{process.ready()}")
        ran = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        )
    asked, picked_up, repeated, receipt = ran.stdout.split(f"{MARK}\n")

    whole = parse_events(repeated.encode())
    assert asked.count("\nid: ") == 3
    assert [event.id for event in parse_events(picked_up.encode())][1] == "4"
    assert [e for e in parse_events(picked_up.encode()) if e.id] == [e for e in whole if e.id][3:]
    assert whole[-1].event == "done"
    assert json.loads(receipt) | {"run_id": "", "charged": 1} == {
        "run_id": "",
        "was_running": False,
        "outcome": "done",
        "charged": 1,
        "source": "provider",
    }
