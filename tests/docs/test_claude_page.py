"""The page on Claude shows the request that goes out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chatnest import AnthropicProvider, ChatNestApp
from chatnest.testing import Answer, Conversation, FakeUpstream
from tests.providers.anthropic_messages.events import WHOLE

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs/how-to/claude.md"


def shown(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


async def test_the_request_is_the_one_that_the_page_shows():
    names: dict[str, Any] = {}
    exec(compile(shown("python")[0], str(PAGE), "exec"), names)
    with FakeUpstream(path="/v1/messages") as upstream:
        upstream.default = Answer(body=WHOLE, content_type="text/event-stream")
        url = upstream.url.removesuffix("/v1/messages")
        provider = AnthropicProvider(model=names["provider"].model, base_url=url)
        chat = ChatNestApp(provider=provider)
        body = {"messages": [{"role": "user", "content": "Good morning"}]}
        async with Conversation(chat, json=body) as conversation:
            sent = (await conversation.read_all()).decode()
        await chat.aclose()
    assert "Hello" in sent
    assert upstream.last.json == json.loads(shown("json")[0])
