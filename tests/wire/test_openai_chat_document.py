"""An answer without a stream is one document, and OpenAI's client reads what was meant."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from openai.types.model import Model

from chatnest import ChatRequest, Message
from chatnest.errors import UpstreamInterrupted
from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    Failed,
    Numbered,
    Ping,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Start,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from chatnest.requests import Submission
from chatnest.wire import Frames, OpenAIChatFormat, StreamInfo
from chatnest.wire.base import HasModels, HasMorePaths, HasReceipts
from tests.wire.test_openai_chat_frames import ID, PARTS, REASONS, STOP, USAGE

WHOLE = ChatRequest(messages=(Message.of("user", "Hi"),), submission=Submission(stream=False))


def wire() -> Frames:
    return OpenAIChatFormat().frames(StreamInfo(request_id=ID, model="chat", request=WHOLE))


def document(*events: ClientEvent, last: Done | Numbered = STOP) -> dict[str, Any]:
    frames = wire()
    assert frames.encode([Start(), *events, Ping()]) == b""
    body: dict[str, Any] = json.loads(frames.encode([last]))
    assert ChatCompletion.model_validate(body).id == f"chatcmpl-{ID}"
    return body


def message(*events: ClientEvent, last: Done = STOP) -> dict[str, Any]:
    (choice,) = document(*events, last=last)["choices"]
    assert choice["index"] == 0
    found: dict[str, Any] = choice["message"]
    return found


def test_a_text_is_exactly_this_document():
    frames = wire()

    assert frames.encode([Start()]) == frames.encode([Delta("Good")]) == b""
    assert frames.encode([Delta(" bread"), STOP]) == (
        b'{"id":"chatcmpl-01a22a697b3e7afd847b36d1b930a2a2","object":"chat.completion",'
        b'"created":1796007885,"model":"chat","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"Good bread","refusal":null},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46,'
        b'"prompt_tokens_details":{"cached_tokens":5,"cache_write_tokens":2},'
        b'"completion_tokens_details":{"reasoning_tokens":7}}}'
    )


def test_an_answer_with_everything():
    assert message(*PARTS) == {
        "role": "assistant",
        "content": "I look. ",
        "refusal": None,
        "reasoning_content": "Hm",
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
            },
            {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        ],
        "annotations": [
            {
                "type": "url_citation",
                "url_citation": {
                    "start_index": 2,
                    "end_index": 6,
                    "title": "A",
                    "url": "https://a.example/",
                },
            }
        ],
    }


CONTENTS: list[tuple[Sequence[ClientEvent], str | None, str | None]] = [
    ((), "", None),
    ((Delta("a"), Refusal("b")), "a", "b"),
    ((Refusal("b"),), None, "b"),
    ((ToolCall(0, "c", "f"),), None, None),
    ((Reasoning("Hm"), ReasoningSignature("s", "p", "m")), "", None),
    ((Delta("é\ud83d"), Delta("😀")), "é?😀", None),
]


@pytest.mark.parametrize(("events", "content", "refused"), CONTENTS)
def test_a_content_is_null_beside_calls_and_refusals_alone(events, content, refused):
    found = message(*events)

    assert (found["content"], found["refusal"]) == (content, refused)
    assert "annotations" not in found


@pytest.mark.parametrize(("reason", "word"), REASONS.items())
def test_the_reason_is_one_of_four_words(reason, word):
    (choice,) = document(Delta("a"), last=Done(reason, USAGE))["choices"]

    assert choice["finish_reason"] == word


def test_a_refusal_with_a_text_ends_with_stop():
    (choice,) = document(Refusal("No."), last=Done("refusal", USAGE))["choices"]

    assert choice["finish_reason"] == "stop"


def test_a_call_that_broke_off_ends_with_length():
    events = (ToolCall(0, "c", "f"), ToolCallDelta(0, '{"a'))
    (choice,) = document(*events, last=Done("tool_calls", USAGE, incomplete=True))["choices"]

    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"a'


def test_arguments_of_a_call_without_a_name_are_kept():
    (call,) = message(ToolCallDelta(0, "{}"))["tool_calls"]

    assert call == {"id": "", "type": "function", "function": {"name": "", "arguments": "{}"}}


def test_the_events_of_a_run_make_the_same_document():
    numbered = [Numbered(n, piece) for n, piece in enumerate(PARTS, 1)]

    assert document(*numbered, last=Numbered(99, STOP)) == document(*PARTS)


def test_a_failure_is_an_error():
    assert json.loads(wire().encode([Failed(UpstreamInterrupted())]))["error"]["code"] == (
        "upstream_interrupted"
    )


def test_the_response_has_the_id_of_the_request():
    frames: Any = wire()

    assert frames.headers == {"x-request-id": ID}


def test_hidden_usage_is_zero():
    assert document(last=Done("stop", Usage(0, 0, "estimated")))["usage"]["total_tokens"] == 0


# ---------------------------------------------------------------- other documents


PATHS = {
    "/v1/chat/completions": ("/v1/models", "/v1/models/{model}"),
    "/chat/completions": ("/models", "/models/{model}"),
    "": ("/models", "/models/{model}"),
    "/openai": ("/openai/models", "/openai/models/{model}"),
}


@pytest.mark.parametrize(("path", "models"), PATHS.items())
def test_the_models_are_beside_the_chats(path, models):
    format_ = OpenAIChatFormat(path)

    assert isinstance(format_, HasMorePaths)
    assert isinstance(format_, HasReceipts)
    assert isinstance(format_, HasModels)
    more = {each.path: dict(each.actions) for each in format_.more_paths}
    assert more == {
        **{each: {"GET": "models"} for each in models},
        f"{path}/runs/{{run}}": {"GET": "resume", "DELETE": "cancel"},
    }


def test_the_models_are_documents_of_openai():
    listed = OpenAIChatFormat().models(["chat", "org/model:x"], None)
    one = OpenAIChatFormat().models(["chat", "org/model:x"], "org/model:x")

    assert (listed.status, listed.media_type) == (one.status, one.media_type)
    assert (one.status, one.media_type) == (200, "application/json")
    assert json.loads(listed.body)["object"] == "list"
    names = [Model.model_validate(each).id for each in json.loads(listed.body)["data"]]
    assert names == ["chat", "org/model:x"]
    assert Model.model_validate_json(one.body).id == "org/model:x"


def test_a_receipt_is_the_one_of_the_native_format():
    receipt = {"run_id": ID, "was_running": True, "outcome": "cancelled"}

    assert json.loads(OpenAIChatFormat().receipt(receipt).body) == receipt
