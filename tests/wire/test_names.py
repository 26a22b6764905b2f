"""An error that names a field names the one of the client's format."""

import json
from typing import Any

import pytest

from chatnest.errors import ChatNestError, ClientGone, InvalidRequest, KeyReused, RunLost
from chatnest.events import Failed, Start
from chatnest.wire import AGUIFormat, NativeFormat, OpenAIChatFormat, OpenAIResponsesFormat
from chatnest.wire.base import StreamInfo, WireFormat

ID = "0" * 32
NATIVE, CHAT, RESPONSES, AG_UI = FORMATS = (
    *(NativeFormat(), OpenAIChatFormat(), OpenAIResponsesFormat(), AGUIFormat()),
)
NAMES = {
    "systemPrompt": ("systemPrompt", "messages", "instructions", "messages"),
    "messages": ("messages", "messages", "input", "messages"),
    "toolChoice": ("toolChoice", "tool_choice", "tool_choice", "toolChoice"),
    "reasoningEffort": (
        *("reasoningEffort", "reasoning_effort", "reasoning.effort", "reasoningEffort"),
    ),
    "profile": ("profile", "profile", "profile", "forwardedProps.profile"),
}
FIELDS = {
    f"{field} in {format_!r}": (field, format_, name)
    for field, names in NAMES.items()
    for format_, name in zip(FORMATS, names, strict=True)
}


def problem(format_: WireFormat, error: ChatNestError) -> Any:
    document = format_.problem(error, request_id=ID, charged=False)
    content = json.loads(document.body)
    return content if format_ in {NATIVE, AG_UI} else content["error"]


def sentence(format_: WireFormat, error: ChatNestError) -> str:
    found: str = problem(format_, error)["detail" if format_ is NATIVE else "message"]
    return found


@pytest.mark.parametrize(("field", "format_", "name"), FIELDS.values(), ids=FIELDS)
def test_a_refused_field_has_its_name_in_the_format(field, format_, name):
    error = InvalidRequest("must be right.", field=field)

    assert sentence(format_, error) == f"{name}: must be right."
    if format_ in {CHAT, RESPONSES}:
        assert problem(format_, error)["param"] == name


@pytest.mark.parametrize("error", [KeyReused(of_format=True), RunLost(), ClientGone()], ids=repr)
@pytest.mark.parametrize("format_", FORMATS, ids=repr)
def test_the_key_of_a_request_has_its_name_in_the_format(format_, error):
    shown = [sentence(format_, error)]
    frames = format_.frames(StreamInfo(request_id=ID, model="m"))
    shown.append(frames.encode([Start(), Failed(error)]).decode())

    for each in shown:
        assert ("Idempotency-Key" in each) == (format_ is not AG_UI)
        assert ("runId" in each.replace('"runId"', "")) == (format_ is AG_UI)


@pytest.mark.parametrize("format_", FORMATS, ids=repr)
def test_a_key_of_a_header_has_the_name_of_the_header(format_):
    assert "Idempotency-Key" in sentence(format_, KeyReused())


@pytest.mark.parametrize("format_", FORMATS, ids=repr)
def test_a_sentence_of_an_operator_stays_as_it_is(format_):
    text = "systemPrompt, toolChoice and Idempotency-Key are not for you."

    assert sentence(format_, InvalidRequest(text)) == text
