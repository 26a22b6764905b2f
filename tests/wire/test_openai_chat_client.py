"""OpenAI's own client for Python talks to a chat, with its default retries, and pays once."""

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

from chatnest import (
    ASSISTANT,
    Bounds,
    ChatNestApp,
    Limit,
    Model,
    NativeFormat,
    OpenAIProvider,
    RunSettings,
)
from chatnest.policies import Policy
from chatnest.testing import (
    Answer,
    FakeUpstream,
    Refusal,
    Source,
    Text,
    Thinking,
    TokenUsage,
    ToolCall,
)
from chatnest.wire import OpenAIChatFormat
from tests.servers.support import uvicorn_thread
from tests.streams.support import Books
from tests.test_image_size import png
from tests.wire.test_openai_chat_frames import read

HI: Any = {"role": "user", "content": "Do I need an umbrella?"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"rain": {"type": "boolean"}},
    "required": ["rain"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": SCHEMA, "strict": True},
}
TEXT = Answer.text("Yes, take one.")
CALLS = Answer(
    parts=(
        Text("I look. "),
        ToolCall("c1", "weather", '{"rain": true}'),
        ToolCall("c2", "weather", "{}"),
    )
)


class Client(OpenAI):
    """The client, without the seconds between its retries."""

    def _calculate_retry_timeout(self, *_: Any, **__: Any) -> float:
        return 0


class Once:
    """A policy that allows one request in ``window`` seconds."""

    def __init__(self, window: int) -> None:
        self._window = window

    def limits(self, turn: Any) -> list[Limit]:
        return [Limit(name="once", unit="requests", account="all", amount=1, window=self._window)]


class Chat:
    """A chat behind a port, its books, and a client of OpenAI."""

    def __init__(self, upstream: FakeUpstream, books: Books, client: Client) -> None:
        self.upstream = upstream
        self.books = books
        self.client = client
        self.create: Any = client.chat.completions.create

    def ask(self, *messages: Any, **fields: Any) -> Any:
        return self.create(model="chat", messages=list(messages) or [HI], **fields)

    def stream(self, *messages: Any, **fields: Any) -> Any:
        return self.ask(*messages, stream=True, **fields)


@contextmanager
def chatting(
    upstream: FakeUpstream, *answers: Answer, policies: Sequence[Policy] = (), **options: Any
) -> Iterator[Chat]:
    upstream.script(*answers)
    books = Books()

    def model(name: str) -> Model:
        provider = OpenAIProvider(base_url=upstream.base_url, api_key="k", model=name)
        return Model(provider=provider, max_image_tokens=2_000)

    app = ChatNestApp(
        models={"chat": model("gpt-4o"), "org/model:x": model("gpt-4o-mini")},
        profiles=[ASSISTANT],
        default_profile="assistant",
        client_system_prompt="allow",
        formats=[NativeFormat(), OpenAIChatFormat()],
        policies=policies,
        ledger=books,
        **options,
    )
    with (
        uvicorn_thread(app) as port,
        Client(base_url=f"http://127.0.0.1:{port}/v1", api_key="k") as client,
    ):
        yield Chat(upstream, books, client)


def said(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_text_arrives_in_chunks(upstream):
    with chatting(upstream, TEXT) as chat:
        chunks = list(chat.stream(temperature=0.5, seed=1, user="me", store=True, n=1))

    assert said(chunks) == "Yes, take one."
    assert (chunks[0].choices[0].delta.role, chunks[-1].choices[0].finish_reason) == (
        "assistant",
        "stop",
    )
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert len({chunk.id for chunk in chunks}) == 1
    sent = upstream.last.json
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("gpt-4o", 0.5, 1)
    assert "user" not in sent
    assert sent.get("store") in {None, False}


def test_the_cost_comes_where_it_was_asked_for(upstream):
    answer = Answer(usage=TokenUsage(9, 4, cached=3, reasoning=2))
    with chatting(upstream, answer) as chat:
        *_, end, last = chat.stream(stream_options={"include_usage": True})

    assert (end.choices[0].finish_reason, last.choices) == ("stop", [])
    assert last.usage is not None
    assert last.usage.total_tokens == 13
    assert last.usage.prompt_tokens_details.cached_tokens == 3
    assert last.usage.completion_tokens_details.reasoning_tokens == 2


def test_a_whole_answer_is_one_document(upstream):
    with chatting(upstream, TEXT) as chat:
        response = chat.client.chat.completions.with_raw_response.create(
            model="chat", messages=[{"role": "user", "content": "Hi"}]
        )

    completion = response.parse()
    assert response.headers["content-type"] == "application/json"
    assert completion.choices[0].message.content == "Yes, take one."
    assert completion.id == f"chatcmpl-{completion._request_id}"
    assert (completion.model, completion.object) == ("chat", "chat.completion")
    assert completion.usage is not None
    assert completion.usage.total_tokens == 12


@pytest.mark.parametrize("is_stream", [True, False])
def test_tools_take_two_turns_and_a_message_goes_back_as_it_came(upstream, is_stream):
    with chatting(upstream, CALLS, TEXT) as chat:
        if is_stream:
            with chat.client.chat.completions.stream(
                model="chat", messages=[HI], tools=[WEATHER]
            ) as stream:
                completion: Any = stream.get_final_completion()
        else:
            completion = chat.client.chat.completions.parse(
                model="chat", messages=[HI], tools=[WEATHER]
            )
        (choice,) = completion.choices
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": "Rain"}
            for call in choice.message.tool_calls
        ]
        second = chat.ask(HI, choice.message, *results, tools=[WEATHER])

    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "I look. "
    assert choice.message.tool_calls[0].function.parsed_arguments == {"rain": True}
    assert second.choices[0].message.content == "Yes, take one."
    _, answer, *results = upstream.last.json["messages"]
    assert [call["id"] for call in answer["tool_calls"]] == ["c1", "c2"]
    assert [call["function"]["arguments"] for call in answer["tool_calls"]] == [
        '{"rain": true}',
        "{}",
    ]
    assert [result["tool_call_id"] for result in results] == ["c1", "c2"]
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("is_stream", [True, False])
def test_an_answer_has_a_schema(upstream, is_stream):
    schema = {"name": "weather", "schema": SCHEMA, "strict": True}
    with chatting(upstream, Answer(pieces=('{"rain":', " true}"))) as chat:
        fields = {"response_format": {"type": "json_schema", "json_schema": schema}}
        if is_stream:
            text = said(list(chat.stream(**fields)))
        else:
            text = chat.ask(**fields).choices[0].message.content

    assert json.loads(text) == {"rain": True}
    assert upstream.last.json["response_format"]["json_schema"]["schema"] == SCHEMA


def test_an_image_and_a_prompt_of_the_system_reach_the_model(upstream):
    url = f"data:image/png;base64,{base64.b64encode(png(2, 3)).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    with chatting(upstream, TEXT) as chat:
        chat.ask(
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Look"}, image]},
        )

    system, user = upstream.last.json["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert user["content"][1]["image_url"] == {"url": url, "detail": "low"}


def test_thinking_sources_and_a_refusal_are_where_openais_types_have_them(upstream):
    parts = (Thinking("Hm"), Text("See."), Source("https://a.example/", "A", start=0, end=3))
    with chatting(upstream, Answer(parts=parts), Answer(parts=(Refusal("No."),))) as chat:
        message = chat.ask().choices[0].message
        refused = chat.ask().choices[0]
        again = chat.ask(HI, message, {"role": "user", "content": "More"})

    assert (message.content, message.reasoning_content) == ("See.", "Hm")
    assert message.annotations[0].url_citation.url == "https://a.example/"
    assert (refused.message.refusal, refused.message.content) == ("No.", None)
    assert refused.finish_reason == "stop"
    assert again.choices[0].message.content is not None


@pytest.mark.parametrize("is_stream", [True, False])
def test_an_answer_may_be_empty(upstream, is_stream):
    with chatting(upstream, Answer(pieces=(), finish_reason="length")) as chat:
        if is_stream:
            chunks = list(chat.stream())
            found = said(chunks), chunks[-1].choices[0].finish_reason
        else:
            (choice,) = chat.ask().choices
            found = choice.message.content, choice.finish_reason

    assert found == ("", "length")


def test_comments_keep_a_silent_stream_alive_and_the_client_reads_over_them(upstream):
    body, resumable = b"", RunSettings(resumable=True)
    with (
        chatting(upstream, Answer.stall(2), ping_interval=0.01, runs=resumable) as chat,
        chat.client.chat.completions.with_streaming_response.create(
            model="chat", messages=[{"role": "user", "content": "Hi"}], stream=True
        ) as response,
    ):
        for piece in response.iter_bytes():
            body += piece
            if b": ping" in body:
                upstream.release()

    assert b": ping\n\n" in body
    *data, last = read([body])
    assert said([ChatCompletionChunk.model_validate_json(each) for each in data]) == "Hello world!"
    assert last == "[DONE]"


# ---------------------------------------------------------------- refusals


def test_a_short_wait_is_a_429_that_the_client_waits_for(upstream):
    with chatting(upstream, policies=[Once(60)]) as chat:
        chat.ask()
        with pytest.raises(openai.RateLimitError) as caught:
            chat.ask()

    headers = caught.value.response.headers
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < int(headers["retry-after"]) <= 60
    assert 0 < int(headers["retry-after-ms"]) <= 60_000
    assert caught.value.request_id == headers["x-request-id"]
    assert len(upstream.requests) == 1


def test_a_long_wait_is_a_402_that_no_client_repeats(upstream):
    asked = 0

    class Asked(Once):
        def limits(self, turn: Any) -> list[Limit]:
            nonlocal asked
            asked += 1
            return super().limits(turn)

    with chatting(upstream, policies=[Asked(86_400)]) as chat:
        chat.ask()
        for ask in (chat.ask, chat.stream):
            with pytest.raises(openai.APIStatusError) as caught:
                ask()
            assert caught.value.status_code == 402
            assert (caught.value.code, caught.value.type) == ("insufficient_quota",) * 2
            assert str(caught.value).endswith("402 - The limit of requests in 86400 seconds is 1.")

    assert asked == 3
    assert len(upstream.requests) == 1


def test_a_request_is_refused_with_the_name_of_its_field(upstream):
    with chatting(upstream) as chat:
        with pytest.raises(openai.BadRequestError) as caught:
            chat.ask(logit_bias={"1": 2})
        with pytest.raises(openai.NotFoundError) as unknown:
            chat.create(model="gpt-9", messages=[HI])

    assert (caught.value.param, caught.value.code) == ("logit_bias", "invalid_request")
    assert (unknown.value.param, unknown.value.code) == ("model", "model_not_found")
    assert upstream.requests == []


# ---------------------------------------------------------------- failures


FAILURES: dict[str, tuple[Answer, int, int]] = {
    "refused by the provider": (Answer.error(500), 502, 3),
    "cut before its first piece": (Answer.cut(0), 424, 1),
    "cut after some pieces": (Answer.cut(2), 424, 1),
    "an error after some pieces": (Answer.error_event(2), 424, 1),
    "a wrong key": (Answer.error(401), 424, 1),
    "too long a conversation": (Answer.context_length(), 400, 1),
}
"""The answer, the status, and the calls to the model."""


@pytest.mark.parametrize(("answer", "status", "calls"), FAILURES.values(), ids=FAILURES)
def test_a_whole_answer_that_fails_is_charged_once(upstream, answer, status, calls):
    upstream.default = answer
    with chatting(upstream) as chat, pytest.raises(openai.APIStatusError) as caught:
        chat.ask()

    assert caught.value.status_code == status
    assert caught.value.code is not None
    assert len(upstream.requests) == calls
    assert len([charge for charge in chat.books.charges if charge.tokens]) <= 1


@pytest.mark.parametrize("after", [1, 3])
def test_an_error_after_the_first_piece_is_read_once(upstream, after):
    upstream.default = Answer.error_event(after)
    with chatting(upstream) as chat:
        chunks: list[ChatCompletionChunk] = []
        with pytest.raises(openai.APIError) as caught:
            chunks.extend(chat.stream())

    assert said(chunks) == "".join(Answer().pieces[:after])
    assert (caught.value.code, caught.value.type) == ("upstream_error", "invalid_response_error")
    assert len(upstream.requests) == 1


BEFORE = {
    "charged": (Answer.cut(0, opening="silence"), "upstream_interrupted", "invalid_response_error"),
    "free": (Answer.error_event(0, opening="silence"), "upstream_error", "server_error"),
}


@pytest.mark.parametrize(("answer", "code", "kind"), BEFORE.values(), ids=BEFORE)
def test_an_error_in_the_stream_before_the_first_piece_is_read_once(upstream, answer, code, kind):
    upstream.default = answer
    with chatting(upstream, bounds=Bounds(early_start_seconds=0.01)) as chat:
        stream = chat.stream()
        first = next(stream)
        upstream.wait(lambda seen: seen.requests)
        upstream.release()
        with pytest.raises(openai.APIError) as caught:
            list(stream)

    assert first.choices[0].delta.role == "assistant"
    assert (caught.value.code, caught.value.type) == (code, kind)
    assert len(upstream.requests) == 1


def test_a_client_that_closes_the_stream_stops_the_answer(upstream):
    upstream.default = Answer.endless(pace=0.001)
    with chatting(upstream) as chat:
        with chat.stream() as stream:
            next(stream)
        upstream.wait(lambda seen: seen.aborted == 1)


# ---------------------------------------------------------------- more paths


def test_the_models_are_listed(upstream):
    with chatting(upstream) as chat:
        models = [model.id for model in chat.client.models.list()]
        one = chat.client.models.retrieve("org/model:x")
        with pytest.raises(openai.NotFoundError) as caught:
            chat.client.models.retrieve("gpt-9")

    assert models == ["chat", "org/model:x"]
    assert (one.id, one.object) == ("org/model:x", "model")
    assert caught.value.code == "model_not_found"


def test_an_answer_with_a_key_is_given_again(upstream):
    key = {"Idempotency-Key": "k"}
    with chatting(upstream) as chat:
        first = said(list(chat.stream(extra_headers=key)))
        second = said(list(chat.stream(extra_headers=key)))

    assert first == second == "Hello world!"
    assert len(upstream.requests) == 1


def test_a_run_is_read_again_and_cancelled(upstream):
    with chatting(upstream, runs=RunSettings(resumable=True)) as chat:
        raw = chat.client.chat.completions.with_raw_response.create(
            model="chat", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        list(raw.parse())
        run = raw.headers["chatnest-run-id"]
        read = chat.client.get(f"/chat/completions/runs/{run}", cast_to=str)
        receipt: Any = chat.client.delete(f"/chat/completions/runs/{run}", cast_to=object)

    assert f'"id":"chatcmpl-{run}"' in read
    assert read.endswith("data: [DONE]\n\n")
    assert (receipt["run_id"], receipt["outcome"]) == (run, "done")
