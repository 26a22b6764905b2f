"""A chat can be mounted without the packages of the extras; a command that needs one names it."""

import os
import subprocess
import sys

import pytest

from tests.test_package import PROJECT, names

pytestmark = pytest.mark.process

EXTRAS = {extra: names(each) for extra, each in PROJECT["optional-dependencies"].items()}
BROUGHT = {"sniffio"}
"""Packages of an extra that openai brings in any case."""

MOUNTED = """
import anyio
from chatnest import ChatNestApp, ChatNestMiddleware, OpenAIProvider
from chatnest.testing import Conversation, FakeUpstream, chat_nest_client

async def ask(upstream):
    chat = ChatNestApp(provider=OpenAIProvider(base_url=upstream.base_url))
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    async with Conversation(chat, json=body) as conversation:
        print(chat_nest_client(await conversation.read_all()).done)
    await chat.aclose()

with FakeUpstream() as upstream:
    anyio.run(ask, upstream)
"""


def run_without(packages: set[str], program: str) -> subprocess.CompletedProcess[str]:
    """A process in which these packages cannot be imported."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({sorted(packages)}))\n"
    environ = {**os.environ, "OPENAI_API_KEY": "sk-test"}
    command = [sys.executable, "-W", "error", "-c", blocked + program]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)


def test_a_chat_can_be_mounted_without_any_extra():
    done = run_without(set().union(*EXTRAS.values()) - BROUGHT, MOUNTED)

    assert (done.stderr, done.stdout) == ("", "True\n")


def test_the_prices_of_a_library_need_the_extra_prices_alone():
    program = "from chatnest.cli import main; main(['prices', 'suggest'])"

    done = run_without(EXTRAS["prices"], program)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "chatnest: chatnest prices: expected the package genai-prices, got none. Install the extra "
        "`prices`: pip install '.[prices]' in a copy of the repository.\n"
    )


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_command_that_needs_an_extra_names_it(command):
    program = f"from chatnest.cli import main; main([{command!r}, '--demo'])"

    done = run_without(EXTRAS["serve"] - BROUGHT, program)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"chatnest: chatnest {command}: expected the package uvicorn, got none. Install the extra "
        "`serve`: pip install '.[serve]' in a copy of the repository.\n"
    )


@pytest.mark.parametrize("command", ["key somebody", "check --help", "ledger --help"])
def test_the_other_commands_need_none(command):
    done = run_without(
        EXTRAS["serve"] - BROUGHT, f"from chatnest.cli import main; main({command.split()!r})"
    )

    assert (done.returncode, done.stderr) == (0, "")
