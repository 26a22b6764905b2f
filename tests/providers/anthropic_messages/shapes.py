"""Shapes in which servers answer, one a row: where it was reported, and the events that come of it.

A newcomer adds a row.
"""

import json
from typing import Any, NamedTuple

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
from tests.providers.anthropic_messages.events import (
    DIALECT,
    LAST,
    MODEL,
    PING,
    SAID,
    TEXT,
    WHOLE,
    block,
    delta,
    end,
    event,
    start,
    stop,
    text,
)


class Shape(NamedTuple):
    source: str
    body: bytes
    events: list[ProviderEvent]


def signed(signature: str = "c2ln") -> ReasoningSignature:
    return ReasoningSignature(signature, DIALECT, MODEL)


def said(index: int = 0) -> bytes:
    """A block of text."""
    pieces = text("Hello", index) + text(" world", index)
    return block(index, "text", text="") + pieces + stop(index)


def call(index: int = 0, call_id: str = "toolu_1", **fields: Any) -> bytes:
    return block(index, "tool_use", id=call_id, name="weather", **fields)


def arguments(piece: str, index: int = 0) -> bytes:
    return delta(index, "input_json_delta", partial_json=piece)


def cited(**fields: Any) -> bytes:
    return delta(3, "citations_delta", citation={"cited_text": "x", **fields})


HELLO: list[ProviderEvent] = [Delta("Hello"), Delta(" world")]


def bill(taken: int, given: int, **more: Any) -> Usage:
    return Usage(taken, given, **{"model": MODEL, "response_id": "msg_1", **more})


STOP, BILL = Finish("stop"), bill(9, 4)
CALLED = ToolCall(0, "toolu_1", "weather")
CALLS = Finish("tool_calls")
STREAMING = "platform.claude.com/docs/en/build-with-claude/streaming"
THINKING = "platform.claude.com/docs/en/build-with-claude/thinking"

SHAPES = {
    "text": Shape(STREAMING, start() + PING + said() + end() + LAST, [*HELLO, STOP, BILL]),
    "text without names of events": Shape(
        "an event stream may leave its names out: the data has the type",
        b"".join(line + b"\n\n" for line in WHOLE.split(b"\n") if line.startswith(b"data")),
        [*HELLO, STOP, BILL],
    ),
    "thinking with its signature": Shape(
        THINKING,
        start()
        + block(0, "thinking", thinking="", signature="")
        + delta(0, "thinking_delta", thinking="Let me")
        + delta(0, "thinking_delta", thinking=" see")
        + delta(0, "signature_delta", signature="c2ln")
        + stop(0)
        + block(1, "text", text="")
        + text("4", 1)
        + stop(1)
        + end(output_tokens_details={"thinking_tokens": 3})
        + LAST,
        [
            *(Reasoning(""), Reasoning("Let me"), Reasoning(" see"), signed(), Delta("4"), STOP),
            bill(9, 4, reasoning_tokens=3),
        ],
    ),
    "thinking that is not shown": Shape(
        f"{THINKING}#controlling-thinking-display",
        start()
        + block(0, "thinking", thinking="", signature="")
        + delta(0, "signature_delta", signature="c2ln")
        + stop(0)
        + said(1)
        + end()
        + LAST,
        [Reasoning(""), signed(), *HELLO, STOP, BILL],
    ),
    "redacted thinking": Shape(
        THINKING,
        start() + block(0, "redacted_thinking", data="ZGF0YQ==") + stop(0) + said(1) + end(),
        [ReasoningSignature("ZGF0YQ==", DIALECT, MODEL, redacted=True), *HELLO, STOP, BILL],
    ),
    "thinking without a signature": Shape(
        "DeepSeek, Kimi, Z.AI: can1357/oh-my-pi#908",
        start()
        + block(0, "thinking", thinking="")
        + delta(0, "thinking_delta", thinking="hm")
        + stop(0)
        + said(1)
        + end()
        + LAST,
        [Reasoning(""), Reasoning("hm"), signed(""), *HELLO, STOP, BILL],
    ),
    "thinking without its end": Shape(
        "llama.cpp before ggml-org/llama.cpp#18551",
        start()
        + delta(0, "thinking_delta", thinking="hm")
        + block(1, "text", text="")
        + text("4", 1)
        + end()
        + LAST,
        [Reasoning("hm"), signed(""), Delta("4"), STOP, BILL],
    ),
    "a call": Shape(
        STREAMING,
        SAID
        + call(1, input={})
        + arguments("", 1)
        + arguments('{"city": "Par', 1)
        + arguments('is"}', 1)
        + stop(1)
        + end("tool_use")
        + LAST,
        [
            *(*HELLO, CALLED, ToolCallDelta(0, '{"city": "Par'), ToolCallDelta(0, 'is"}'), CALLS),
            BILL,
        ],
    ),
    "a call without arguments": Shape(
        STREAMING,
        start() + call(input={}) + arguments("") + stop(0) + end("tool_use") + LAST,
        [CALLED, ToolCallDelta(0, "{}"), CALLS, BILL],
    ),
    "a call without a field for its input": Shape(
        "llama.cpp: ggml-org/llama.cpp#22960",
        start() + call() + stop(0) + end("tool_use") + LAST,
        [CALLED, ToolCallDelta(0, "{}"), CALLS, BILL],
    ),
    "a call that comes whole": Shape(
        "compatible servers: Yeachan-Heo/gajae-code#1895",
        start() + call(input={"city": "Köln"}) + stop(0) + end("tool_use") + LAST,
        [CALLED, ToolCallDelta(0, '{"city": "Köln"}'), CALLS, BILL],
    ),
    "two calls, of which the first ends late": Shape(
        "agentgateway/agentgateway#2147",
        start()
        + call(0)
        + arguments('{"a":', 0)
        + stop(0)
        + call(1, "toolu_2")
        + arguments("1}", 0)
        + arguments("{}", 1)
        + stop(1)
        + end("tool_use")
        + LAST,
        [
            *(CALLED, ToolCallDelta(0, '{"a":'), ToolCall(1, "toolu_2", "weather")),
            *(ToolCallDelta(0, "1}"), ToolCallDelta(1, "{}"), CALLS, BILL),
        ],
    ),
    "a call without its end": Shape(
        "a stream that ends with its reason",
        start() + call(0, "") + end("tool_use"),
        [ToolCall(0, "call_0", "weather"), ToolCallDelta(0, "{}"), CALLS, BILL],
    ),
    "a search of the server's, and its sources": Shape(
        "platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool",
        start()
        + block(0, "server_tool_use", id="srvtoolu_1", name="web_search", input={})
        + arguments('{"query": "x"}', 0)
        + stop(0)
        + block(
            1,
            "web_search_tool_result",
            tool_use_id="srvtoolu_1",
            content=[{"type": "web_search_result", "url": "https://a.example", "title": "A"}],
        )
        + stop(1)
        + block(2, "text", text="")
        + text("So: ", 2)
        + stop(2)
        + block(3, "text", text="", citations=[])
        + text("it is", 3)
        + cited(type="web_search_result_location", url="https://a.example", title="A")
        + cited(type="char_location", document_index=0, start_char_index=0, end_char_index=2)
        + text(" so", 3)
        + stop(3)
        + end()
        + LAST,
        [
            *(Source("https://a.example", "A"), Delta("So: "), Delta("it is"), Delta(" so")),
            *(Source("https://a.example", "A", 4, 12), STOP, BILL),
        ],
    ),
    "a search that failed": Shape(
        "platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool",
        start()
        + block(
            0,
            "web_search_tool_result",
            tool_use_id="srvtoolu_1",
            content={"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
        )
        + stop(0)
        + said(1)
        + end(),
        [*HELLO, STOP, BILL],
    ),
    "a refusal": Shape(
        "platform.claude.com/docs/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals",
        SAID
        + end("refusal", details={"type": "refusal", "category": "bio", "explanation": "No."})
        + LAST,
        [*HELLO, Refusal("No."), Finish("refusal"), BILL],
    ),
    "a refusal without an explanation": Shape(
        "platform.claude.com/docs/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals",
        start() + end("refusal", details={"type": "refusal", "category": None}) + LAST,
        [Finish("refusal"), BILL],
    ),
    **{
        f"the reason {reason}": Shape(
            STREAMING, SAID + end(reason) + LAST, [*HELLO, Finish(said), BILL]
        )
        for reason, said in {
            "stop_sequence": "stop",
            "max_tokens": "length",
            "model_context_window_exceeded": "length",
            "pause_turn": "pause_turn",
            "x" * 40: "x" * 32,
        }.items()
    },
    "cached input": Shape(
        "platform.claude.com/docs/en/build-with-claude/prompt-caching",
        start(cache_read_input_tokens=100, cache_creation_input_tokens=20) + said() + end() + LAST,
        [*HELLO, STOP, bill(129, 4, cached_tokens=100, cache_written_tokens=20)],
    ),
    "cached input for five minutes and for an hour": Shape(
        "platform.claude.com/docs/en/build-with-claude/prompt-caching: the SDK's CacheCreation",
        start(
            cache_creation_input_tokens=30,
            cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        )
        + said()
        + end(cache_creation_input_tokens=30)
        + LAST,
        [*HELLO, STOP, bill(39, 4, cache_written_tokens=30, cache_written_1h_tokens=20)],
    ),
    "an hour of cache that is longer than the cache": Shape(
        "invented",
        start(cache_creation_input_tokens=5, cache_creation={"ephemeral_1h_input_tokens": 20})
        + said()
        + end()
        + LAST,
        [*HELLO, STOP, bill(14, 4, cache_written_tokens=5, cache_written_1h_tokens=5)],
    ),
    "the priority tier": Shape(
        "platform.claude.com/docs/en/api/service-tiers",
        start(service_tier="priority") + said() + end() + LAST,
        [*HELLO, STOP, bill(9, 4, service_tier="priority")],
    ),
    "fast mode, which has prices of its own": Shape(
        "platform.claude.com/docs/en/build-with-claude/fast-mode",
        start(service_tier="standard", speed="fast") + said() + end() + LAST,
        [*HELLO, STOP, bill(9, 4, service_tier="fast")],
    ),
    "names that are no names": Shape(
        "invented",
        start(service_tier=7, cache_creation=[], speed=None)
        .replace(b'"msg_1"', b'{"a": []}')
        .replace(MODEL.encode(), b"x" * 200)
        + said()
        + end()
        + LAST,
        [*HELLO, STOP, bill(9, 4, response_id="", model="x" * 128)],
    ),
    "a usage that repeats the input": Shape(
        "laravel/ai#996: tools of the server's raise the input",
        SAID + end(input_tokens=50, cache_read_input_tokens=None, output_tokens=5) + LAST,
        [*HELLO, STOP, bill(50, 5)],
    ),
    "a usage that repeats the input as 0": Shape(
        "envoyproxy/ai-gateway#1631", SAID + end(input_tokens=0) + LAST, [*HELLO, STOP, BILL]
    ),
    "a usage that comes late": Shape(
        "Z.AI: zai-org/GLM-5#139",
        start(input_tokens=0, output_tokens=0)
        + said()
        + end(input_tokens=14, cache_read_input_tokens=6, output_tokens=3)
        + LAST,
        [*HELLO, STOP, bill(20, 3, cached_tokens=6)],
    ),
    "a usage without input": Shape(
        "Ollama before ollama/ollama#13934: chatnest counts instead",
        start(input_tokens=0) + said() + end() + LAST,
        [*HELLO, STOP],
    ),
    "a usage on several events": Shape(
        "danny-avila/agents#150: the figures are cumulative",
        SAID + end(None, output_tokens=2) + end() + LAST,
        [*HELLO, bill(9, 2), STOP, BILL],
    ),
    "a usage that is not plausible": Shape(
        "invented",
        SAID + end(output_tokens=-1) + end(None, output_tokens=1e30),
        [*HELLO, STOP],
    ),
    "an error after the reason": Shape(
        "invented: the answer is complete",
        SAID + end() + event("error", error={"type": "overloaded_error", "message": "Overloaded"}),
        [*HELLO, STOP, BILL],
    ),
    "no reason, and a last event": Shape("invented", SAID + LAST, [*HELLO, STOP]),
    "[DONE] at the end": Shape(
        "gateways that end every stream so",
        SAID + end() + b"data: [DONE]\n\n",
        [*HELLO, STOP, BILL],
    ),
    "text without its start, and fields that are null": Shape(
        "invented",
        b'data: {"type":"content_block_delta","index":null,"usage":null,'
        b'"delta":{"type":"text_delta","text":"Hi","citation":null}}\n\n'
        + end(input_tokens=9)
        + LAST,
        [Delta("Hi"), STOP, Usage(9, 4)],
    ),
    "text in the start of its block": Shape(
        "a gateway that buffers",
        start() + block(0, "text", text="Hello") + stop(0) + end() + LAST,
        [Delta("Hello"), STOP, BILL],
    ),
    "an emoji in two halves": Shape(
        "gateways that cut text by UTF-16",
        start()
        + TEXT
        + text("a\ud83d")
        + text("\ude00b")
        + text("\ud83d")
        + stop(0)
        + end()
        + LAST,
        [Delta("a"), Delta("\U0001f600b"), Delta("\ufffd"), STOP, BILL],
    ),
    "unknown events, blocks, pieces and fields": Shape(
        "platform.claude.com/docs/en/api/versioning: they may be added",
        start()
        + event("weather_report", sky="blue")
        + block(0, "compaction", content="x")
        + delta(0, "compaction_delta", content="y")
        + stop(0)
        + stop(7)
        + block(0, "text", text="", flavour={"a": [1]})
        + delta(0, "shade_delta", text="no")
        + text("Hello")
        + text(" world")
        + stop(0)
        + end(service_tier="standard")
        + LAST,
        [*HELLO, STOP, bill(9, 4, service_tier="standard")],
    ),
    "words between the events": Shape(
        "invented", SAID + b"data: still here\n\n: comment\n\n" + end() + LAST, [*HELLO, STOP, BILL]
    ),
    "a message in place of a stream": Shape(
        "gateways that do not stream",
        json.dumps(
            {
                "type": "message",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                    {"type": "text", "text": "Hello"},
                    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"a": 1.0}},
                ],
                "stop_reason": "tool_use",
                "usage": {"input_tokens": 9, "output_tokens": 4},
            }
        ).encode(),
        [
            *(Reasoning("hm"), signed(), Delta("Hello"), CALLED, ToolCallDelta(0, '{"a": 1.0}')),
            *(CALLS, Usage(9, 4)),
        ],
    ),
}
