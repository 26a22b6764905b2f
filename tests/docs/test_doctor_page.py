"""What the page about the doctor shows is what the command says; versions and limits aside."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.support import said

PAGE = (Path(__file__).parents[2] / "docs/how-to/doctor.md").read_text()


def lasting(text: str) -> str:
    text = re.sub(r"^(ok    version\.\w+ +).*", r"\1VERSION", text, flags=re.MULTILINE)
    return re.sub(r"^\w+ +(machine\.open_files +).*", r"\1", text, flags=re.MULTILINE)


@pytest.mark.process
def test_the_command_says_what_the_page_shows(tmp_path: Path):
    (block,) = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    command, _, shown = block.partition("\n")
    prompt, program, *arguments = shlex.split(command)
    assert (prompt, program) == ("$", "chatnest")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("CHATNEST_", "OPENAI_"))}

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments],
        cwd=tmp_path,
        env={**environ, "OPENAI_API_KEY": "sk-not-a-key"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, said(done.stderr)) == (1, "")
    assert lasting(done.stdout) == lasting(shown)


LIMITED = """
import resource, sys
resource.getrlimit = lambda _: (65_536, 65_536)
import pytest

from chatnest.cli import main
main(sys.argv[1:])
"""
"""As on the page, on any machine: the last line counts what is ok."""


def test_the_page_names_every_level():
    levels = re.findall(r"^\| (\w+) \|", PAGE, re.MULTILINE)
    assert levels[:5] == ["level", "ok", "warn", "fail", "skip"]
