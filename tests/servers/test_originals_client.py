"""The way in which chat-nest's browser client reads, under Node, against a real server."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatnest import BALANCED, ChatNestApp, HardCaps, OpenAIProvider
from chatnest.testing import CANARY, Answer, FakeUpstream
from tests.servers.support import uvicorn_thread

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(
        not os.environ.get("CI") and shutil.which("node") is None, reason="there is no node"
    ),
]

HARD_TEXTS = {
    "leading spaces": ("  two", "  and two", " "),
    "newlines": ("a\n", "\n", "\n\nb", "event: done\ndata: \n\n"),
    "carriage returns": ("a\r\n", "\r", "\r\r\n"),
    "characters": ("Grüße", " 你好", " 👋🏽", "e\u0301", "\u2028\u2029", "\ufeff", "\0", "\x7f"),
    "quotes": ('"', "\\", '\\"', "\\n", "</script>"),
    "looks like frames": ("event: error", "data: {}", ": comment", "id: 7", "retry: 1"),
    "a long one": ("x" * 20_000, " " * 500),
    "many": tuple(f"{number} " for number in range(390)),
}


def read(
    upstream: FakeUpstream, *, release_after_pings: int | None = None, **options: Any
) -> dict[str, Any]:
    """What the client has seen of one answer. A model that stalls goes on after so many pings."""
    node = shutil.which("node")
    assert node is not None, "node is needed in CI"
    roomy = msgspec.structs.replace(
        BALANCED, max_output_tokens=100_000, max_tokens_per_request=110_000
    )
    caps = HardCaps(max_output_tokens=None, max_tokens_per_request=None)
    provider = OpenAIProvider(base_url=upstream.base_url)
    chat = ChatNestApp(provider=provider, profiles=[roomy], hard_caps=caps, **options)
    pings = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def count(message: Any) -> None:
            nonlocal pings
            await send(message)
            pings += message.get("body") == b"event: ping\ndata: \n\n"
            if pings == release_after_pings:
                upstream.release()

        await chat(scope, receive, count)

    with uvicorn_thread(app) as port:
        ended = subprocess.run(
            [
                node,
                Path(__file__).with_name("browser_client.mjs"),
                f"http://127.0.0.1:{port}/api/chat",
            ],
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    seen: dict[str, Any] = json.loads(ended.stdout)
    return seen


@pytest.mark.parametrize("name", HARD_TEXTS)
def test_it_reads_the_very_text_that_the_model_wrote(upstream, name):
    pieces = HARD_TEXTS[name]
    upstream.script(Answer(pieces=pieces))
    seen = read(upstream)
    assert seen["text"] == "".join(pieces)
    assert (seen["status"], seen["started"], seen["done"], seen["error"]) == (200, 1, 1, None)
    assert seen["blocks"] == ["start", *["token"] * len(pieces), "done"]


def test_it_reads_frames_that_were_cut_anywhere(upstream):
    pieces = HARD_TEXTS["characters"]
    upstream.script(Answer(pieces=pieces, split=1))
    assert read(upstream)["text"] == "".join(pieces)


def test_it_minds_neither_pings_nor_the_usage_event(upstream):
    upstream.script(Answer.stall(1, pieces=("a", "b", "c")))
    seen = read(upstream, release_after_pings=2, ping_interval=0.01, usage_event=True)
    assert (seen["text"], seen["done"], seen["error"]) == ("abc", 1, None)
    assert seen["pings"] > 1
    assert seen["blocks"][-2:] == ["usage", "done"]


def test_it_is_told_of_an_error_in_the_stream(upstream):
    upstream.script(Answer.error_event(2))
    seen = read(upstream)
    assert seen["text"] == "Hello world"
    assert seen["done"] == 0
    assert seen["error"]["message"] == "The model's provider failed."
    assert seen["error"]["code"] == "upstream_error"
    assert CANARY not in json.dumps(seen)


def test_it_is_told_of_a_refusal(upstream):
    upstream.default = Answer.error(401)
    seen = read(upstream)
    assert seen["status"] == 503
    assert isinstance(seen["error"]["error"], str)
