"""Streams of the Responses API as servers send them, one a row: where each was reported, and the
events that come of it.
"""

import json
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from chatnest.errors import (
    UpstreamAccount,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamServerError,
)
from chatnest.events import (
    Delta,
    Finish,
    ProviderEvent,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    ToolCall,
    ToolCallDelta,
    Usage,
)

MODEL = "gpt-5-mini"
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 29,
}
BILL = Usage(20, 9, "provider", 8, 4, 5, response_id="resp_1")
STOP: list[ProviderEvent] = [Finish("stop"), BILL]


@dataclass(frozen=True)
class Shape:
    """``stream`` is a body. ``error`` is what it ends in, after ``events``."""

    source: str
    stream: bytes
    events: list[ProviderEvent]
    error: type[UpstreamError] | None = None


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, "sequence_number": 1, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


def unnamed(kind: str, **fields: Any) -> bytes:
    """As servers send it that leave out the line with the name."""
    return event(kind, **fields).partition(b"\n")[2]


def text(delta: str, **fields: Any) -> bytes:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    return event("response.output_text.delta", **(place | fields), delta=delta)


def done(**fields: Any) -> bytes:
    """The whole text of a part."""
    return event("response.output_text.done", output_index=0, content_index=0, **fields)


def added(index: int = 0, **item: Any) -> bytes:
    return event("response.output_item.added", output_index=index, item=item)


def over(index: int = 0, **item: Any) -> bytes:
    return event("response.output_item.done", output_index=index, item=item)


def message(*texts: str, number: int = 1, **fields: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": each, "annotations": []} for each in texts]
    return {
        "type": "message",
        "id": f"msg_{number}",
        "role": "assistant",
        "status": "completed",
        "content": content,
    } | fields


def call(number: int, arguments: Any = "", **fields: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{number}",
        "call_id": f"call_{number}",
        "name": "look_up",
        "arguments": arguments,
    } | fields


def arguments(delta: str, number: int = 1, index: int = 0) -> bytes:
    kind = "response.function_call_arguments.delta"
    return event(kind, item_id=f"fc_{number}", output_index=index, delta=delta)


def whole_arguments(text: str, number: int = 1, index: int = 0) -> bytes:
    kind = "response.function_call_arguments.done"
    return event(kind, item_id=f"fc_{number}", output_index=index, arguments=text)


def reasoning(**fields: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": []} | fields


def thought(delta: str, part: int = 0) -> bytes:
    kind = "response.reasoning_summary_text.delta"
    return event(kind, item_id="rs_1", output_index=0, summary_index=part, delta=delta)


def part(number: int = 0) -> bytes:
    kind = "response.reasoning_summary_part.added"
    return event(
        kind, output_index=0, summary_index=number, part={"type": "summary_text", "text": ""}
    )


def response(status: str = "completed", *output: Any, **fields: Any) -> dict[str, Any]:
    about = {"id": "resp_1", "object": "response", "status": status, "error": None}
    return about | {"incomplete_details": None, "output": list(output), "usage": USAGE} | fields


def last(*output: Any, **fields: Any) -> bytes:
    whole = response(fields.pop("status", "completed"), *output, **fields)
    return event(f"response.{whole['status']}", response=whole)


def document(value: Any) -> bytes:
    return json.dumps(value).encode()


CREATED = event("response.created", response=response("in_progress", usage=None))
PROGRESS = event("response.in_progress", response=response("in_progress", usage=None))
OPENED = CREATED + PROGRESS
HELLO: list[ProviderEvent] = [Delta("Hello"), Delta(" world")]
DELTAS = text("Hello") + text(" world")
SIGNATURE = ReasoningSignature("c2VjcmV0", "openai-responses", MODEL, id="rs_1")
LOOK_UP = ToolCall(0, "call_1", "look_up")

FULL = b"".join(
    (
        *(OPENED, added(**message(status="in_progress"))),
        event(
            "response.content_part.added",
            output_index=0,
            content_index=0,
            part={"type": "output_text", "text": "", "annotations": []},
        ),
        *(DELTAS, done(text="Hello world")),
        event(
            "response.content_part.done",
            output_index=0,
            content_index=0,
            part={"type": "output_text", "text": "Hello world", "annotations": []},
        ),
        *(over(**message("Hello world")), last(message("Hello world"))),
    )
)

TEXT = {
    "all that OpenAI sends": Shape("openai-python 3.57", FULL, [*HELLO, *STOP]),
    "without the lines with names": Shape(
        "openai-python: an event's type is in its data",
        b"\n".join(line for line in FULL.split(b"\n") if not line.startswith(b"event:")),
        [*HELLO, *STOP],
    ),
    "with DONE behind it": Shape("vllm: sends it", FULL + b"data: [DONE]\n\n", [*HELLO, *STOP]),
    "with obfuscation and comments": Shape(
        "openai-python: StreamOptions.include_obfuscation",
        CREATED + b": ping\n\n" + text("Hello", obfuscation="x1y2") + text(" world") + last(),
        [*HELLO, *STOP],
    ),
    "with signs of life": Shape(
        "brainlid/langchain#485",
        OPENED + event("keepalive") + DELTAS + event("keepalive") + last(),
        [*HELLO, *STOP],
    ),
    "without the parts that are done": Shape(
        "ogx-ai/ogx#5309",
        OPENED + DELTAS + over(**message("Hello world")) + last(),
        [*HELLO, *STOP],
    ),
    "the last response has no output": Shape(
        "raullenchai/Rapid-MLX#851",
        OPENED
        + DELTAS
        + event("response.completed", response={"status": "completed", "usage": USAGE}),
        [*HELLO, Finish("stop"), replace(BILL, response_id="")],
    ),
    "only parts that are done": Shape(
        "BerriAI/litellm#27792, of arguments",
        OPENED
        + done(text="Hello")
        + done(text=" world")
        + over(**message("Hello", " world"))
        + last(),
        [*HELLO, *STOP],
    ),
    "only items that are done": Shape(
        "orangeboyChen/codebuddy2api#16",
        OPENED + over(**message("Hello", " world")) + last(message("Hello", " world")),
        [*HELLO, *STOP],
    ),
    "an item that is done twice": Shape(
        "a gateway that repeats events",
        OPENED + over(**message("Hello")) + over(**message("Hello")) + last(message("Hello")),
        [Delta("Hello"), *STOP],
    ),
    "only the last response": Shape(
        "NVIDIA-NeMo/Switchyard#777", OPENED + last(message("Hello", " world")), [*HELLO, *STOP]
    ),
    "under other ids in the last response": Shape(
        "BerriAI/litellm#36375",
        OPENED + DELTAS + last(reasoning(), message("Hello world", number=7)),
        [*HELLO, Reasoning(""), *STOP],
    ),
    "a count in place of an index": Shape(
        "vllm-project/vllm#29947",
        OPENED
        + text("Hello", content_index=12, item_id="a")
        + text(" world", content_index=13, item_id="b")
        + event("response.output_text.done", content_index=14, output_index=0, text="Hello world")
        + last(message("Hello world")),
        [*HELLO, *STOP],
    ),
    "deltas that are objects": Shape(
        "tombii/better-ccflare#233",
        event("response.output_text.delta", delta={"type": "output_text", "text": "Hello"})
        + last(),
        [Delta("Hello"), *STOP],
    ),
    "two messages": Shape(
        "openai-python: ResponseOutputMessage.phase",
        OPENED
        + added(0, **message(number=1, phase="commentary"))
        + text("Let me see.")
        + done(text="Let me see.")
        + over(0, **message("Let me see.", number=1))
        + added(1, **message(number=2, phase="final_answer"))
        + text("Hello", output_index=1)
        + text(" world", output_index=1)
        + over(1, **message("Hello world", number=2))
        + last(message("Let me see."), message("Hello world")),
        [Delta("Let me see."), Delta("\n\nHello"), Delta(" world"), *STOP],
    ),
    "halves of a pair in two deltas": Shape(
        "vllm-project/vllm#10186, of chat",
        text("a").replace(b'"a"', b'"a\\ud83d"')
        + text("b").replace(b'"b"', b'"\\ude00b"')
        + last(),
        [Delta("a"), Delta("\U0001f600b"), *STOP],
    ),
    "half of a pair at the end": Shape(
        "the same, cut",
        text("a").replace(b'"a"', b'"a\\ud83d"') + last(),
        [Delta("a"), Delta("\ufffd"), *STOP],
    ),
    "several lines of events without blank ones": Shape(
        "sglang: of chat",
        unnamed("response.created").replace(b"\n\n", b"\n") + DELTAS + last(),
        [*HELLO, *STOP],
    ),
    "items of tools of the server": Shape(
        "openai-python: ResponseFunctionWebSearch",
        OPENED
        + added(type="web_search_call", id="ws_1", status="in_progress")
        + event("response.web_search_call.searching", output_index=0, item_id="ws_1")
        + over(type="web_search_call", id="ws_1", status="completed", action={"type": "search"})
        + DELTAS
        + last({"type": "web_search_call", "id": "ws_1"}, message("Hello world")),
        [*HELLO, *STOP],
    ),
    "a page that is cited": Shape(
        "openai-python: ResponseOutputTextAnnotationAddedEvent",
        OPENED
        + DELTAS
        + event(
            "response.output_text.annotation.added",
            annotation={
                "type": "url_citation",
                "url": "https://a.example",
                "title": "A",
                "start_index": 0,
                "end_index": 5,
            },
        )
        + event(
            "response.output_text.annotation.added",
            annotation={"type": "file_citation", "file_id": "file_1", "index": 3},
        )
        + over(
            type="message",
            content=[
                {
                    "type": "output_text",
                    "text": "Hello world",
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url": "https://a.example",
                            "title": "A",
                            "start_index": 0,
                            "end_index": 5,
                        },
                        {"type": "url_citation", "url": "https://b.example"},
                    ],
                }
            ],
        )
        + last(),
        [*HELLO, Source("https://a.example", "A", 0, 5), Source("https://b.example"), *STOP],
    ),
}

CALLS = {
    "a call": Shape(
        "openai-python 3.57",
        OPENED
        + added(**call(1))
        + arguments('{"a"')
        + arguments(": 1}")
        + whole_arguments('{"a": 1}')
        + over(**call(1, '{"a": 1}'))
        + last(call(1, '{"a": 1}')),
        [LOOK_UP, ToolCallDelta(0, '{"a"'), ToolCallDelta(0, ": 1}"), Finish("tool_calls"), BILL],
    ),
    "arguments without deltas": Shape(
        "BerriAI/litellm#27792",
        OPENED
        + added(**call(1))
        + whole_arguments("{}")
        + over(**call(1, "{}"))
        + last(call(1, "{}")),
        [LOOK_UP, ToolCallDelta(0, "{}"), Finish("tool_calls"), BILL],
    ),
    "arguments in the item alone": Shape(
        "lidge-jun/opencodex#4652",
        OPENED + added(**call(1)) + over(**call(1, "{}")) + last(),
        [LOOK_UP, ToolCallDelta(0, "{}"), Finish("tool_calls"), BILL],
    ),
    "arguments with the beginning alone": Shape(
        "the same",
        OPENED + added(**call(1, "{}")) + last(),
        [LOOK_UP, ToolCallDelta(0, "{}"), Finish("tool_calls"), BILL],
    ),
    "an item without an id": Shape(
        "anomalyco/opencode#45081",
        OPENED
        + over(type="function_call", call_id="call_1", name="look_up", arguments="{}")
        + last(),
        [LOOK_UP, ToolCallDelta(0, "{}"), Finish("tool_calls"), BILL],
    ),
    "an item without an id, with deltas": Shape(
        "ggml-org/llama.cpp#24882",
        OPENED
        + event("response.output_item.added", item=call(1, id=None))
        + event("response.function_call_arguments.delta", item_id="call_1", delta="{}")
        + event("response.output_item.done", item=call(1, "{}", id=None))
        + last(),
        [LOOK_UP, ToolCallDelta(0, "{}"), Finish("tool_calls"), BILL],
    ),
    "a call in the last response alone": Shape(
        "NVIDIA-NeMo/Switchyard#777",
        OPENED + last(call(1, "{}")),
        [LOOK_UP, ToolCallDelta(0, "{}"), Finish("tool_calls"), BILL],
    ),
    "arguments that are an object": Shape(
        "a server that decodes them",
        OPENED + over(**call(1, {"a": 1})) + last(),
        [LOOK_UP, ToolCallDelta(0, '{"a": 1}'), Finish("tool_calls"), BILL],
    ),
    "two calls at a time": Shape(
        "openai-python: parallel_tool_calls",
        OPENED
        + added(0, **call(1))
        + added(1, **call(2))
        + arguments("[", 1, 0)
        + arguments("{", 2, 1)
        + arguments("]", 1, 0)
        + arguments("}", 2, 1)
        + over(1, **call(2, "{}"))
        + over(0, **call(1, "[]"))
        + last(call(1, "[]"), call(2, "{}")),
        [
            *(LOOK_UP, ToolCall(1, "call_2", "look_up"), ToolCallDelta(0, "[")),
            *(ToolCallDelta(1, "{"), ToolCallDelta(0, "]"), ToolCallDelta(1, "}")),
            *(Finish("tool_calls"), BILL),
        ],
    ),
    "two calls at one index": Shape(
        "teabranch/open-responses-server#63",
        OPENED
        + added(0, **call(1))
        + arguments("[]", 1)
        + over(0, **call(1, "[]"))
        + added(0, **call(2))
        + arguments("{}", 2)
        + over(0, **call(2, "{}"))
        + last(call(1, "[]"), call(2, "{}")),
        [
            *(LOOK_UP, ToolCallDelta(0, "[]"), ToolCall(1, "call_2", "look_up")),
            *(ToolCallDelta(1, "{}"), Finish("tool_calls"), BILL),
        ],
    ),
    "two calls at one index, at a time": Shape(
        "BerriAI/litellm#36375",
        OPENED
        + added(0, **call(1))
        + added(0, **call(2))
        + arguments("[]", 1)
        + arguments("{}", 2)
        + last(call(1, "[]"), call(2, "{}")),
        [
            *(LOOK_UP, ToolCall(1, "call_2", "look_up"), ToolCallDelta(0, "[]")),
            *(ToolCallDelta(1, "{}"), Finish("tool_calls"), BILL),
        ],
    ),
    "an id that comes late": Shape(
        "openai-python: call_id, as a gateway fills it in",
        OPENED
        + added(0, **call(1, call_id="", id=""))
        + arguments("{}", 1)
        + over(0, **call(1, "{}"))
        + last(call(1, "{}")),
        [
            *(ToolCall(0, "call_0", "look_up"), ToolCallDelta(0, "{}")),
            *(Finish("tool_calls"), BILL),
        ],
    ),
    "ids that change": Shape(
        "agentgateway/agentgateway#1453: items of a gateway",
        OPENED
        + added(0, **call(1))
        + arguments("{}", 9, 0)
        + whole_arguments("{}", 8, 0)
        + over(0, **call(1, "{}", id="fc_7"))
        + last(),
        [LOOK_UP, ToolCallDelta(0, "{}"), Finish("tool_calls"), BILL],
    ),
    "text, then a call": Shape(
        "openai-python 3.57",
        OPENED
        + DELTAS
        + over(**message("Hello world"))
        + added(1, **call(1))
        + arguments("{}", 1, 1)
        + last(message("Hello world"), call(1, "{}")),
        [*HELLO, LOOK_UP, ToolCallDelta(0, "{}"), Finish("tool_calls"), BILL],
    ),
    "a call that is cut": Shape(
        "openai-python: IncompleteDetails",
        OPENED
        + added(**call(1))
        + arguments('{"a')
        + last(status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        [LOOK_UP, ToolCallDelta(0, '{"a'), Finish("length"), BILL],
    ),
}

THINKING = {
    "a summary in parts, and what goes back": Shape(
        "CopilotKit/aimock#342: the thinking that begins is not whole",
        OPENED
        + added(**reasoning(encrypted_content="c2Vj"))
        + part(0)
        + thought("One")
        + thought(" two")
        + event("response.reasoning_summary_text.done", output_index=0, text="One two")
        + part(1)
        + thought("Three", 1)
        + over(
            **reasoning(
                encrypted_content="c2VjcmV0", summary=[{"type": "summary_text", "text": "x"}]
            )
        )
        + added(1, **call(1))
        + arguments("{}", 1, 1)
        + last(reasoning(encrypted_content="c2VjcmV0"), call(1, "{}")),
        [
            *(Reasoning("One"), Reasoning(" two"), Reasoning("\n\nThree"), SIGNATURE, LOOK_UP),
            *(ToolCallDelta(0, "{}"), Finish("tool_calls"), BILL),
        ],
    ),
    "thinking that is not shown": Shape(
        "openai-python 3.57",
        OPENED
        + added(**reasoning())
        + over(**reasoning(encrypted_content="c2VjcmV0"))
        + DELTAS
        + last(),
        [Reasoning(""), SIGNATURE, *HELLO, *STOP],
    ),
    "open thinking": Shape(
        "vllm-project/vllm#24788",
        OPENED
        + added(**reasoning(content=None, encrypted_content=None))
        + event("response.reasoning_text.delta", output_index=0, content_index=0, delta="Hm")
        + event("response.reasoning_text.done", output_index=0, content_index=0, text="Hm")
        + over(**reasoning(content=[{"type": "reasoning_text", "text": "Hm"}]))
        + DELTAS
        + last(reasoning(), message("Hello world")),
        [Reasoning("Hm"), *HELLO, *STOP],
    ),
    "thinking in whole parts": Shape(
        "BerriAI/litellm#27792, of arguments",
        OPENED
        + event("response.reasoning_summary_text.done", text="One")
        + part(1)
        + event("response.reasoning_summary_text.done", text="Two")
        + over(**reasoning(summary=[{"text": "One"}, {"text": "Two"}]))
        + DELTAS
        + last(),
        [Reasoning("One"), Reasoning("\n\nTwo"), *HELLO, *STOP],
    ),
    "thinking in the item alone": Shape(
        "the same",
        OPENED + over(**reasoning(summary=[{"text": "One"}, {"text": "Two"}])) + DELTAS + last(),
        [Reasoning("One\n\nTwo"), *HELLO, *STOP],
    ),
    "a document in place of a stream": Shape(
        "openai-python: Response",
        document(
            response(
                "completed",
                reasoning(summary=[{"text": "One"}], encrypted_content="c2VjcmV0"),
                message("Hello", " world"),
            )
        ),
        [Reasoning("One"), SIGNATURE, *HELLO, *STOP],
    ),
}

SERVED = {
    "the tier that has served it": Shape(
        "openai-python: Response.service_tier",
        CREATED + DELTAS + last(service_tier="priority", model="gpt-5-mini-2025-08-07"),
        [
            *(*HELLO, Finish("stop")),
            replace(BILL, service_tier="priority", model="gpt-5-mini-2025-08-07"),
        ],
    ),
    "xAI: its own price": Shape(
        "docs.x.ai/developers/cost-tracking",
        DELTAS + last(usage=USAGE | {"cost_in_usd_ticks": 37_756_001}),
        [*HELLO, Finish("stop"), replace(BILL, stated_cost=3_775_601)],
    ),
    "names that are no names": Shape(
        "invented",
        DELTAS + last(id=None, service_tier=["a"], model="\ud83d" + "m" * 200),
        [*HELLO, Finish("stop"), replace(BILL, response_id="", model="?" + "m" * 127)],
    ),
}

ENDINGS = {
    "a limit": Shape(
        "openai-python: IncompleteDetails",
        DELTAS + last(status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        [*HELLO, Finish("length"), BILL],
    ),
    "a limit without a word": Shape(
        "the same", DELTAS + last(status="incomplete"), [*HELLO, Finish("length"), BILL]
    ),
    "a limit under the wrong name": Shape(
        "openai-agents: response.completed of a status incomplete",
        DELTAS
        + event(
            "response.completed",
            response=response("incomplete", incomplete_details={"reason": "max_output_tokens"}),
        ),
        [*HELLO, Finish("length"), BILL],
    ),
    "a filter": Shape(
        "openai-python: IncompleteDetails",
        DELTAS + last(status="incomplete", incomplete_details={"reason": "content_filter"}),
        [*HELLO, Finish("content_filter"), BILL],
    ),
    "a refusal": Shape(
        "openai-python: ResponseRefusalDeltaEvent",
        OPENED
        + event("response.refusal.delta", output_index=0, content_index=0, delta="I can")
        + event("response.refusal.delta", output_index=0, content_index=0, delta="not.")
        + event("response.refusal.done", output_index=0, content_index=0, refusal="I cannot.")
        + over(**message(content=[{"type": "refusal", "refusal": "I cannot."}]))
        + last(),
        [Refusal("I can"), Refusal("not."), Finish("refusal"), BILL],
    ),
    "a refusal in the item alone": Shape(
        "the same",
        over(**message(content=[{"type": "refusal", "refusal": "I cannot."}])) + last(),
        [Refusal("I cannot."), Finish("refusal"), BILL],
    ),
    "no usage": Shape("llama.cpp, of chat", DELTAS + last(usage=None), [*HELLO, Finish("stop")]),
    "no last event": Shape("WIRES: a clean cut", OPENED + DELTAS, HELLO, UpstreamInterrupted),
    "DONE without a last event": Shape(
        "a gateway", OPENED + DELTAS + b"data: [DONE]\n\n", HELLO, UpstreamInterrupted
    ),
    "a failure": Shape(
        "earendil-works/pi#1458",
        OPENED
        + last(
            status="failed", error={"code": "rate_limit_exceeded", "message": "secret"}, usage=None
        ),
        [],
        UpstreamOverloaded,
    ),
    "a failure that costs something": Shape(
        "openai-python: Response.usage",
        DELTAS + last(status="failed", error={"code": "server_error", "message": "secret"}),
        [*HELLO, BILL],
        UpstreamServerError,
    ),
    "a failure without a reason, and then an error": Shape(
        "earendil-works/pi#7983",
        OPENED
        + last(status="failed", usage=None)
        + event(
            "error",
            error={
                "type": "too_many_requests",
                "code": "rate_limit_exceeded",
                "message": "secret",
                "param": None,
            },
        ),
        [],
        UpstreamOverloaded,
    ),
    "a failure without a reason": Shape(
        "the same, cut", OPENED + last(status="failed", usage=None), [], UpstreamServerError
    ),
    "an error as it is documented": Shape(
        "openai-python: ResponseErrorEvent",
        OPENED + unnamed("error", code="rate_limit_exceeded", message="secret", param=None),
        [],
        UpstreamOverloaded,
    ),
    "an error within an error": Shape(
        "openai/openai-dotnet#881",
        OPENED
        + DELTAS
        + event("error", error={"type": "too_many_requests", "code": "too_many_requests"}),
        HELLO,
        UpstreamOverloaded,
    ),
    "an error, and then a failure": Shape(
        "vercel/ai#6534",
        event("error", error={"type": "tokens", "code": "insufficient_quota", "message": "secret"})
        + last(status="failed", error={"code": "insufficient_quota"}, usage=None),
        [],
        UpstreamAccount,
    ),
    "an error behind the end": Shape("the same", FULL + event("error", code="x"), [*HELLO, *STOP]),
    "an image that cannot be read": Shape(
        "openai-python: ResponseError.code",
        OPENED + last(status="failed", error={"code": "image_parse_error"}, usage=None),
        [],
        UpstreamRejected,
    ),
    "a cancelled response": Shape(
        "openai-python: ResponseStatus",
        DELTAS + event("response.cancelled", response=response("cancelled")),
        HELLO,
        UpstreamInterrupted,
    ),
    "a document of an error": Shape(
        "a gateway", document({"error": {"code": 429, "message": "secret"}}), [], UpstreamOverloaded
    ),
    "a document of a response that has failed": Shape(
        "openai-python: Response",
        document(response("failed", error={"code": "server_error"}, usage=None)),
        [],
        UpstreamServerError,
    ),
    "a document of a response that has not ended": Shape(
        "openai-python: background", document(response("in_progress")), [], UpstreamBadResponse
    ),
    "another document": Shape("a gateway", document({"ok": True}), [], UpstreamBadResponse),
    "a page": Shape("a gateway", b"<html>secret</html>", [], UpstreamBadResponse),
    "nothing": Shape("a gateway", b"", [], UpstreamBadResponse),
    "words": Shape("a gateway", b"data: Rate limit exceeded\n\n", [], UpstreamOverloaded),
}

SHAPES = {
    f"{group}: {name}": shape
    for group, shapes in (
        ("text", TEXT),
        ("calls", CALLS),
        ("thinking", THINKING),
        ("served", SERVED),
        ("endings", ENDINGS),
    )
    for name, shape in shapes.items()
}
