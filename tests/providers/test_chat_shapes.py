"""Streams of Chat Completions as servers send them: their bytes, and the events of an answer.

A newcomer adds a row, with the place where the shape was reported. An id that chatnest makes is
``call_*`` in the table.
"""

import itertools
import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from chatnest.errors import UpstreamBadResponse, UpstreamError
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
from chatnest.providers.openai_chat.decode import ChunkDecoder
from chatnest.providers.openai_chat.think_tags import TagHabit
from chatnest.providers.openai_chat.thinking import ThinkingHabit
from chatnest.providers.sse import EventSplitter

MADE = "call_*"
MADE_ID = re.compile("call_[0-9a-f]{24}")
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Shape:
    """``events`` without neighbours of one kind: texts are joined, and so are arguments."""

    source: str
    stream: bytes
    events: list[ProviderEvent]
    is_local: bool = False


def event(value: Any) -> bytes:
    return b"data: %b\n\n" % (value if isinstance(value, bytes) else json.dumps(value).encode())


def stream(*chunks: Any, end: bytes = DONE) -> bytes:
    return b"".join(map(event, chunks)) + end


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice], **more}


def text(content: str) -> dict[str, Any]:
    return chunk({"content": content})


def call(
    arguments: Any = None, *, name: str | None = None, call_id: Any = None, **more: Any
) -> dict[str, Any]:
    """A piece of a call, with the index 0 unless ``index`` says otherwise. None is left out."""
    function = {"name": name, "arguments": arguments}
    function = {key: value for key, value in function.items() if value is not None}
    piece = {"index": 0, "id": call_id, "type": "function", "function": function, **more}
    return {key: value for key, value in piece.items() if value is not None}


def calls(*pieces: dict[str, Any], **more: Any) -> dict[str, Any]:
    return chunk({"tool_calls": list(pieces)}, **more)


def usage(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    figures = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"choices": [], "usage": {**figures, "total_tokens": prompt + completion, **more}}


def seal(value: Any, *, redacted: bool = True, block: str = "") -> ReasoningSignature:
    text = json.dumps(value, separators=(",", ":"))
    return ReasoningSignature(text, "openai-chat", "m", redacted=redacted, id=block)


def whole(index: int, call_id: str, name: str, arguments: str) -> list[ProviderEvent]:
    return [ToolCall(index, call_id, name), ToolCallDelta(index, arguments)]


STOP, CALLED = chunk(finish="stop"), chunk(finish="tool_calls")
BILL, COST = usage(9, 3), Usage(9, 3)
UNLIKELY: tuple[Any, ...] = (
    *(-0.5, "0.5", "cost", None, True, {"total_cost": 1}, [], 1e300, 1_000_001),
)
PARIS, ROME = '{"city":"Paris"}', '{"city":"Rome"}'
ENDED: list[ProviderEvent] = [Finish("tool_calls"), COST]
SAID: list[ProviderEvent] = [Finish("stop"), COST]

CALLS = {
    "OpenAI: arguments in pieces": Shape(
        "platform.openai.com/docs/guides/function-calling#streaming",
        stream(
            chunk({"role": "assistant", "content": None}),
            calls(call("", name="look", call_id="call_1")),
            *(calls(call(piece)) for piece in ('{"', "city", '":"', "Paris", '"}')),
            *(CALLED, BILL),
        ),
        [*whole(0, "call_1", "look", PARIS), *ENDED],
    ),
    "OpenAI: two calls, one after the other": Shape(
        "vllm-project/vllm#18412 (OpenAI's own, for comparison)",
        stream(
            calls(call("", name="look", call_id="call_1")),
            calls(call(PARIS)),
            calls(call("", name="look", call_id="call_2", index=1)),
            calls(call(ROME, index=1)),
            *(CALLED, BILL),
        ),
        [*whole(0, "call_1", "look", PARIS), *whole(1, "call_2", "look", ROME), *ENDED],
    ),
    "OpenAI: the pieces of two calls alternate": Shape(
        "",
        stream(
            calls(call("", name="a", call_id="c1"), call("", name="b", call_id="c2", index=1)),
            calls(call('{"x":')),
            calls(call('{"y":', index=1)),
            calls(call("1}")),
            calls(call("2}", index=1)),
            *(CALLED, BILL),
        ),
        [
            ToolCall(0, "c1", "a"),
            ToolCallDelta(0, '{"x":'),
            ToolCall(1, "c2", "b"),
            ToolCallDelta(1, '{"y":'),
            ToolCallDelta(0, "1}"),
            ToolCallDelta(1, "2}"),
            *ENDED,
        ],
    ),
    "OpenAI: stop after a forced call": Shape(
        "ollama/ollama#7963",
        stream(calls(call(PARIS, name="look", call_id="call_1")), STOP, BILL),
        [*whole(0, "call_1", "look", PARIS), *ENDED],
    ),
    "OpenAI: the older form": Shape(
        "platform.openai.com/docs/api-reference/chat-streaming",
        stream(
            chunk({"function_call": {"name": "look", "arguments": ""}}),
            chunk({"function_call": {"arguments": '{"city":'}}),
            chunk({"function_call": {"arguments": '"Paris"}'}}),
            chunk(finish="function_call"),
            BILL,
        ),
        [*whole(0, MADE, "look", PARIS), *ENDED],
    ),
    "OpenAI: the name and whole arguments once more are a call": Shape(
        "open-webui/open-webui#22235",
        stream(
            calls(call(PARIS, name="look", call_id="call_1")),
            calls(call(ROME, name="look")),
            *(CALLED, BILL),
        ),
        [*whole(0, "call_1", "look", PARIS), *whole(1, MADE, "look", ROME), *ENDED],
    ),
    "OpenAI: text before the call": Shape(
        "",
        stream(text("Let me look."), calls(call(PARIS, name="look", call_id="c")), CALLED, BILL),
        [Delta("Let me look."), *whole(0, "c", "look", PARIS), *ENDED],
    ),
    "OpenAI: cut within the arguments": Shape(
        "platform.openai.com/docs/guides/function-calling",
        stream(
            calls(call("", name="look", call_id="c")),
            calls(call('{"city":"Par')),
            chunk(finish="length"),
            BILL,
        ),
        [*whole(0, "c", "look", '{"city":"Par'), Finish("length"), COST],
    ),
    "OpenAI: cut before the arguments": Shape(
        "",
        stream(calls(call("", name="look", call_id="c")), chunk(finish="length"), BILL),
        [ToolCall(0, "c", "look"), Finish("length"), COST],
    ),
    "Azure: filters first, and a call": Shape(
        "meilisearch/meilisearch#6477",
        stream(
            {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            calls(call(PARIS, name="look", call_id="c"), content_filter_results={}),
            *(CALLED, BILL),
        ),
        [*whole(0, "c", "look", PARIS), *ENDED],
    ),
    "Gemini: no index, whole, and stop": Shape(
        "googleapis/python-genai#2868",
        stream(calls(call(PARIS, name="look", call_id="jm4owj31", index=None)), STOP, BILL),
        [*whole(0, "jm4owj31", "look", PARIS), *ENDED],
    ),
    "Gemini: two calls without an index in one chunk": Shape(
        "SamSaffron/term-llm#314",
        stream(
            calls(
                call(PARIS, name="look", call_id="a1", index=None),
                call(ROME, name="look", call_id="a2", index=None),
            ),
            *(STOP, BILL),
        ),
        [*whole(0, "a1", "look", PARIS), *whole(1, "a2", "look", ROME), *ENDED],
    ),
    "Gemini: two calls without an index, a chunk each": Shape(
        "openai/openai-python#2806",
        stream(
            calls(call(PARIS, name="look", call_id="a1", index=None)),
            calls(call(ROME, name="look", call_id="a2", index=None)),
            *(STOP, BILL),
        ),
        [*whole(0, "a1", "look", PARIS), *whole(1, "a2", "look", ROME), *ENDED],
    ),
    "Gemini: more arguments without an index": Shape(
        "AstrBotDevs/AstrBot#6661",
        stream(
            calls(call("", name="look", call_id="a1", index=None)),
            calls({"id": "", "type": "", "function": {"arguments": '{"city":'}}),
            calls({"id": "", "type": "", "function": {"arguments": '"Paris"}'}}),
            *(STOP, BILL),
        ),
        [*whole(0, "a1", "look", PARIS), *ENDED],
    ),
    "Gemini: a call with its signature": Shape(
        "THU-MAIC/OpenMAIC#1556",
        stream(
            calls(
                call(
                    PARIS,
                    name="look",
                    call_id="a1",
                    index=None,
                    extra_content={"google": {"thought_signature": "s1"}},
                )
            ),
            *(STOP, BILL),
        ),
        [
            *whole(0, "a1", "look", PARIS),
            seal({"extra_content": {"google": {"thought_signature": "s1"}}}, block="a1"),
            *ENDED,
        ],
    ),
    "Gemini: a signature in a chunk of its own": Shape(
        "open-webui/computer#224",
        stream(
            calls(call(PARIS, name="look", call_id="a1", index=None)),
            calls({"extra_content": {"google": {"thought_signature": "s1"}}}),
            *(STOP, BILL),
        ),
        [
            *whole(0, "a1", "look", PARIS),
            seal({"extra_content": {"google": {"thought_signature": "s1"}}}, block="a1"),
            *ENDED,
        ],
    ),
    "Gemini: the signature of an answer without calls": Shape(
        "ai.google.dev/gemini-api/docs/thought-signatures",
        stream(
            text("Hello"),
            chunk({"content": "", "extra_content": {"google": {"thought_signature": "s1"}}}),
            *(STOP, BILL),
        ),
        [
            Delta("Hello"),
            seal({"extra_content": {"google": {"thought_signature": "s1"}}}),
            *SAID,
        ],
    ),
    "Gemini through a gateway: a name in pieces": Shape(
        "continuedev/continue#5849",
        stream(
            calls(call("", name="edit_ex", call_id="c")),
            calls(call("", name="isting_file")),
            calls(call(PARIS)),
            *(CALLED, BILL),
        ),
        [*whole(0, "c", "edit_existing_file", PARIS), *ENDED],
    ),
    "MiniMax at NVIDIA: the name in each chunk": Shape(
        "NousResearch/hermes-agent#11984",
        stream(
            calls(call('{"city":', name="look", call_id="c")),
            calls(call('"Paris"}', name="look")),
            calls(call("", name="look")),
            *(CALLED, BILL),
        ),
        [*whole(0, "c", "look", PARIS), *ENDED],
    ),
    "Fireworks: id, type and name in each chunk": Shape(
        "SillyTavern/SillyTavern#5948",
        stream(
            calls(call("", name="look", call_id="chatcmpl-tool-a")),
            calls(call('{"city":', name="look", call_id="chatcmpl-tool-a")),
            calls(call('"Paris"}', name="look", call_id="chatcmpl-tool-a")),
            *(CALLED, BILL),
        ),
        [*whole(0, "chatcmpl-tool-a", "look", PARIS), *ENDED],
    ),
    "vLLM: index 0 for each call, and empty ids": Shape(
        "InternLM/lmdeploy#3412",
        stream(
            calls(call("", name="look", call_id="chatcmpl-tool-a")),
            calls(call(PARIS, call_id="")),
            calls(call("", name="look", call_id="chatcmpl-tool-b")),
            calls(call(ROME, call_id="")),
            *(CALLED, BILL),
        ),
        [
            *whole(0, "chatcmpl-tool-a", "look", PARIS),
            *whole(1, "chatcmpl-tool-b", "look", ROME),
            *ENDED,
        ],
    ),
    "vLLM: no id in the stream": Shape(
        "vllm-project/vllm#18412",
        stream(calls(call("", name="look")), calls(call(PARIS)), CALLED, BILL),
        [*whole(0, MADE, "look", PARIS), *ENDED],
    ),
    "vLLM: stop after a named choice": Shape(
        "vllm-project/vllm#9209",
        stream(calls(call(PARIS, name="look", call_id="c")), STOP, BILL),
        [*whole(0, "c", "look", PARIS), *ENDED],
    ),
    "vLLM: another id in each chunk": Shape(
        "vllm-project/vllm#23522",
        stream(
            calls(call('{"city":', name="look", call_id="c1")),
            calls(call('"Paris"}', name="look", call_id="c2")),
            *(CALLED, BILL),
        ),
        [*whole(0, "c1", "look", PARIS), *ENDED],
    ),
    "Poolside: another id after the first chunk": Shape(
        "poolsideai/pool#9",
        stream(
            calls(call("", name="look", call_id="c1")), calls(call(PARIS, call_id="c2")), CALLED
        ),
        [*whole(0, "c1", "look", PARIS), Finish("tool_calls")],
    ),
    "SGLang: no id beyond the first call": Shape(
        "sgl-project/sglang#7048",
        stream(
            calls(call(PARIS, name="look", call_id="call_0")),
            calls(call(ROME, name="look", index=1)),
            *(CALLED, BILL),
        ),
        [*whole(0, "call_0", "look", PARIS), *whole(1, MADE, "look", ROME), *ENDED],
    ),
    "SGLang: ids that are numbers in strings, all under index 0": Shape(
        "InternLM/lmdeploy#3412",
        stream(
            calls(call("", name="look", call_id="0")),
            calls(call(PARIS, call_id="0")),
            calls(call("", name="find", call_id="1")),
            calls(call(ROME, call_id="1")),
            *(CALLED, BILL),
        ),
        [*whole(0, "0", "look", PARIS), *whole(1, "1", "find", ROME), *ENDED],
    ),
    "Ollama: two calls with index 0, and stop": Shape(
        "BerriAI/litellm#37792",
        stream(
            calls(call(PARIS, name="look", call_id="call_a")),
            calls(call(ROME, name="look", call_id="call_b")),
            *(STOP, BILL),
        ),
        [*whole(0, "call_a", "look", PARIS), *whole(1, "call_b", "look", ROME), *ENDED],
    ),
    "Ollama through a gateway: arguments as an object": Shape(
        "BerriAI/litellm#37792",
        stream(calls(call({"city": "Paris"}, name="look", call_id="c")), STOP, BILL),
        [*whole(0, "c", "look", PARIS), *ENDED],
    ),
    "llama.cpp: the first delta has null, and the call follows": Shape(
        "ggml-org/llama.cpp#12379",
        stream(
            chunk({"role": "assistant", "content": None}),
            calls(call("{", name="look", call_id="c")),
            calls(call('"city":"Paris"}')),
            *(CALLED, BILL),
        ),
        [*whole(0, "c", "look", PARIS), *ENDED],
    ),
    "Mistral: the whole call with its finish": Shape(
        "openclaw/openclaw#130532",
        stream(
            calls(call(PARIS, name="look", call_id="WcG8xhSs1"))
            | {"usage": BILL["usage"]}
            | {
                "choices": [
                    {
                        "index": 0,
                        "delta": {
                            "content": "",
                            "tool_calls": [call(PARIS, name="look", call_id="WcG8xhSs1")],
                        },
                        "finish_reason": "tool_calls",
                    }
                ]
            }
        ),
        [*whole(0, "WcG8xhSs1", "look", PARIS), *ENDED],
    ),
    "Mistral: the id is null in a string, the name is empty": Shape(
        "zed-industries/zed#53605",
        stream(
            calls(call("", name="look", call_id="WcG8xhSs1")),
            calls(call('{"city":', name="", call_id="null")),
            calls(call('"Paris"}', name="", call_id="null")),
            *(CALLED, BILL),
        ),
        [*whole(0, "WcG8xhSs1", "look", PARIS), *ENDED],
    ),
    "OpenRouter: no arguments": Shape(
        "simonw/llm#1164",
        stream(calls(call("", name="version", call_id="toolu_1")), CALLED, BILL),
        [*whole(0, "toolu_1", "version", "{}"), *ENDED],
    ),
    "Meta: null for no arguments": Shape(
        "simonw/llm#1521",
        stream(
            calls({"index": 0, "id": "c", "function": {"name": "time", "arguments": None}}),
            *(CALLED, BILL),
        ),
        [*whole(0, "c", "time", "{}"), *ENDED],
    ),
    "xAI: the whole call in one chunk": Shape(
        "docs.x.ai/docs/guides/function-calling",
        stream(
            calls(call(PARIS, name="look", call_id="call_1"), call(ROME, name="look", index=1)),
            *(CALLED, BILL),
        ),
        [*whole(0, "call_1", "look", PARIS), *whole(1, MADE, "look", ROME), *ENDED],
    ),
    "Together: an index that jumps": Shape(
        "lunary-ai/abso#2",
        stream(
            calls(call(PARIS, name="look", call_id="c1", index=1)),
            calls(call(ROME, name="look", call_id="c2", index=3)),
            *(CALLED, BILL),
        ),
        [*whole(0, "c1", "look", PARIS), *whole(1, "c2", "look", ROME), *ENDED],
    ),
    "another name under one index, without an id": Shape(
        "",
        stream(
            calls(call(PARIS, name="look")),
            calls(call("", name="find")),
            calls(call(ROME)),
            *(CALLED, BILL),
        ),
        [*whole(0, MADE, "look", PARIS), *whole(1, MADE, "find", ROME), *ENDED],
    ),
    "one id for two calls": Shape(
        "",
        stream(
            calls(call(PARIS, name="look", call_id="c")),
            calls(call(ROME, name="look", call_id="c", index=1)),
            *(CALLED, BILL),
        ),
        [*whole(0, "c", "look", PARIS), *whole(1, MADE, "look", ROME), *ENDED],
    ),
    "LM Studio: the id comes after the name": Shape(
        "",
        stream(calls(call("", name="look")), calls(call(PARIS, call_id="365174485")), CALLED, BILL),
        [*whole(0, "365174485", "look", PARIS), *ENDED],
    ),
    "a whole completion with calls": Shape(
        "BerriAI/litellm#35663",
        json.dumps(
            {
                "object": "chat.completion",
                "choices": [
                    {
                        "message": {
                            "role": "assistant",
                            "content": None,
                            "tool_calls": [call(PARIS, name="look", call_id="c", index=None)],
                        },
                        "finish_reason": "tool_calls",
                    }
                ],
                "usage": BILL["usage"],
            }
        ).encode(),
        [*whole(0, "c", "look", PARIS), *ENDED],
    ),
    "the whole message once more at the end": Shape(
        "perplexityai/api-discussion#209",
        stream(
            calls(call(PARIS, name="look", call_id="c")),
            {
                "choices": [
                    {
                        "message": {"tool_calls": [call(PARIS, name="look", call_id="c")]},
                        "finish_reason": "tool_calls",
                    }
                ]
            },
            BILL,
        ),
        [*whole(0, "c", "look", PARIS), *ENDED],
    ),
}

ONE = {"type": "text", "text": "One"}
TEXT_DETAIL = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
THINKING = {
    "DeepSeek: reasoning_content, and its usage": Shape(
        "api-docs.deepseek.com/guides/reasoning_model",
        stream(
            chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
            *(chunk({"content": None, "reasoning_content": piece}) for piece in ("One", " two")),
            text("Hello"),
            *(STOP, usage(9, 3, prompt_cache_hit_tokens=4, prompt_cache_miss_tokens=5)),
        ),
        [
            Reasoning("One two"),
            Delta("Hello"),
            Finish("stop"),
            Usage(9, 3, cached_tokens=4),
        ],
    ),
    "DeepSeek: thinking, and then a call": Shape(
        "Oaklight/llm-rosetta#356",
        stream(
            chunk({"content": None, "reasoning_content": "One"}),
            calls(call("", name="look", call_id="call_00")),
            calls(call(PARIS)),
            *(CALLED, BILL),
        ),
        [Reasoning("One"), *whole(0, "call_00", "look", PARIS), *ENDED],
    ),
    "vLLM: reasoning, beside the older name": Shape(
        "vllm-project/vllm#27755",
        stream(
            chunk({"reasoning": "One", "reasoning_content": "One"}),
            chunk({"reasoning": " two", "reasoning_content": " two"}),
            *(text("Hello"), STOP, BILL),
        ),
        [Reasoning("One two"), Delta("Hello"), *SAID],
    ),
    "Groq: reasoning, and the usage in an object of its own": Shape(
        "vercel/ai#8057",
        stream(
            chunk({"reasoning": "One", "channel": "analysis"}),
            text("Hello"),
            chunk(finish="stop", x_groq={"id": "r", "usage": BILL["usage"]}),
        ),
        [Reasoning("One"), Delta("Hello"), *SAID],
    ),
    "Moonshot: the usage in the choice": Shape(
        "platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model",
        stream(
            chunk({"reasoning_content": "One"}),
            text("Hello"),
            {
                "choices": [
                    {"delta": {}, "finish_reason": "stop", "usage": BILL["usage"]},
                ]
            },
        ),
        [Reasoning("One"), Delta("Hello"), *SAID],
    ),
    "Qwen: the content is empty beside the thinking": Shape(
        "help.aliyun.com/zh/model-studio/deep-thinking",
        stream(
            chunk({"content": "", "reasoning_content": "One"}),
            chunk({"content": "Hello", "reasoning_content": ""}),
            *(STOP, usage(9, 3, completion_tokens_details={"reasoning_tokens": 2})),
        ),
        [Reasoning("One"), Delta("Hello"), Finish("stop"), Usage(9, 3, reasoning_tokens=2)],
    ),
    "Mistral: thinking in the parts of the content": Shape(
        "n8n-io/n8n#37352",
        stream(
            chunk(
                {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "One"}]}]}
            ),
            chunk({"content": [{"type": "text", "text": "Hello"}]}),
            text(" world"),
            *(STOP, BILL),
        ),
        [Reasoning("One"), Delta("Hello world"), *SAID],
    ),
    "LM Studio: reasoning, by a setting of the server": Shape(
        "lmstudio.ai/docs/app/api/changelog",
        stream(chunk({"reasoning": "One"}), text("Hello"), STOP, BILL),
        [Reasoning("One"), Delta("Hello"), *SAID],
        is_local=True,
    ),
    "Ollama: tags in the text": Shape(
        "ollama/ollama#8528",
        stream(*map(text, ("<think>", "One", "</think>", "\n\nHello")), STOP, BILL),
        [Reasoning("One"), Delta("Hello"), *SAID],
        is_local=True,
    ),
    "llama.cpp: thinking with timings": Shape(
        "openai-php/client#780",
        stream(
            *(chunk({"reasoning_content": piece}, timings={"cache_n": 7}) for piece in "ab"),
            *(text("Hello"), STOP, BILL),
        ),
        [Reasoning("ab"), Delta("Hello"), *SAID],
        is_local=True,
    ),
    "Gemini: thoughts that are marked, in tags": Shape(
        "discuss.ai.google.dev/t/87141",
        stream(
            chunk({"content": "<thought>One", "extra_content": {"google": {"thought": True}}}),
            chunk({"content": " two", "extra_content": {"google": {"thought": True}}}),
            *(text("</thought>Hello"), text(" world"), STOP, BILL),
        ),
        [Reasoning("One two"), Delta("Hello world"), *SAID],
    ),
    "Gemini: thoughts that are marked, without tags": Shape(
        "discuss.ai.google.dev/t/87141",
        stream(
            chunk({"content": "One", "extra_content": {"google": {"thought": True}}}),
            *(text("Hello"), STOP, BILL),
        ),
        [Reasoning("One"), Delta("Hello"), *SAID],
    ),
    "OpenRouter: details beside the thinking": Shape(
        "openrouter.ai/docs/use-cases/reasoning-tokens",
        stream(
            *(
                chunk(
                    {
                        "content": "",
                        "reasoning": piece,
                        "reasoning_details": [{**TEXT_DETAIL, "text": piece, "format": None}],
                    }
                )
                for piece in ("One", " two")
            ),
            *(text("Hello"), STOP, BILL),
        ),
        [Reasoning("One two"), Delta("Hello"), *SAID],
    ),
    "OpenRouter: Anthropic's signature": Shape(
        "jeremychone/rust-genai#298",
        stream(
            *(
                chunk({"reasoning": p, "reasoning_details": [{**TEXT_DETAIL, "text": p}]})
                for p in ("One", " two", " three")
            ),
            chunk({"content": "", "reasoning_details": [{**TEXT_DETAIL, "signature": "EqQB"}]}),
            calls(call(PARIS, name="look", call_id="toolu_1")),
            *(CALLED, BILL),
        ),
        [
            Reasoning("One two three"),
            seal({"reasoning_details": [{**TEXT_DETAIL, "signature": "EqQB"}]}, redacted=False),
            *whole(0, "toolu_1", "look", PARIS),
            *ENDED,
        ],
    ),
    "OpenRouter: OpenAI's summary and encrypted thinking": Shape(
        "theopenco/llmgateway#3600",
        stream(
            *(
                chunk(
                    {
                        "reasoning": piece,
                        "reasoning_details": [
                            {"type": "reasoning.summary", "summary": piece, "index": 0}
                        ],
                    }
                )
                for piece in ("One", " two")
            ),
            chunk(
                {
                    "reasoning_details": [
                        {
                            "type": "reasoning.encrypted",
                            "data": "gAAA",
                            "format": "openai-responses-v1",
                            "id": "rs_1",
                            "index": 0,
                        }
                    ]
                }
            ),
            *(text("Hello"), STOP, BILL),
        ),
        [
            Reasoning("One two"),
            seal(
                {
                    "reasoning_details": [
                        {"type": "reasoning.summary", "size": 7, "index": 0},
                        {
                            "type": "reasoning.encrypted",
                            "data": "gAAA",
                            "format": "openai-responses-v1",
                            "id": "rs_1",
                            "index": 0,
                        },
                    ]
                },
                redacted=False,
                block="rs_1",
            ),
            Delta("Hello"),
            *SAID,
        ],
    ),
    "OpenRouter: Gemini's encrypted thinking, after its call": Shape(
        "agentjido/req_llm#300",
        stream(
            calls(call(PARIS, name="look", call_id="tool_0")),
            chunk(
                {
                    "reasoning_details": [
                        {"type": "reasoning.encrypted", "data": "Ev", "id": "tool_0", "index": 0}
                    ]
                }
            ),
            *(CALLED, BILL),
        ),
        [
            *whole(0, "tool_0", "look", PARIS),
            seal(
                {
                    "reasoning_details": [
                        {"type": "reasoning.encrypted", "data": "Ev", "id": "tool_0", "index": 0}
                    ]
                },
                block="tool_0",
            ),
            *ENDED,
        ],
    ),
    "xAI: reasoning beside the completion in the usage": Shape(
        "UKGovernmentBEIS/inspect_ai#5528",
        stream(
            chunk({"reasoning_content": "One"}),
            text("Hello"),
            STOP,
            {
                "choices": [],
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 3,
                    "total_tokens": 32,
                    "prompt_tokens_details": {"cached_tokens": 4},
                    "completion_tokens_details": {"reasoning_tokens": 20},
                },
            },
        ),
        [
            Reasoning("One"),
            Delta("Hello"),
            Finish("stop"),
            Usage(9, 23, cached_tokens=4, reasoning_tokens=20),
        ],
    ),
}

PAGE = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
PLACED = {"start_index": 2, "end_index": 5}
BESIDE = {
    "OpenAI: citations with their places": Shape(
        "vercel/ai#7754",
        stream(
            text("Hello"),
            chunk(
                {"annotations": [{**PAGE, "url_citation": {**PAGE["url_citation"], **PLACED}}]}  # type: ignore[dict-item]
            ),
            *(STOP, BILL),
        ),
        [Delta("Hello"), Source("https://a.example", "A", 2, 5), *SAID],
    ),
    "OpenRouter: citations beside a text, once more in the next chunk": Shape(
        "openai/openai-agents-js#1617",
        stream(
            chunk({"content": "Hello", "annotations": [PAGE]}),
            chunk({"content": " world", "annotations": [PAGE]}),
            *(STOP, BILL),
        ),
        [Delta("Hello"), Source("https://a.example", "A"), Delta(" world"), *SAID],
    ),
    "Perplexity: citations and results in each chunk": Shape(
        "symfony/ai#388",
        stream(
            *(
                chunk(
                    {"content": piece},
                    finish,
                    citations=["https://a.example"],
                    search_results=[{"title": "A", "url": "https://a.example", "date": None}],
                    usage=BILL["usage"],
                )
                for piece, finish in (("Hello", None), (" world", "stop"))
            )
        ),
        [
            Delta("Hello"),
            Source("https://a.example", "A"),
            COST,
            Delta(" world"),
            *SAID,
        ],
    ),
    "Perplexity: citations alone": Shape(
        "BerriAI/litellm#13777",
        stream(
            chunk({"content": "Hello"}, citations=["https://a.example", "https://b.example"]),
            chunk(finish="stop", citations=["https://a.example", "https://b.example"]),
            BILL,
        ),
        [
            Delta("Hello"),
            Source("https://a.example"),
            Source("https://b.example"),
            *SAID,
        ],
    ),
    "a source that is no page": Shape(
        "",
        stream(text("Hello"), chunk(finish="stop", citations=["javascript:alert(1)", 5, {}]), BILL),
        [Delta("Hello"), *SAID],
    ),
    "OpenAI: a refusal in pieces": Shape(
        "platform.openai.com/docs/guides/structured-outputs#refusals",
        stream(chunk({"refusal": "I can"}), chunk({"refusal": "not."}), STOP, BILL),
        [Refusal("I cannot."), Finish("refusal"), COST],
    ),
    "OpenRouter: its own price": Shape(
        "openrouter.ai/docs/use-cases/usage-accounting",
        stream(
            text("Hello"),
            STOP,
            usage(9, 3, cost=0.00014, cost_details={"upstream_inference_cost": None})
            | {"id": "gen-1", "model": "openai/gpt-5", "provider": "OpenAI"},
        ),
        [
            *(Delta("Hello"), Finish("stop")),
            Usage(9, 3, model="openai/gpt-5", response_id="gen-1", stated_cost=140_000),
        ],
    ),
    "OpenRouter: a price of nothing": Shape(
        "the same",
        stream(text("Hello"), STOP, usage(9, 3, cost=0, estimated_cost=1)),
        [Delta("Hello"), Finish("stop"), Usage(9, 3, stated_cost=0)],
    ),
    "DeepInfra: its own price": Shape(
        "deepinfra.com/docs/openai_api",
        stream(text("Hello"), STOP, usage(9, 3, estimated_cost=9.9000000000001e-06)),
        [Delta("Hello"), Finish("stop"), Usage(9, 3, stated_cost=9_901)],
    ),
    "xAI: its own price": Shape(
        "docs.x.ai/developers/cost-tracking",
        stream(text("Hello"), STOP, usage(9, 3, cost_in_usd_ticks=37_756_000)),
        [Delta("Hello"), Finish("stop"), Usage(9, 3, stated_cost=3_775_600)],
    ),
    **{
        f"a price that is {cost!r}": Shape(
            "invented",
            stream(text("Hello"), STOP, usage(9, 3, cost=cost)),
            [Delta("Hello"), Finish("stop"), COST],
        )
        for cost in UNLIKELY
    },
    "a tier that is named at the end alone, with usage on every chunk": Shape(
        "invented",
        stream(
            text("Hello") | {"usage": BILL["usage"], "id": "c_1"},
            STOP | {"usage": BILL["usage"], "id": "c_1", "service_tier": "flex"},
        ),
        [
            *(Delta("Hello"), Usage(9, 3, response_id="c_1"), Finish("stop")),
            Usage(9, 3, response_id="c_1", service_tier="flex"),
        ],
    ),
    "Groq: a tier of its own name": Shape(
        "console.groq.com/docs/service-tiers",
        stream(text("Hello"), STOP, usage(9, 3) | {"service_tier": "on_demand"}),
        [Delta("Hello"), Finish("stop"), Usage(9, 3, service_tier="on_demand")],
    ),
    "OpenRouter: cached and written tokens": Shape(
        "openrouter.ai/docs/features/prompt-caching",
        stream(
            text("Hello"),
            STOP,
            usage(90, 3, prompt_tokens_details={"cached_tokens": 40, "cache_write_tokens": 30}),
        ),
        [
            Delta("Hello"),
            Finish("stop"),
            Usage(90, 3, cached_tokens=40, cache_written_tokens=30),
        ],
    ),
    **{
        f"the word {word}": Shape(
            source,
            stream(text("Hello"), chunk(finish=word), BILL),
            [Delta("Hello"), Finish(reason), COST],
        )
        for word, reason, source in (
            ("eos", "stop", "api.together.ai/docs"),
            ("end_turn", "stop", "BerriAI/litellm#12481"),
            ("STOP", "stop", "googleapis/python-genai#2868"),
            ("MAX_TOKENS", "length", "ai.google.dev/api/generate-content"),
            ("model_length", "length", "docs.mistral.ai/api"),
            ("content_filter", "content_filter", "platform.openai.com/docs/api-reference/chat"),
            ("sensitive", "sensitive", "docs.z.ai/api-reference/llm/chat-completion"),
        )
    },
}

SHAPES = CALLS | THINKING | BESIDE


def decoder(shape: Shape, *, tools: bool = True) -> ChunkDecoder:
    return ChunkDecoder(
        EventSplitter(),
        max_chunks=1_000,
        habit=TagHabit("m") if shape.is_local else None,
        tools=tools,
        model="m",
        thinking=ThinkingHabit("m"),
    )


def joined(events: list[ProviderEvent]) -> list[ProviderEvent]:
    """The events with neighbours of one kind in one, and without the random part of ids."""
    found: list[ProviderEvent] = []
    for each in events:
        last = found[-1] if found else None
        if isinstance(each, Delta) and isinstance(last, Delta):
            found[-1] = Delta(last.text + each.text)
        elif isinstance(each, Reasoning) and isinstance(last, Reasoning):
            found[-1] = Reasoning(last.text + each.text)
        elif isinstance(each, Refusal) and isinstance(last, Refusal):
            found[-1] = Refusal(last.text + each.text)
        elif isinstance(each, ToolCallDelta) and is_more(each, last):
            found[-1] = ToolCallDelta(each.index, found[-1].text + each.text)  # type: ignore[union-attr]
        elif isinstance(each, ToolCall) and MADE_ID.fullmatch(each.id):
            found.append(ToolCall(each.index, MADE, each.name))
        elif each != Reasoning(""):
            found.append(each)
    return found


def is_more(piece: ToolCallDelta, last: ProviderEvent | None) -> bool:
    return isinstance(last, ToolCallDelta) and last.index == piece.index


def read(shape: Shape, *pieces: bytes, tools: bool = True) -> list[ProviderEvent]:
    d = decoder(shape, tools=tools)
    events = [event for piece in pieces for event in d.feed(piece)]
    events += d.finish()
    if d.failure is not None:
        raise d.failure
    d.end()
    return joined(events)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_stream_means_the_same_wherever_it_is_cut(shape):
    stream = shape.stream
    assert read(shape, stream) == shape.events
    assert read(shape, *[stream[n : n + 1] for n in range(len(stream))]) == shape.events
    for at in range(0, len(stream), 7):
        assert read(shape, stream[:at], stream[at:]) == shape.events


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_stream_that_breaks_off_ends_in_one_way(shape):
    whole = read(shape, shape.stream)
    for at in range(0, len(shape.stream), 11):
        try:
            events = read(shape, shape.stream[:at])
        except UpstreamError:
            continue
        assert [e for e in events if isinstance(e, Finish)] == [
            e for e in whole if isinstance(e, Finish)
        ]


class Takes:
    """Takes each piece that it is offered."""

    def __init__(self) -> None:
        self.taken: list[ProviderEvent] = []

    def take(self, piece: str | Reasoning, /) -> bool:
        self.taken.append(Delta(piece) if isinstance(piece, str) else piece)
        return True


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_makes_no_difference_which_chunks_take_the_short_cut(shape):
    d, taker = decoder(shape), Takes()
    d.taker = taker
    events: list[ProviderEvent] = []
    for piece in re.findall(rb".*?\n\n|.+", shape.stream, re.DOTALL):
        if d.take(piece):
            events.append(taker.taken[-1])
        else:
            events += d.feed(piece)
    events += d.finish()
    found = [e for e in joined(events) if not isinstance(e, ReasoningSignature)]
    assert found == [e for e in shape.events if not isinstance(e, ReasoningSignature)]


@pytest.mark.parametrize("shape", CALLS.values(), ids=CALLS)
def test_a_call_that_nobody_asked_for_is_a_bad_response(shape):
    if any(isinstance(event, ToolCall) for event in shape.events):
        with pytest.raises(UpstreamBadResponse):
            read(shape, shape.stream, tools=False)


def test_a_piece_of_nothing_is_no_call():
    nothing = chunk({"tool_calls": [{"index": 0}, None, {"function": 5}]})
    d = decoder(Shape("", b"", []))
    assert d.feed(stream(nothing, text("Hello"))) == [Delta("Hello")]


def test_a_call_without_a_name_is_a_bad_response():
    with pytest.raises(UpstreamBadResponse):
        read(Shape("", b"", []), stream(calls(call(PARIS, call_id="c")), CALLED))


def test_an_answer_has_so_many_calls_and_no_more():
    chunks = [calls(call("{}", name="look", index=n)) for n in range(1_025)]
    d = ChunkDecoder(EventSplitter(), max_chunks=2_000, tools=True)
    d.feed(stream(*chunks))
    assert isinstance(d.failure, UpstreamBadResponse)


def test_thinking_that_arrives_alone_takes_the_short_cut():
    d, taker = decoder(Shape("", b"", [])), Takes()
    d.taker = taker
    piece = event(chunk({"content": None, "reasoning_content": "One"}))
    assert not d.take(piece)  # a BOM could stand before it
    d.feed(piece)
    assert d.take(piece)
    assert not d.take(event(text("Hello")))
    d.feed(event(text("Hello")))
    assert d.take(event(text("Hello")))
    assert not d.take(piece)
    assert taker.taken == [Reasoning("One"), Delta("Hello")]


def test_half_of_a_surrogate_pair_is_replaced_in_all_that_is_not_text():
    broken = (
        rb'{"choices":[{"delta":{"refusal":"\ud83d","tool_calls":[{"index":0,"id":"\ud83d",'
        rb'"function":{"name":"\ud83d","arguments":"\ud83d"}}],"annotations":[{"type":'
        rb'"url_citation","url_citation":{"url":"https://a.example/\ud83d","title":"\ud83d"}}],'
        rb'"reasoning_details":[{"type":"reasoning.encrypted","data":"\ud83d"}]}}]}'
    )
    d = decoder(Shape("", b"", []))
    for each in d.feed(stream(broken, CALLED)):
        msgspec.json.encode(each)


def test_each_server_has_a_row():
    rows = " ".join(SHAPES)
    servers = (
        *("DeepSeek", "OpenRouter", "vLLM", "Ollama", "LM Studio", "llama.cpp", "Mistral"),
        *("Gemini", "Groq", "Azure", "OpenAI", "xAI", "Together", "Fireworks", "Perplexity"),
        *("Moonshot", "Qwen"),
    )
    assert [server for server in servers if server not in rows] == []
    assert len([s for s in SHAPES.values() if s.source]) >= 25
    assert len(list(itertools.chain(SHAPES))) == len(SHAPES)
