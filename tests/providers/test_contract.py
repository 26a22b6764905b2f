"""What every provider does: the contract, over ours and over the one that a page shows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chatnest import ChatNestApp, DemoProvider, OpenAIProvider
from chatnest.errors import UpstreamBadResponse
from chatnest.providers.base import OfferingStream
from chatnest.testing import Answer, AnswerContract, Conversation, FakeUpstream, ProviderContract
from chatnest.testing.answer_contract import question

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs/how-to/custom-provider.md"


class TestDemo(AnswerContract):
    def make(self):
        return DemoProvider(pace=0)


class TestOpenAI(ProviderContract):
    def provider(self, url):
        return OpenAIProvider(base_url=url.removesuffix("/chat/completions"), api_key="k")

    def text(self, piece):
        return event({"choices": [{"index": 0, "delta": {"content": piece}}]})

    def ending(self):
        usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
        return [
            event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            event({"choices": [], "usage": usage}),
            b"data: [DONE]\n\n",
        ]


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def shown() -> dict[str, Any]:
    """The names of the page's programs, run one after the other."""
    names: dict[str, Any] = {}
    for text in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(text, str(PAGE), "exec"), names)
    return names


SHOWN = shown()
TestAsShown = SHOWN["TestBakery"]


async def test_the_page_shows_what_comes_out():
    events = [b'data: {"word": "Good"}\n\n', b'data: {"word": " morning"}\n\n']
    ending = b'data: {"stop": "end", "in": 9, "out": 2}\n\n'
    with FakeUpstream(Answer(events=(*events, ending)), path="/bake") as upstream:
        chat = ChatNestApp(provider=SHOWN["Bakery"](upstream.url))
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        async with Conversation(chat, json=body) as conversation:
            sent = (await conversation.read_all()).decode()
        await chat.aclose()

    (block,) = re.findall(r"^```\n(event: [^`]+)^```", PAGE.read_text(), re.MULTILINE)
    assert f"{block}\n" in sent
    assert upstream.last.headers["x-bakery-key"] == "secret"
    assert upstream.last.json["prompt"] == "Hello"


@pytest.mark.parametrize(
    "data", [b'{"word": 7}', b'{"word": null}', b'{"word": ["a"]}', b"[]", b"7"]
)
def test_a_word_that_is_no_text_is_a_bad_response(data):
    with pytest.raises(UpstreamBadResponse):
        SHOWN["events_of"](data)


async def test_the_stream_of_openai_offers_and_the_one_of_the_page_does_not():
    with FakeUpstream() as upstream:
        provider = OpenAIProvider(base_url=upstream.base_url, api_key="k")
        async with provider.open(question()) as stream:
            assert isinstance(stream, OfferingStream)
        await provider.aclose()
    demo = DemoProvider(pace=0)
    async with demo.open(question()) as stream:
        assert not isinstance(stream, OfferingStream)
