"""AnthropicProvider over sockets: the head of its requests, whole conversations, its settings."""

import gzip
from typing import Any

import anyio
import pytest

from chatnest import AnthropicProvider, ServerSettings
from chatnest.answer import Answer as Answered
from chatnest.conversation import Message, Reasoning, Text, ToolResult
from chatnest.errors import ConfigurationError, UpstreamBadResponse
from chatnest.events import Delta, Finish, ProviderEvent, ReasoningSignature
from chatnest.providers.anthropic_messages.request import request_head
from chatnest.providers.base import OfferingStream
from chatnest.requests import ModelRequest
from chatnest.testing import Answer, FakeUpstream
from chatnest.testing.answer_contract import answer_of, question, text_of
from chatnest.turn import ModelCall
from tests.providers.anthropic_messages.events import (
    LAST,
    SAID,
    WHOLE,
    block,
    delta,
    end,
    start,
    stop,
)

pytestmark = pytest.mark.anyio

PATH = "/v1/messages"
STREAM = "text/event-stream"


def provider_at(upstream: FakeUpstream, **settings: Any) -> AnthropicProvider:
    return AnthropicProvider(base_url=upstream.url.removesuffix(PATH), **settings)


async def test_the_head_has_the_key_and_the_version():
    with FakeUpstream(path=PATH) as upstream:
        upstream.default = Answer(body=WHOLE, content_type=STREAM)
        provider = provider_at(upstream, api_key="sk-ant-1")
        call = question()
        assert text_of(await answer_of(provider, call)) == "Hello world"
        await provider.aclose()
    headers = upstream.last.headers
    assert headers["x-api-key"] == "sk-ant-1"
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["content-type"] == "application/json"
    assert (headers["accept"], headers["accept-encoding"]) == (STREAM, "identity")
    assert (call.status, call.content_type) == (200, STREAM)
    assert call.place == upstream.url.removesuffix(PATH)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/messages/", "https://api.anthropic.com/v1/messages"),
        ("https://api.deepseek.com/anthropic", "https://api.deepseek.com/anthropic/v1/messages"),
        ("http://gw/x?a=1", "http://gw/x/v1/messages?a=1&beta=true"),
    ],
)
def test_the_address_has_the_path_once(base_url, url):
    server = ServerSettings(query={"beta": "true"} if "?" in url else {})
    assert request_head(base_url, "", server).url == url


def test_a_gateway_may_want_the_key_elsewhere():
    server = ServerSettings(headers={"X-Api-Key": "other", "Authorization": "Bearer b"})
    fields = dict(request_head("http://gw", "mine", server).fields)
    assert (fields["x-api-key"], fields["authorization"]) == ("other", "Bearer b")
    assert "x-api-key" not in dict(request_head("http://gw", "", ServerSettings()).fields)


async def test_a_turn_with_tools_goes_back_as_it_came():
    asks = (
        start()
        + block(0, "thinking", thinking="", signature="")
        + delta(0, "thinking_delta", thinking="Wé must look.")
        + delta(0, "signature_delta", signature="c2ln+/=")
        + stop(0)
        + block(1, "redacted_thinking", data="ZGF0YQ==")
        + stop(1)
        + block(2, "text", text="")
        + delta(2, "text_delta", text="One moment.")
        + stop(2)
        + block(3, "tool_use", id="toolu_1", name="weather", input={})
        + delta(3, "input_json_delta", partial_json='{"city": ')
        + delta(3, "input_json_delta", partial_json='"Paris",  "n": 1.50}')
        + stop(3)
        + end("tool_use")
        + LAST
    )
    replies = [Answer(body=body, content_type=STREAM) for body in (asks, WHOLE)]
    with FakeUpstream(*replies, path=PATH) as upstream:
        provider = provider_at(upstream, model="claude-opus-5")
        user = Message.of("user", "Warm?")
        events = await answer_of(provider, asked(user))
        result = Message("tool", (ToolResult(call_id="toolu_1", text="Sunny"),))
        await answer_of(provider, asked(user, Message("assistant", parts_of(events)), result))
        await provider.aclose()

    assert upstream.last.json["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Wé must look.", "signature": "c2ln+/="},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        {"type": "text", "text": "One moment."},
        {
            "type": "tool_use",
            "id": "toolu_1",
            "name": "weather",
            "input": {"city": "Paris", "n": 1.5},
        },
    ]
    assert b'"input":{"city": "Paris",  "n": 1.50}' in upstream.last.body


def asked(*messages: Message) -> ModelCall:
    request = ModelRequest(messages=messages, max_output_tokens=4_000, temperature=0.5)
    return ModelCall(request=request, request_id="a-request")


def parts_of(events: list[ProviderEvent]) -> tuple[Any, ...]:
    """The parts of the answer, as a client sends them back."""
    answer, parts = Answered(), list[Any]()
    for event in events:
        answer.add([event])
        if isinstance(event, ReasoningSignature):
            parts.append(
                Reasoning(
                    text="" if event.redacted else answer.thinking,
                    signature=event.signature,
                    provider=event.provider,
                    model=event.model,
                    redacted=event.redacted,
                )
            )
    parts.append(Text(answer.text))
    return (*parts, *answer.tool_calls)


@pytest.mark.loops("asyncio", "uvloop")
async def test_text_that_arrives_alone_takes_the_short_cut():
    taken: list[str] = []

    class Taker:
        def take(self, offered: object, /) -> bool:
            assert isinstance(offered, str)
            taken.append(offered)
            return True

    pieces = [part + b"\n\n" for part in WHOLE.split(b"\n\n")[:-1]]
    answer = Answer(events=tuple(pieces), pace=0.01)
    with FakeUpstream(answer, path=PATH) as upstream:
        provider = provider_at(upstream)
        events: list[ProviderEvent] = []
        with anyio.fail_after(20):
            async with provider.open(question()) as stream:
                assert isinstance(stream, OfferingStream)
                stream.offer(Taker())
                async for batch in stream:
                    events += batch
        await provider.aclose()
    said = [event.text for event in events if isinstance(event, Delta)]
    assert sorted([*taken, *said]) == [" world", "Hello"]
    assert taken, "no piece took it"
    assert Finish("stop") in events


async def test_a_compressed_answer_is_read_and_another_coding_is_refused():
    packed = Answer(
        body=gzip.compress(WHOLE), content_type=STREAM, headers={"content-encoding": "gzip"}
    )
    odd = Answer(body=WHOLE, content_type=STREAM, headers={"content-encoding": "br"})
    with FakeUpstream(packed, odd, path=PATH) as upstream:
        provider = provider_at(upstream)
        assert text_of(await answer_of(provider, question())) == "Hello world"
        with pytest.raises(UpstreamBadResponse):
            await answer_of(provider, question())
        await provider.aclose()


async def test_an_answer_larger_than_its_bound_is_refused():
    with FakeUpstream(path=PATH) as upstream:
        upstream.default = Answer(body=WHOLE, content_type=STREAM)
        provider = provider_at(upstream, max_answer_bytes=len(SAID) - 1)
        with pytest.raises(UpstreamBadResponse):
            await answer_of(provider, question())
        await provider.aclose()


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": " "}, "model: expected the name of a model"),
        ({"base_url": "api.anthropic.com"}, "base_url: expected an address"),
        ({"api_key": "é"}, "api_key: expected printable ASCII"),
        ({"api_key": '"k"'}, "api_key: expected a key, got one with blanks or quotes"),
        ({"encoding": "x"}, "encoding: expected one of"),
        ({"server": {}}, "server: expected ServerSettings"),
        ({"options": {"stream": False}}, r"options\['stream'\]: expected a field that chatnest"),
    ],
)
def test_a_wrong_setting_is_refused_at_the_start(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        AnthropicProvider(**{"api_key": "k", **settings})


def test_a_key_is_needed_for_anthropic_alone(monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="Set ANTHROPIC_API_KEY"):
        AnthropicProvider()
    assert AnthropicProvider(base_url="http://127.0.0.1:11434").is_local
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    provider = AnthropicProvider()
    assert repr(provider) == (
        "AnthropicProvider(model='claude-haiku-4-5', base_url='https://api.anthropic.com')"
    )
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://me:pw@gateway:4000")
    assert "pw" not in repr(AnthropicProvider())
