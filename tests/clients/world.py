"""The world of the clients: ``chatnest serve`` with every format, over a fake upstream."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from chatnest.testing import FakeUpstream
from tests.clients.node import MISSING, NodeClient, prepare
from tests.clients.python import PYTHON_CLIENTS
from tests.clients.python import ask as ask_python
from tests.servers.support import KEY, Process

__all__ = ["CLIENTS", "Client", "World", "world"]

Ask = Callable[[dict[str, Any]], dict[str, Any]]

CONFIG = """
[chat]
default_profile = "all"
client_system_prompt = "allow"
allowed_profiles = ["all", "busy", "spent", "narrow"]
ping_interval = 1.0

[bounds]
first_byte_seconds = 60
idle_seconds = 60

[ledger]
url = "memory:"

[runs]
linger = {linger}
deduplicate = {deduplicate}

[hard_caps]
daily_token_limit = 1000000000
requests_per_minute = 100000
max_concurrent_streams = 100

[models.gpt-4o]
model = "gpt-4o"

[profiles.all]
max_output_tokens = 1000
max_messages = 20
temperature = 0.7
daily_token_limit = 1000000000
max_tokens_per_request = 16000
requests_per_minute = 100000
max_concurrent_streams = 100
tools = true
images = true
structured_output = true

[profiles.busy]
max_output_tokens = 100
max_messages = 20
temperature = 0.7
daily_token_limit = 1000000000
max_tokens_per_request = 2000
requests_per_minute = 1
max_concurrent_streams = 100

[profiles.spent]
max_output_tokens = 100
max_messages = 20
temperature = 0.7
daily_token_limit = 200
max_tokens_per_request = 200
requests_per_minute = 100000
max_concurrent_streams = 100

[profiles.narrow]
max_output_tokens = 100
max_messages = 20
temperature = 0.7
daily_token_limit = 1000000000
max_tokens_per_request = 120
requests_per_minute = 100000
max_concurrent_streams = 100
"""


class Client(msgspec.Struct, frozen=True):
    """An official client, its format, and the kinds of content that it does not show."""

    name: str
    format: str
    language: str = "JavaScript"
    path: str = ""
    hides: frozenset[str] = frozenset()

    @property
    def program(self) -> str:
        return self.name.partition(":")[2] or self.name

    def __str__(self) -> str:
        return f"{self.language}-{self.name}"


_CHAT, _RESPONSES, _AI_SDK, _AG_UI = "openai-chat", "openai-responses", "ai-sdk", "ag-ui"
_UI = "/api/chat/ai-sdk"
_AG = "/api/chat/ag-ui"

CLIENTS = {
    str(each): each
    for each in (
        Client("openai_chat", _CHAT),
        Client("ai_openai_chat", _CHAT, hides=frozenset({"reasoning"})),
        Client("ai_openai_compatible", _CHAT, hides=frozenset({"sources"})),
        Client("agents_chat", _CHAT, hides=frozenset({"reasoning", "sources"})),
        Client("openai_chat", _CHAT, "Python"),
        Client("agents_chat", _CHAT, "Python", hides=frozenset({"sources"})),
        Client("langchain_chat", _CHAT, "Python", hides=frozenset({"reasoning", "sources"})),
        Client("openai_responses", _RESPONSES),
        Client("ai_openai_responses", _RESPONSES),
        Client("ai_open_responses", _RESPONSES, hides=frozenset({"sources"})),
        Client("agents_responses", _RESPONSES, hides=frozenset({"reasoning", "sources"})),
        Client("openai_responses", _RESPONSES, "Python"),
        Client("agents_responses", _RESPONSES, "Python", hides=frozenset({"sources"})),
        Client(
            "langchain_responses",
            _RESPONSES,
            "Python",
            hides=frozenset({"reasoning", "sources"}),
        ),
        Client("use_chat_7", _AI_SDK, path=_UI),
        Client("use_chat_6", _AI_SDK, path=_UI),
        Client("use_chat_5", _AI_SDK, path=_UI),
        Client("assistant_stream", _AI_SDK, path=_UI),
        Client("ag_ui_1", _AG_UI, path=_AG),
        Client("ag_ui_0", _AG_UI, path=_AG),
    )
}
"""The clients by language and name."""


class World:
    """A server with its upstream. A command goes to a client by ``ask``."""

    def __init__(self, place: Path, upstream: FakeUpstream, port: int, stack: ExitStack) -> None:
        self.upstream = upstream
        self.port = port
        self._folder = None if MISSING else prepare(place)
        self._stack = stack
        self._running: dict[str, NodeClient] = {}

    def ask(self, client: Client, act: str = "text", **fields: Any) -> dict[str, Any]:
        """The result of a command. ``model`` and ``port`` may be among the fields."""
        model = fields.pop("model", "gpt-4o")
        port = fields.pop("port", self.port)
        command = {
            "act": act,
            "text": "Hi",
            "model": model,
            "path": client.path,
            "base": f"http://127.0.0.1:{port}",
            "body": {"model": model},
            **fields,
        }
        return self._asking(client)(command)

    def _asking(self, client: Client) -> Ask:
        if client.language == "Python":
            assert client.program in PYTHON_CLIENTS
            return partial(ask_python, client.program)
        if client.program not in self._running:
            assert self._folder is not None
            node = NodeClient(self._folder, client.program)
            self._running[client.program] = self._stack.enter_context(node)
        return self._running[client.program].ask


@contextmanager
def world(place: Path, *, linger: float = 0.0, deduplicate: bool = True) -> Iterator[World]:
    """A server of its own, in a process."""
    config = place / "chatnest.toml"
    config.write_text(CONFIG.format(linger=linger, deduplicate=str(deduplicate).lower()))
    with ExitStack() as stack:
        upstream = stack.enter_context(FakeUpstream())
        environ = {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": KEY}
        command = ["-m", "chatnest", "serve", "--port", "0", "--config", str(config)]
        process = stack.enter_context(Process(command, cwd=place, **environ))
        yield World(place, upstream, process.ready(), stack)
