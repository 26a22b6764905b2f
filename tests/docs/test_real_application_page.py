"""The tutorial that ends with a real application works as it stands, step by step."""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from chatnest.cli import main
from chatnest.testing import Conversation, FakeUpstream
from docsite.files import blocks_of, write_files
from tests.docs.walk import NOT_RUN, Walk

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial/real-application.md"
TEXT = PAGE.read_text()


@pytest.mark.process
def test_each_command_prints_what_the_page_shows(tmp_path):
    with Walk(PAGE, tmp_path) as walk:
        walk.all()

    left_out = {each for each in NOT_RUN for command in walk.ran if command.startswith(each)}
    assert left_out == NOT_RUN.keys()


def test_the_hashes_are_those_of_the_keys():
    keys = re.findall(r"^\$ export ([A-Z]+)=(\S+)$", TEXT, re.MULTILINE)
    hashes = re.findall(r'"(\w+)": BearerKey\(\n\s+hashes="sha256:(\w+)"', TEXT)
    assert dict(hashes) == {
        name.lower(): hashlib.sha256(key.encode()).hexdigest() for name, key in keys
    }
    assert len(keys) == 3


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_one_line_asks_a_real_model(tmp_path, monkeypatch):
    write_files(PAGE, tmp_path)
    (change,) = [each.text for each in blocks_of(TEXT) if each.language == "diff"]
    old, new = [line[1:] for line in change.splitlines()]
    program = (tmp_path / "bakery.py").read_text()
    assert program.count(old) == 1
    program = program.replace(old, new).replace("DemoProvider", "OpenAIProvider")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "users", raising=False)
    monkeypatch.chdir(tmp_path)
    with FakeUpstream() as upstream:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
        names: dict[str, Any] = {"__name__": "bakery"}
        exec(program, names)
        (key,) = re.findall(r"^\$ export ANN=(\S+)$", TEXT, re.MULTILINE)
        ask = {"messages": [{"role": "user", "content": "Hello!"}]}
        headers = {"authorization": f"Bearer {key}"}
        async with Conversation(names["app"], json=ask, headers=headers) as asked:
            await asked.read_all()
            await asked.finished()
        await names["chat"].aclose()
    monkeypatch.delitem(sys.modules, "users")
    assert asked.status == 200
    assert upstream.requests[0].json["model"] == "gpt-4.1-mini"


def test_the_prices_are_those_of_the_model(capsys):
    pytest.importorskip("genai_prices", reason="the extra prices is not installed")
    with pytest.raises(SystemExit):
        main(["prices", "suggest", "gpt-4.1-mini", "--provider", "openai"])
    suggested = dict(re.findall(r'^(\w+) = ("[\d.]+")$', capsys.readouterr().out, re.MULTILINE))
    shown = re.findall(r"prices=\{(.*?)\}", TEXT, re.DOTALL)
    assert len(shown) == 2
    assert all(dict(re.findall(r'"(\w+)": ("[\d.]+")', each)) == suggested for each in shown)


def test_the_packages_of_the_page_are_those_that_the_tests_have():
    (install,) = re.findall(r"^\$ npm install (.+)$", TEXT, re.MULTILINE)
    wanted = json.loads((ROOT / "tests/clients/package.json").read_text())["dependencies"]
    for each in install.split():
        name, _, major = each.rpartition("@") if "@" in each[1:] else (each, "", "")
        assert wanted[name].startswith(major), each
