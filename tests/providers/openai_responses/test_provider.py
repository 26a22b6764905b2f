"""The provider of the Responses API, over real sockets: the contract, requests, refusals."""

import json
import logging
from typing import Any

import openai
import pytest

from chatnest import ChatNestApp, ConfigurationError
from chatnest.conversation import Message
from chatnest.errors import UpstreamBadResponse, UpstreamError, UpstreamRejected
from chatnest.events import Delta, Finish, ReasoningSignature, Source, Usage
from chatnest.providers import OpenAIResponsesProvider, ResponsesParameters
from chatnest.providers.base import OfferingStream
from chatnest.requests import ModelRequest, OutputFormat, Tool
from chatnest.testing import Answer, Conversation, FakeUpstream, ProviderContract
from chatnest.testing.answer_contract import answer_of, question, text_of
from chatnest.testing.provider_script import failure
from chatnest.turn import ModelCall
from tests.providers.openai_responses.shapes import (
    CALLS,
    FULL,
    THINKING,
    event,
    last,
    message,
    response,
    text,
)
from tests.testing_kit.answers import EVERYTHING

pytestmark = pytest.mark.anyio

PATH = "/v1/responses"
KEY = "sk-a-key"
GOOD = Answer(events=(FULL,))


def provider_at(upstream: FakeUpstream, model: str = "gpt-4o-mini", **options: Any) -> Any:
    return OpenAIResponsesProvider(
        model=model, base_url=upstream.url.removesuffix("/responses"), api_key=KEY, **options
    )


class TestOpenAIResponses(ProviderContract):
    path = PATH

    def provider(self, url):
        return OpenAIResponsesProvider(model="gpt-4o-mini", base_url=url, api_key="k")

    def text(self, piece):
        return text(piece)

    def ending(self):
        return [last(usage={"input_tokens": 9, "output_tokens": 4, "total_tokens": 13})]


def refused(status: int, message: str = "", **error: Any) -> Answer:
    document = {"error": {"message": message, "type": "invalid_request_error", **error}}
    return Answer(status=status, body=json.dumps(document).encode())


async def asked(
    *answers: Answer, call: ModelCall | None = None, calls: int = 1, **options: Any
) -> list[dict[str, Any]]:
    """The bodies of all requests for a number of calls."""
    with FakeUpstream(*answers, path=PATH) as upstream:
        upstream.default = GOOD
        provider = provider_at(upstream, **options)
        for _ in range(calls):
            assert text_of(await answer_of(provider, call or question())) == "Hello world"
        await provider.aclose()
        return [request.json for request in upstream.requests]


def a_call(**fields: Any) -> ModelCall:
    known: dict[str, Any] = {"max_output_tokens": 50, "temperature": 0.5}
    messages = (Message.of("system", "Be kind."), Message.of("user", "Hello"))
    request = ModelRequest(**{"messages": messages, **known, **fields})
    return ModelCall(request=request, request_id="a")


INPUT = [
    {"type": "message", "role": "system", "content": "Be kind."},
    {"type": "message", "role": "user", "content": "Hello"},
]


async def test_a_request_has_all_of_the_conversation_and_stores_nothing():
    (body,) = await asked(call=a_call())

    assert body == {
        "model": "gpt-4o-mini",
        "input": INPUT,
        "stream": True,
        "store": False,
        "max_output_tokens": 50,
        "temperature": 0.5,
    }


async def test_a_request_to_a_model_that_reasons():
    tool = Tool(name="stop", parameters='{"type":"object"}')
    call = a_call(model="gpt-5-mini", effort="low", tools=(tool,), output=OutputFormat())
    (body,) = await asked(call=call)

    assert body == {
        "model": "gpt-5-mini",
        "input": INPUT,
        "stream": True,
        "store": False,
        "max_output_tokens": 50,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "tools": [
            {"type": "function", "name": "stop", "parameters": {"type": "object"}, "strict": False}
        ],
        "tool_choice": "auto",
        "text": {"format": {"type": "json_object"}},
    }


async def test_options_are_added_and_replace():
    (body,) = await asked(options={"service_tier": "flex", "temperature": 0})

    assert (body["service_tier"], body["temperature"]) == ("flex", 0)


@pytest.mark.parametrize("field", ["input", "stream", "max_output_tokens", "background"])
def test_an_option_that_chatnest_sets_is_refused(field):
    with pytest.raises(ConfigurationError, match=field):
        OpenAIResponsesProvider(model="m", api_key=KEY, options={field: 1})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": " "}, "model: expected"),
        ({"base_url": "ftp://x"}, "base_url: expected"),
        ({"encoding": "none"}, "encoding"),
        ({"api_key": '"k"'}, "api_key: expected a key"),
        ({"parameters": {}}, "parameters: expected ResponsesParameters"),
        ({"server": {}}, "server: expected ServerSettings"),
    ],
)
def test_settings_are_checked(options, words):
    with pytest.raises(ConfigurationError, match=words):
        OpenAIResponsesProvider(**{"model": "m", "api_key": KEY, **options})


@pytest.mark.parametrize(
    ("address", "least"),
    [
        (None, 16),
        ("https://name.openai.azure.com/openai/v1", 16),
        ("https://gateway.example.com/v1", 16),
        ("http://127.0.0.1:8080/v1", 1),
    ],
)
def test_only_local_servers_accept_a_limit_of_less_than_16_tokens(address, least):
    provider = OpenAIResponsesProvider(model="m", api_key=KEY, base_url=address)
    assert provider.least_output_tokens == least


def test_openai_needs_a_key_and_another_server_does_not(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        OpenAIResponsesProvider(model="gpt-5-mini")

    provider = OpenAIResponsesProvider(model="m", base_url="http://u:secret@127.0.0.1/v1")
    assert provider.is_local
    assert "secret" not in repr(provider)


@pytest.mark.parametrize(
    ("address", "pads"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://name.openai.azure.com/openai/v1", True),
        ("http://127.0.0.1:8080/v1", False),
        ("https://openrouter.ai/api/v1", False),
    ],
)
def test_only_openais_servers_are_asked_not_to_pad_events(address, pads):
    provider = OpenAIResponsesProvider(model="m", api_key=KEY, base_url=address)
    body, _ = provider._body(a_call(), "m", provider._known("m"))

    assert ("stream_options" in body) == pads


async def test_the_head_is_the_sdks():
    with FakeUpstream(path=PATH) as upstream:
        upstream.default = GOOD
        provider = provider_at(upstream)
        await answer_of(provider, question())
        await provider.aclose()
        base_url = upstream.url.removesuffix("/responses")
        async with openai.AsyncOpenAI(api_key=KEY, base_url=base_url, max_retries=0) as client:
            stream = await client.responses.create(model="m", input="Hello", stream=True)
            await stream.close()

    of_the_transport = {"accept", "accept-encoding", "connection", "content-length", "host"}
    ours, theirs = (
        {name: value for name, value in seen.headers.items() if name not in of_the_transport}
        for seen in upstream.requests
    )
    assert ours == theirs


async def test_a_client_of_ones_own_is_used():
    tool = Tool(name="stop", parameters='{"type":"object"}')
    with FakeUpstream(path=PATH) as upstream:
        upstream.default = GOOD
        base_url = upstream.url.removesuffix("/responses")
        async with openai.AsyncOpenAI(api_key=KEY, base_url=base_url) as client:
            provider = OpenAIResponsesProvider(model="m", client=client)
            call = a_call(tools=(tool,))
            assert text_of(await answer_of(provider, call)) == "Hello world"

            upstream.script(Answer.error(500))
            assert isinstance(await failure(provider), UpstreamError)
    assert upstream.requests[0].json["tools"][0]["parameters"] == {"type": "object"}
    assert len(upstream.requests) == 2


# ---------------------------------------------------------------- fields that are refused

REFUSED = {
    "thinking in encrypted form": (
        "NousResearch/hermes-agent#23450",
        refused(400, "Encrypted content is not supported with this model.", param="include"),
        "include",
    ),
    "a summary of the thinking": (
        "OpenHands/software-agent-sdk#987",
        refused(
            400,
            "Your organization must be verified to generate reasoning summaries.",
            param="reasoning.summary",
            code="unsupported_value",
        ),
        "summary",
    ),
    "store": (
        "a server that forbids other fields, as pydantic reports it",
        Answer(
            status=422,
            body=b'{"detail":[{"type":"extra_forbidden","loc":["body","store"],'
            b'"msg":"Extra inputs are not permitted"}]}',
        ),
        "store",
    ),
}


@pytest.mark.parametrize(("source", "refusal", "field"), REFUSED.values(), ids=REFUSED)
async def test_a_field_that_is_refused_is_left_out_from_then_on(source, refusal, field, caplog):
    caplog.set_level(logging.WARNING, "chatnest.providers.openai")
    call = a_call(model="o3", effort="low")
    first, second, third = await asked(refusal, call=call, calls=2)

    assert field in {**first, **first["reasoning"]}
    assert field not in {**second, **second["reasoning"]}
    assert second == third
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "model 'o3'" in record.getMessage()


async def test_what_one_model_refuses_another_still_gets():
    refusal = refused(400, "Unsupported parameter", param="temperature")
    with FakeUpstream(refusal, path=PATH) as upstream:
        upstream.default = GOOD
        provider = provider_at(upstream)
        for model in ("a", "a", "b"):
            await answer_of(provider, a_call(model=model))
        await provider.aclose()

    bodies = [
        (request.json["model"], "temperature" in request.json) for request in upstream.requests
    ]
    assert bodies == [("a", True), ("a", False), ("a", False), ("b", True)]


async def test_an_effort_that_is_refused_is_left_out_once():
    refusal = refused(
        400, "Unsupported value: 'xhigh'", param="reasoning.effort", code="unsupported_value"
    )
    call = a_call(model="o3", effort="xhigh")
    bodies = await asked(refusal, call=call, calls=2)

    assert ["reasoning" in body for body in bodies] == [True, False, True]


async def test_other_refusals_are_not_tried_again():
    refusal = refused(400, "Invalid image.", param="input[0].content[1].image_url")
    with FakeUpstream(refusal, path=PATH) as upstream:
        provider = provider_at(upstream)
        assert isinstance(await failure(provider), UpstreamRejected)
        await provider.aclose()
    assert len(upstream.requests) == 1


# ---------------------------------------------------------------- answers


async def answers(stream: bytes, call: ModelCall, **options: Any) -> list[Any]:
    with FakeUpstream(Answer(events=(stream,)), path=PATH) as upstream:
        provider = provider_at(upstream, **options)
        try:
            return await answer_of(provider, call)
        finally:
            await provider.aclose()


async def test_thinking_is_signed_by_the_dialect_and_the_model():
    shape = THINKING["thinking that is not shown"]
    events = await answers(shape.stream, a_call(model="gpt-5-mini"))

    (signature,) = (each for each in events if isinstance(each, ReasoningSignature))
    assert signature == ReasoningSignature("c2VjcmV0", "openai-responses", "gpt-5-mini", id="rs_1")


async def test_calls_come_only_if_tools_were_sent():
    shape = CALLS["a call"]
    assert await answers(shape.stream, a_call(tools=(Tool(name="look_up"),))) == shape.events
    assert await answers(shape.stream, a_call(), options={"tools": [{}]}) == shape.events
    with pytest.raises(UpstreamBadResponse):
        await answers(shape.stream, a_call())


async def test_an_answer_with_each_kind_of_part():
    with FakeUpstream(EVERYTHING) as upstream:
        provider = OpenAIResponsesProvider(
            model="gpt-5-mini", base_url=upstream.base_url, api_key=KEY
        )
        events = await answer_of(provider, a_call(tools=(Tool(name="weather"),)))
        await provider.aclose()

    assert upstream.last.path == PATH
    assert [type(each).__name__ for each in events] == [
        *("Reasoning", "Reasoning", "ReasoningSignature", "Reasoning", "ReasoningSignature"),
        *("Delta", "Delta", "Source", "Source"),
        *("ToolCall", "ToolCallDelta", "ToolCallDelta", "ToolCallDelta"),
        *("ToolCall", "ToolCallDelta", "Finish", "Usage"),
    ]
    assert text_of(events) == "I will look. "
    assert events[7] == Source("https://example.org/a", "A page", 0, 13)
    assert events[-2:] == [
        Finish("tool_calls"),
        Usage(
            *(120, 40, "provider", 64, 16, 25, 0, "default", "gpt-5-mini"),
            response_id=events[-1].response_id,  # type: ignore[union-attr]  # a Usage
        ),
    ]


async def test_a_connection_is_reused_after_the_last_event():
    with FakeUpstream(path=PATH) as upstream:
        upstream.default = GOOD
        provider = provider_at(upstream)
        for _ in range(3):
            await answer_of(provider, question())
        assert upstream.connections == 1
        await provider.aclose()


async def test_a_document_in_place_of_a_stream():
    body = json.dumps(response("completed", message("Hello"))).encode()
    with FakeUpstream(Answer(body=body), path=PATH) as upstream:
        provider = provider_at(upstream)
        events = await answer_of(provider, question())
        await provider.aclose()

    assert [type(each) for each in events] == [Delta, Finish, Usage]


async def test_the_last_event_may_be_as_long_as_the_answer():
    long = "word " * 100_000
    events = await answers(text(long[:50_000]) + last(message(long)), question())

    assert text_of(events) == long[:50_000]


async def test_its_stream_offers():
    with FakeUpstream(path=PATH) as upstream:
        upstream.default = GOOD
        provider = provider_at(upstream, parameters=ResponsesParameters(reasons=True))
        async with provider.open(question()) as stream:
            assert isinstance(stream, OfferingStream)
        await provider.aclose()


class Taker:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def take(self, text: str) -> bool:
        self.texts.append(text)
        return True


@pytest.mark.loops("asyncio", "uvloop")
async def test_pieces_that_arrive_alone_take_the_short_cut(anyio_backend):
    words = [f" word{number}" for number in range(20)]
    taker, events = Taker(), list[Any]()
    answer = Answer(events=(*map(text, words), last()), pace=0.01)
    with FakeUpstream(answer, path=PATH) as upstream:
        provider = provider_at(upstream)
        async with provider.open(question()) as stream:
            stream.offer(taker)
            async for batch in stream:
                events += batch
        await provider.aclose()

    assert taker.texts  # some pieces may have met
    assert {*taker.texts, *(event.text for event in events if isinstance(event, Delta))} >= {
        words[-1]
    }
    assert len(taker.texts) + text_of(events).count("word") == len(words)


async def test_a_chat_over_it():
    with FakeUpstream(path=PATH) as upstream:
        upstream.default = Answer(
            events=(event("response.created", response={}), text("Hi"), last())
        )
        chat = ChatNestApp(provider=provider_at(upstream))
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        async with Conversation(chat, json=body) as conversation:
            sent = (await conversation.read_all()).decode()
        await chat.aclose()

    assert 'data: "Hi"' in sent
    assert "event: done" in sent
