"""Refusals of the API: which error each becomes, and the requests that avoid one."""

import json
from typing import Any

import pytest

from chatnest import AnthropicProvider
from chatnest.conversation import Message
from chatnest.errors import (
    ContextLengthExceeded,
    UpstreamAccount,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamServerError,
)
from chatnest.events import Finish
from chatnest.providers.anthropic_messages.models import Traits
from chatnest.providers.refusals.error_documents import read_refusal
from chatnest.providers.refusals.faults import error_for
from chatnest.requests import ModelRequest, OutputFormat, Tool, ToolChoice
from chatnest.testing import Answer, FakeUpstream
from chatnest.testing.answer_contract import answer_of, question
from chatnest.turn import ModelCall
from tests.providers.anthropic_messages.events import WHOLE


def document(kind: str, message: str = "x") -> bytes:
    error = {"type": kind, "message": message, "details": None}
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


# The kinds: platform.claude.com/docs/en/api/errors.
REFUSALS = [
    (400, document("invalid_request_error"), UpstreamRejected),
    (
        400,
        document("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        ContextLengthExceeded,
    ),
    (
        400,
        document(
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        ),
        ContextLengthExceeded,
    ),
    (
        400,  # anthropics/claude-code#66314
        document(
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & "
            "Billing to upgrade or purchase credits.",
        ),
        UpstreamAccount,
    ),
    (
        400,
        document("invalid_request_error", "You have reached your specified API usage limits."),
        UpstreamAccount,
    ),
    (
        400,
        document("invalid_request_error", "This organization has been disabled."),
        UpstreamAccount,
    ),
    (400, document("invalid_request_error", "max_tokens: 99999 > 64000"), UpstreamRejected),
    (401, document("authentication_error", "invalid x-api-key"), UpstreamAccount),
    (402, document("billing_error"), UpstreamAccount),
    (403, document("permission_error"), UpstreamAccount),
    (404, document("not_found_error", "model: claude-9"), UpstreamRejected),
    (413, document("request_too_large", "Request exceeds the maximum size"), ContextLengthExceeded),
    (429, document("rate_limit_error", "This would exceed your rate limit"), UpstreamOverloaded),
    (429, document("rate_limit_error", "Your monthly spend limit is reached"), UpstreamAccount),
    (500, document("api_error"), UpstreamServerError),
    (504, document("timeout_error"), UpstreamServerError),
    (529, document("overloaded_error", "Overloaded"), UpstreamOverloaded),
    (529, b"", UpstreamOverloaded),
]


@pytest.mark.parametrize(("status", "body", "expected"), REFUSALS)
def test_a_refusal_is_its_error(status: int, body: bytes, expected: type[UpstreamError]):
    assert type(error_for(read_refusal(body), status=status)) is expected


def test_a_limit_says_when_it_ends():
    refusal = read_refusal(document("rate_limit_error"))
    assert error_for(refusal, status=429, headers={"retry-after": "7"}).retry_after == 7
    used_up = {
        "anthropic-ratelimit-requests-remaining": "5",
        "anthropic-ratelimit-requests-reset": "40s",
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "3s",
    }
    assert error_for(refusal, status=429, headers=used_up).retry_after == 3


# ---------------------------------------------------------------- fields that a model refuses

TOOL = Tool(name="f")
EVERYTHING: dict[str, Any] = {
    "temperature": 0.5,
    "thinking": {"type": "enabled"},
    "tool_choice": {"type": "any"},
    "output_config": {"effort": "low", "format": {}},
}
USE_ADAPTIVE = (
    'Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
)
LEARNED = {
    "temperature": ("`temperature` is deprecated for this model.", {"sampling": False}),
    "both": (
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        {"sampling": False},
    ),
    "budget": (
        f'"thinking.type.enabled" is not supported for this model. {USE_ADAPTIVE}',
        {"thinking": "adaptive", "sampling": False, "efforts": ("low", "medium", "high")},
    ),
    "disabled": (
        f'"thinking.type.disabled" is not supported for this model. {USE_ADAPTIVE}',
        {"off": None, "thinks": True},
    ),
    "thinking": ("thinking: Extra inputs are not permitted", {"thinking": None}),
    "forced": (
        "tool_choice: forced tool use is not supported for this model.",
        {"forced_tools": False},
    ),
    "format": ("output_config.format: Extra inputs are not permitted", {"formats": False}),
    "effort": ("This model does not support the effort parameter.", {"efforts": ()}),
}


@pytest.mark.parametrize(("message", "expected"), LEARNED.values(), ids=LEARNED)
def test_a_refusal_teaches_what_the_model_takes(message: str, expected: dict[str, Any]):
    known = Traits(efforts=("low",))
    learned = known.without(read_refusal(document("invalid_request_error", message)), EVERYTHING)
    assert learned is not None
    changed = {
        name: getattr(learned, name)
        for name in Traits.__struct_fields__
        if getattr(learned, name) != getattr(known, name)
    }
    assert changed == expected


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 9 tokens > 8 maximum",
        "temperature: range: 0..1",
        "`thinking` or `redacted_thinking` blocks in the last message cannot be modified.",
        "output_config.format.schema: property 'minimum' is not supported",
        "tools.0.custom.input_schema: not supported",
        "stop_sequences: not supported",
    ],
)
def test_other_refusals_teach_nothing(message: str):
    refusal = read_refusal(document("invalid_request_error", message))
    assert Traits().without(refusal, EVERYTHING) is None
    assert Traits().without(refusal, {}) is None


def test_a_field_that_was_not_sent_teaches_nothing():
    for message, _ in LEARNED.values():
        refusal = read_refusal(document("invalid_request_error", message))
        assert Traits().without(refusal, {"max_tokens": 1}) is None


pytestmark = pytest.mark.anyio


def refuse(message: str) -> Answer:
    return Answer(status=400, body=document("invalid_request_error", message))


async def test_a_request_is_repeated_once_without_the_field_and_later_ones_omit_it(caplog):
    refused = refuse("`temperature` is deprecated for this model.")
    with FakeUpstream(refused, path="/v1/messages") as upstream:
        upstream.default = Answer(body=WHOLE, content_type="text/event-stream")
        provider = AnthropicProvider(base_url=upstream.url.removesuffix("/v1/messages"))
        for _ in range(2):
            assert Finish("stop") in await answer_of(provider, question())
        await provider.aclose()
    assert ["temperature" in request.json for request in upstream.requests] == [True, False, False]
    (record,) = caplog.records
    assert "rejects a field" in record.getMessage()
    assert "deprecated" not in record.getMessage()


async def test_a_second_refusal_is_the_error_and_teaches_nothing():
    refused = refuse("`temperature` is deprecated for this model.")
    with FakeUpstream(refused, refused, path="/v1/messages") as upstream:
        upstream.default = Answer(body=WHOLE, content_type="text/event-stream")
        provider = AnthropicProvider(base_url=upstream.url.removesuffix("/v1/messages"))
        call = question()
        with pytest.raises(UpstreamRejected):
            await answer_of(provider, call)
        await answer_of(provider, question())
        await provider.aclose()
    assert ["temperature" in request.json for request in upstream.requests] == [True, False, True]


async def test_each_model_of_a_server_is_learned_by_itself():
    refused = refuse("tool_choice: forced tool use is not supported for this model.")
    with FakeUpstream(refused, path="/v1/messages") as upstream:
        upstream.default = Answer(body=WHOLE, content_type="text/event-stream")
        provider = AnthropicProvider(base_url=upstream.url.removesuffix("/v1/messages"))
        for model in ("one", "one", "two"):
            request = ModelRequest(
                messages=(Message.of("user", "Hi"),),
                model=model,
                max_output_tokens=50,
                temperature=0.5,
                tools=(TOOL,),
                tool_choice=ToolChoice(mode="required"),
                output=OutputFormat(),
            )
            await answer_of(provider, ModelCall(request=request, request_id="r"))
        await provider.aclose()
    sent = [(r.json["model"], "tool_choice" in r.json) for r in upstream.requests]
    assert sent == [("one", True), ("one", False), ("one", False), ("two", True)]
