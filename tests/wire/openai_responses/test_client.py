"""The `openai` package talks to a real server, over a script: all that it reads, and what the model
gets back.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from chatnest import ASSISTANT, ChatNestApp, Limit, MemoryLedger, Model, NativeFormat
from chatnest.conversation import Image, Message, Reasoning, Text, ToolResult
from chatnest.errors import UpstreamInterrupted, UpstreamServerError
from chatnest.events import (
    Delta,
    ProviderEvent,
    ReasoningSignature,
    Refusal,
    Source,
    ToolCall,
    ToolCallDelta,
)
from chatnest.events import Reasoning as Thought
from chatnest.policies import RetryOnce
from chatnest.testing import Conversation
from chatnest.wire import OpenAIResponsesFormat
from tests.servers.support import uvicorn_thread
from tests.support.scripted import Scripted
from tests.test_image_size import png
from tests.wire.openai_responses.test_request import url_of

ASK: Any = [{"role": "user", "content": "Do I need an umbrella?"}]
TOOLS: Any = [{"type": "function", "name": "weather", "parameters": {}, "strict": False}]
SIGNATURE = ReasoningSignature("sealed", "anthropic-messages", "claude", id="b1")
THOUGHT = Reasoning(
    text="Hm. Rain?", signature="sealed", provider="anthropic-messages", model="claude", id="b1"
)
CALLS: Sequence[ProviderEvent] = (
    Thought("Hm."),
    Thought(" Rain?"),
    SIGNATURE,
    Delta("I look."),
    ToolCall(0, "call_1", "weather"),
    ToolCallDelta(0, '{"city":'),
    ToolCall(1, "call_2", "weather"),
    ToolCallDelta(0, ' "Oslo"}'),
    ToolCallDelta(1, "{}"),
)


class Failing(Scripted):
    """Raises at the end of its script."""

    def __init__(self, error: Exception, *events: ProviderEvent) -> None:
        super().__init__(events)
        self.error = error

    async def _stream(self, events: Sequence[ProviderEvent]) -> Any:
        for event in events:
            yield [event]
        raise self.error


def app_of(provider: Any, **options: Any) -> ChatNestApp:
    return ChatNestApp(
        provider=provider,
        profiles=[ASSISTANT],
        default_profile="assistant",
        ledger=MemoryLedger(),
        identify=lambda _: "ann",
        formats=[NativeFormat(), OpenAIResponsesFormat()],
        **{"client_system_prompt": "allow", "policies": [RetryOnce(jitter=0)], **options},
    )


@contextmanager
def served(provider: Any, **options: Any) -> Iterator[openai.OpenAI]:
    """A client of a chat behind a port."""
    with (
        uvicorn_thread(app_of(provider, **options)) as port,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/api/chat/v1", api_key="k") as client,
    ):
        yield client


Way = Callable[..., Any]


def created(client: openai.OpenAI, given: Any, **options: Any) -> Any:
    return client.responses.create(model="default", input=given, **options)


def streamed(client: openai.OpenAI, given: Any, **options: Any) -> Any:
    opened: Any = client.responses.create(model="default", input=given, stream=True, **options)
    with opened:
        events = list(opened)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events[-1].response


def helped(client: openai.OpenAI, given: Any, **options: Any) -> Any:
    with client.responses.stream(model="default", input=given, **options) as opened:
        for _ in opened:
            pass
        return opened.get_final_response()


WAYS = {"create": created, "stream": streamed, "helper": helped}
every_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)


@every_way
def test_an_answer_is_read(ask: Way) -> None:
    answer = (Thought("Hm."), Delta("Yes,"), Delta(" an umbrella."), Source("https://e.org", "E"))
    with served(Scripted(answer)) as client:
        response = ask(client, ASK)

    assert response.output_text == "Yes, an umbrella."
    assert [item.type for item in response.output] == ["reasoning", "message"]
    (annotation,) = response.output[1].content[0].annotations
    assert (annotation.url, annotation.title) == ("https://e.org", "E")
    assert (response.status, response.usage.total_tokens) == ("completed", 60)


@every_way
def test_tools_work_over_two_turns_and_thinking_comes_back_unchanged(ask: Way) -> None:
    provider = Scripted(CALLS, (Delta("It rains in Oslo."),))
    with served(provider) as client:
        first = ask(client, ASK, tools=TOOLS, instructions="Be brief")
        calls = [item for item in first.output if item.type == "function_call"]
        results = [
            {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
            for call in calls
        ]
        second = ask(client, [*ASK, *first.output, *results], tools=TOOLS)

    assert [json.loads(call.arguments) for call in calls] == [{"city": "Oslo"}, {}]
    assert second.output_text == "It rains in Oslo."
    assert provider.asked[0].messages[0] == Message.of("system", "Be brief")
    _, assistant, answers = provider.asked[1].messages
    assert assistant.parts[:2] == (THOUGHT, Text("I look."))
    assert [part.arguments for part in assistant.parts[2:]] == ['{"city": "Oslo"}', "{}"]  # type: ignore[union-attr]
    assert answers.parts == (
        ToolResult(call_id="call_1", text="rain"),
        ToolResult(call_id="call_2", text="rain"),
    )


@every_way
def test_a_refusal_is_read(ask: Way) -> None:
    with served(Scripted((Refusal("I will"), Refusal(" not.")), reason="refusal")) as client:
        response = ask(client, ASK)

    (part,) = response.output[0].content
    assert (part.type, part.refusal) == ("refusal", "I will not.")


def test_an_image_reaches_the_model() -> None:
    provider = Scripted((Delta("A pixel."),))
    models = {"default": Model(provider=provider, max_image_tokens=100)}
    content = [{"type": "input_image", "image_url": url_of(png(1, 1)), "detail": "auto"}]
    with served(None, models=models) as client:
        created(client, [{"role": "user", "content": content}])

    (image,) = provider.asked[0].messages[0].parts
    assert isinstance(image, Image)


@pytest.mark.parametrize("ask", [created, streamed], ids=["create", "stream"])
@pytest.mark.parametrize(
    ("reason", "detail"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_is_cut_is_incomplete(ask: Way, reason: str, detail: str) -> None:
    with served(Scripted((Delta("This is"),), reason=reason)) as client:
        response = ask(client, ASK)

    assert (response.status, response.incomplete_details.reason) == ("incomplete", detail)
    assert response.output_text == "This is"


@pytest.mark.parametrize("ask", [created, streamed], ids=["create", "stream"])
def test_an_answer_that_is_all_thinking_is_incomplete_and_no_error(ask: Way) -> None:
    with served(Scripted((Thought("Hm."),), reason="length")) as client:
        response = ask(client, ASK)

    assert (response.status, response.output_text) == ("incomplete", "")


def test_the_helper_raises_for_an_answer_that_is_cut() -> None:
    provider = Scripted((Delta("This is"),), reason="length")
    with served(provider) as client, pytest.raises(RuntimeError, match=r"response\.completed"):
        helped(client, ASK)


@every_way
def test_a_charged_failure_is_an_error_that_no_client_repeats(ask: Way) -> None:
    provider = Failing(UpstreamInterrupted(), Delta("This"), Delta(" is"))
    with served(provider) as client, pytest.raises(openai.APIError) as caught:
        ask(client, ASK)

    assert (caught.value.code, caught.value.type) == (
        "upstream_interrupted",
        "invalid_response_error",
    )
    assert len(provider.asked) == 1
    status = getattr(caught.value, "status_code", None)
    assert status == (424 if ask is created else None)


def test_a_failure_that_costs_nothing_has_its_status_and_is_repeated() -> None:
    provider = Failing(UpstreamServerError())
    with (
        served(provider, policies=[]) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        created(client.with_options(max_retries=1), ASK)

    assert caught.value.status_code == 502
    assert len(provider.asked) == 2


class Once:
    """One request in a window."""

    def __init__(self, window: int) -> None:
        self.window = window

    def limits(self, _: Any) -> list[Limit]:
        return [Limit(name="once", unit="requests", account="all", amount=1, window=self.window)]


@every_way
def test_a_limit_that_lasts_is_never_repeated(ask: Way) -> None:
    provider = Scripted((Delta("Yes."),))
    with served(provider, policies=[Once(3_600)]) as client:
        ask(client, ASK)
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, ASK)

    assert (caught.value.status_code, caught.value.code) == (402, "insufficient_quota")
    assert caught.value.request_id
    assert "1" in caught.value.message


def test_a_limit_that_passes_is_waited_for() -> None:
    provider = Scripted((Delta("Yes."),))
    with served(provider, policies=[Once(1)]) as client:
        created(client, ASK)
        response = created(client, ASK)

    assert response.output_text == "Yes."


def test_the_request_id_is_on_a_response_and_is_its_id() -> None:
    with served(Scripted((Delta("Yes."),))) as client:
        response = created(client, ASK)

    assert response.id == f"resp_{response._request_id}"


def test_a_key_is_one_submission() -> None:
    provider = Scripted((Delta("Yes."),))
    headers = {"idempotency-key": '"k"'}
    with served(provider) as client:
        texts = [
            streamed(client, ASK, extra_headers=headers).output_text,
            created(client, ASK, extra_headers=headers).output_text,
            streamed(client, ASK, extra_headers=headers).output_text,
        ]

    assert texts == ["Yes."] * 3
    assert len(provider.asked) == 1


class Endless(Scripted):
    async def _stream(self, events: Sequence[ProviderEvent]) -> Any:
        import anyio

        while True:
            yield list(events)
            await anyio.sleep(0.01)


def test_an_answer_is_cancelled_by_its_id() -> None:
    with served(Endless((Delta("a"),))) as client:
        stream: Any = client.responses.create(
            model="default", input=ASK, stream=True, extra_headers={"idempotency-key": '"k"'}
        )
        created_event = next(stream)
        receipt = client.responses.cancel(created_event.response.id)
        with pytest.raises(openai.APIError) as caught:
            list(stream)
        again = client.responses.cancel(created_event.response.id)

    assert (receipt.id, receipt.status) == (created_event.response.id, "cancelled")
    assert again.status == "cancelled"
    assert (caught.value.code, caught.value.type) == ("cancelled", "invalid_response_error")


def test_the_receipt_of_an_answer_that_has_ended_has_its_status() -> None:
    with served(Scripted((Delta("a"),))) as client:
        headers = {"idempotency-key": '"k"'}
        response = streamed(client, ASK, extra_headers=headers)
        receipt = client.responses.cancel(response.id)

        with pytest.raises(openai.NotFoundError):
            client.responses.cancel("resp_" + "0" * 32)

    assert (receipt.id, receipt.status, receipt.object) == (response.id, "completed", "response")


OUTCOMES = {
    "done": "completed",
    "running": "in_progress",
    "cancelled": "cancelled",
    "client_gone": "cancelled",
    "run_lost": "failed",
    "upstream_timeout": "failed",
}


@pytest.mark.parametrize(("outcome", "status"), OUTCOMES.items(), ids=OUTCOMES)
def test_a_receipt_is_a_response(outcome: str, status: str) -> None:
    receipt = {"run_id": "0" * 32, "was_running": False, "outcome": outcome, "charged": 1}
    document = OpenAIResponsesFormat().receipt(receipt)
    response = openai.types.responses.Response.model_validate_json(document.body)

    assert (document.status, response.status) == (200, status)
    assert (response.error is None) == (status != "failed")


PATHS = [
    ("GET", "/v1/responses", 405),
    ("GET", "/v1/responses/resp_1/cancel", 404),
    ("POST", "/v1/responses/resp_1/cancel", 404),
    ("GET", f"/v1/responses/resp_{'0' * 32}/cancel", 405),
    ("POST", f"/v1/responses/resp_{'0' * 32}/cancel", 404),
    ("GET", f"/v1/responses/resp_{'0' * 32}", 404),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("method", "path", "status"), PATHS)
async def test_errors_of_all_paths_are_in_the_form_of_openai(
    method: str, path: str, status: int
) -> None:
    app = app_of(Scripted((Delta("a"),)))
    async with Conversation(app, method=method, path=f"/api/chat{path}", json={}) as c:
        await c.finished()

    assert c.status == status
    assert set(json.loads(c.received)["error"]) == {"message", "type", "param", "code"}
    assert c.headers["x-request-id"]


@pytest.mark.anyio
async def test_an_answer_without_a_key_ends_with_its_client() -> None:
    provider = Endless((Delta("a"),))
    app = app_of(provider)
    body = {"input": "Hi", "stream": True}
    async with Conversation(app, json=body, path="/api/chat/v1/responses") as c:
        await c.started()
        c.disconnect()
        await c.finished()
    await app.aclose()

    assert len(provider.asked) == 1
