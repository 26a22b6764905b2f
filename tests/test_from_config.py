"""ChatNestApp.from_config: the chat of a file and of the environment, for an application."""

import pytest

from chatnest import ChatNestApp
from chatnest.errors import ConfigurationError
from chatnest.testing import Conversation, FakeUpstream, chat_nest_client

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path, upstream: FakeUpstream):
    file = tmp_path / "chatnest.toml"
    file.write_text(
        f"""
        [provider]
        base_url = "{upstream.base_url}"
        model = "of-the-file"
        [ledger]
        url = "memory:"
        """
    )
    return file


async def test_it_asks_as_the_file_and_the_environment_say(path, upstream, monkeypatch):
    monkeypatch.setenv("CHATNEST_PROFILES__BALANCED__MAX_OUTPUT_TOKENS", "77")
    chat = ChatNestApp.from_config(path)
    async with Conversation(chat, json={"messages": [{"role": "user", "content": "Hi"}]}) as c:
        assert chat_nest_client(await c.read_all()).done
    await chat.aclose()

    assert upstream.last.json["model"] == "of-the-file"
    assert upstream.last.json["max_tokens"] == 77


async def test_a_path_may_be_a_string(path):
    chat = ChatNestApp.from_config(str(path))
    await chat.aclose()


async def test_a_slip_is_named_with_its_file(path):
    path.write_text("[chat]\nsystem_promt = 'Be brief.'\n")

    with pytest.raises(ConfigurationError, match=r"system_promt.*"):
        ChatNestApp.from_config(path)


async def test_an_argument_is_named_by_its_key(path):
    path.write_text(path.read_text() + "[chat]\nping_interval = -1\n")

    with pytest.raises(ConfigurationError, match=r"chat\.ping_interval"):
        ChatNestApp.from_config(path)


def test_unknown_events_stop_the_start(tmp_path):
    path = tmp_path / "chatnest.toml"
    provider = '[provider]\nbase_url = "http://127.0.0.1:9/v1"\n'
    path.write_text(f'[chat]\nevents = ["thoughts"]\n{provider}[ledger]\nurl = "memory:"\n')
    with pytest.raises(ConfigurationError, match=r"chat\.events: expected a list of some of"):
        ChatNestApp.from_config(path)
