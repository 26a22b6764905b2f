"""Shapes in which servers answer, one a row: where it was reported, and what comes of it.

A newcomer adds a row. The input of each is 8 tokens; an answer without a usage is counted, and a
call that broke off has a margin of 8 on top.
"""

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import Any

NO_TYPE = ""


@dataclass(frozen=True)
class Shape:
    """``reply`` is all bytes of the response. ``outcome`` is ``done`` or an error's code; with
    ``calls`` of the model, and for each failed one a line with all of ``line`` in it.
    """

    source: str
    reply: bytes
    outcome: str
    text: str = ""
    charge: int = 0
    calls: int = 1
    line: tuple[str, ...] = ()
    retryable: bool | None = None
    retry_after: int | None = None
    calls_without_line: int = 0
    """A field of ours is refused, and left out in one more call."""


def response(
    body: bytes, status: str = "200 OK", kind: str = "text/event-stream", *fields: str
) -> bytes:
    head = [f"HTTP/1.1 {status}", *([f"Content-Type: {kind}"] if kind else []), *fields]
    head += [f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def event(value: Any) -> bytes:
    return b"data: %b\n\n" % (value if isinstance(value, bytes) else json.dumps(value).encode())


def stream(*events: Any, end: bytes = b"data: [DONE]\n\n", fields: tuple[str, ...] = ()) -> bytes:
    return response(b"".join(map(event, events)) + end, "200 OK", "text/event-stream", *fields)


def refused(status: str, document: Any, *fields: str) -> bytes:
    return response(json.dumps(document).encode(), status, "application/json", *fields)


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice], **more}


def text(content: Any) -> dict[str, Any]:
    return chunk({"content": content})


def thought(said: Any, field: str = "reasoning_content") -> dict[str, Any]:
    return chunk({"content": None, field: said})


def usage(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    figures = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return {"choices": [], "usage": figures | more}


HELLO, WORLD, STOP, BILL = text("Hello"), text(" world"), chunk(finish="stop"), usage(9, 3)
ANSWER = (HELLO, WORLD, STOP, BILL)
WHOLE = b"".join(map(event, ANSWER)) + b"data: [DONE]\n\n"
LENGTH = chunk(finish="length")


def good(source: str, reply: bytes, said: str = "Hello world", charge: int = 12) -> Shape:
    return Shape(source, reply, "done", text=said, charge=charge)


def completion(**message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return {
        "object": "chat.completion",
        "choices": [choice],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def packed(coding: str, body: bytes) -> bytes:
    return response(body, "200 OK", "text/event-stream", f"Content-Encoding: {coding}")


THE_STREAM = {
    "content as parts": good(
        "n8n-io/n8n#37352",
        stream(
            text([{"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]}]),
            text([{"type": "text", "text": "Hello"}]),
            text(
                [" wor", {"type": "output_text", "text": "ld"}, {"type": "reference", "ids": [1]}]
            ),
            *(STOP, BILL),
        ),
    ),
    "one part without a list": good(
        "vercel/ai#8072", stream(text({"type": "text", "text": "Hello world"}), STOP, BILL)
    ),
    "DONE behind two blanks": good(
        "Nano-Collective/nanocoder#614",
        response(WHOLE.replace(b"data: [DONE]", b"data:  [DONE]")),
    ),
    "DONE before a blank": good(
        "mistralai/mistral-vibe#793", response(WHOLE.replace(b"[DONE]", b"[DONE] "))
    ),
    "DONE on a line of the last chunk": good(
        "", response(WHOLE.replace(b"\n\ndata: [DONE]", b"\ndata: [DONE]"))
    ),
    "no blank line between events": good("", response(WHOLE.replace(b"\n\n", b"\n") + b"\n")),
    "no blank line at the end": good(
        "", stream(HELLO, WORLD, BILL, end=event(STOP).removesuffix(b"\n\n"))
    ),
    "events with empty data": good(
        "Growth-Circle/cadis#362", stream(b"", HELLO, b"", b" ", WORLD, STOP, b"", BILL)
    ),
    "events with words": good(
        "netease-lcap/wave-agent#1326",
        stream(b"ping", b": PROCESSING", b'"keep-alive"', HELLO, b"HEARTBEAT", WORLD, STOP, BILL),
    ),
    "pings as objects": good(
        "",
        stream({"type": "ping"}, HELLO, {"type": "ping", "message": "alive"}, WORLD, STOP, BILL),
    ),
    "other names of events": good(
        "",
        response(
            b"event: ping\ndata: {}\n\n"
            + b"".join(b"event: chunk\nid: 1\n" + event(each) for each in ANSWER)
        ),
    ),
    "no content type": good("ktorio/ktor#5836", response(WHOLE, kind=NO_TYPE)),
    "text/plain": good("ktorio/ktor#5836", response(WHOLE, kind="text/plain; charset=utf-8")),
    "application/json over a stream": good("", response(WHOLE, kind="application/json")),
    "application/octet-stream": good("", response(WHOLE, kind="application/octet-stream")),
    "206": good("", response(WHOLE, "206 Partial Content")),
    "gzip": good("", packed("gzip", gzip.compress(WHOLE))),
    "gzip in two members": good(
        "", packed("x-gzip", gzip.compress(WHOLE[:100]) + gzip.compress(WHOLE[100:]))
    ),
    "deflate with its frame": good("", packed("deflate", zlib.compress(WHOLE))),
    "deflate without a frame": good("", packed("deflate", _raw_deflate(WHOLE))),
    "identity": good("", packed("identity", WHOLE)),
    "br": Shape(
        "", packed("br", b"\x1b\x0f"), "upstream_bad_response", line=("content_encoding=br",)
    ),
    "zstd": Shape(
        "", packed("zstd", b"(\xb5/\xfd"), "upstream_bad_response", line=("compresses with zstd",)
    ),
    "gzip that is none": Shape(
        "", packed("gzip", b"no gzip at all"), "upstream_interrupted", charge=16
    ),
    "a whole completion": good(
        "",
        response(
            json.dumps(completion(content="Hello world")).encode(), "200 OK", "application/json"
        ),
    ),
    "a whole completion behind blanks, named a stream": good(
        "", response(b" \n\n" + json.dumps(completion(content="Hello world"), indent=2).encode())
    ),
    "a whole completion of parts": good(
        "",
        response(
            json.dumps(completion(content=[{"type": "text", "text": "Hello world"}])).encode()
        ),
    ),
    "a whole completion as the only event": good("", stream(completion(content="Hello world"))),
    "the whole message again beside each delta": good(
        "perplexityai/api-discussion#209",
        stream(
            *(
                {"choices": [{"delta": {"content": piece}, "message": {"content": "Hello world"}}]}
                for piece in ("Hello", " world")
            ),
            *(STOP, BILL),
        ),
    ),
    "chunks in lines of JSON": good(
        "",
        response(b"\n".join(json.dumps(e).encode() for e in ANSWER), kind="application/x-ndjson"),
    ),
    "an emoji in two pieces": good(
        "elizaOS/eliza#30904",
        stream(
            rb'{"choices":[{"delta":{"content":"Hi \ud83d"}}]}',
            rb'{"choices":[{"delta":{"content":"\ude00!"}}]}',
            *(STOP, BILL),
        ),
        "Hi \U0001f600!",
    ),
    "half of an emoji, and then text": good(
        "Kohaku-Lab/KohakuTerrarium#48",
        stream(rb'{"choices":[{"delta":{"content":"Hi \ud83d"}}]}', text("!"), STOP, BILL),
        "Hi \ufffd!",
    ),
    "half of an emoji, and then the end": good(
        "",
        stream(rb'{"choices":[{"delta":{"content":"Hi \ud83d"}}]}', STOP, BILL),
        "Hi \ufffd",
    ),
    "the other half alone": good(
        "",
        stream(rb'{"choices":[{"delta":{"content":"\ude00 Hi"}}]}', STOP, BILL),
        "\ufffd Hi",
    ),
    "NaN beside the text": good(
        "", stream(b'{"choices":[{"delta":{"content":"Hello world"},"x":NaN}]}', STOP, BILL)
    ),
    "rubbish behind the end": good("", stream(*ANSWER, b'{"choices":[{', end=b"")),
    "an error behind the end": good(
        "", stream(*ANSWER, {"error": {"message": "stream closed", "code": 500}})
    ),
    "an error of nothing beside the text": good(
        "songquanpeng/one-api",
        stream(
            chunk({"content": "Hello world"}, error={"message": "", "type": "", "code": None}),
            *(STOP, BILL),
        ),
    ),
    "content filters first": good(
        "meilisearch/meilisearch#6477",
        stream({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}, *ANSWER),
    ),
    "an HTML page": Shape(
        "",
        response(b"<!doctype html><title>Welcome</title>", kind="text/html"),
        "upstream_bad_response",
        line=("content_type=text/html", "status=200", "base_url"),
    ),
    "an empty object": Shape(
        "", response(b"{}", kind="application/json"), "upstream_bad_response", line=("status=200",)
    ),
    "an empty body": Shape("", response(b""), "upstream_bad_response", line=("status=200",)),
    "a line of text": Shape(
        "", response(b"Internal Server Error\n", kind="text/plain"), "upstream_bad_response"
    ),
    "a line of plain text in place of the end": Shape(
        "tetsuo-ai/agenc-core#2492",
        response(event(HELLO) + b"upstream connect error\n"),
        *("upstream_interrupted", "Hello", 17),
    ),
    "a chunk that breaks off": Shape(
        "",
        stream(HELLO, b'{"choices":[{"delta":'),
        *("upstream_bad_response", "Hello", 17),
    ),
}

THE_BILL = {
    "reasoning beside the completion": good(
        "UKGovernmentBEIS/inspect_ai#5528",
        stream(
            HELLO,
            WORLD,
            STOP,
            usage(
                *(14, 2),
                total_tokens=333,
                completion_tokens_details={"reasoning_tokens": 317},
            ),
        ),
        charge=333,
    ),
    "reasoning beside the completion, and in no total": good(
        "Wei-Shaw/sub2api#5771",
        stream(
            HELLO, WORLD, STOP, usage(14, 2, completion_tokens_details={"reasoning_tokens": 317})
        ),
        charge=333,
    ),
    "a total without its parts": good(
        "", stream(HELLO, WORLD, STOP, {"choices": [], "usage": {"total_tokens": 50}}), charge=50
    ),
    "a total and half of its parts": good(
        "",
        stream(
            HELLO, WORLD, STOP, {"choices": [], "usage": {"prompt_tokens": 9, "total_tokens": 50}}
        ),
        charge=50,
    ),
    "Anthropic's names": good(
        "",
        stream(
            *(HELLO, WORLD, STOP),
            {
                "choices": [],
                "usage": {
                    "input_tokens": 9,
                    "cache_read_input_tokens": 100,
                    "cache_creation_input_tokens": 20,
                    "output_tokens": 3,
                },
            },
        ),
        charge=132,
    ),
    "Google's names": good(
        "",
        stream(
            *(HELLO, WORLD, STOP),
            {
                "choices": [],
                "usageMetadata": {
                    "promptTokenCount": 9,
                    "candidatesTokenCount": 3,
                    "thoughtsTokenCount": 30,
                    "totalTokenCount": 42,
                },
            },
        ),
        charge=42,
    ),
    "the cache is part of the input": good(
        "",
        stream(HELLO, WORLD, STOP, usage(9, 3, prompt_tokens_details={"cached_tokens": 8})),
    ),
    "more from the cache than the input": good(
        "",
        stream(HELLO, WORLD, STOP, usage(9, 3, prompt_tokens_details={"cached_tokens": 80})),
        charge=92,
    ),
    "in the choice": good(
        "MoonshotAI",
        stream(
            HELLO,
            WORLD,
            {
                "choices": [
                    {
                        "delta": {},
                        "finish_reason": "stop",
                        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
                    }
                ]
            },
        ),
    ),
    "in Groq's own object": good(
        "",
        stream(HELLO, WORLD, chunk(finish="stop", x_groq={"id": "r", "usage": BILL["usage"]})),
    ),
    "whole floats": good("", stream(HELLO, WORLD, STOP, usage(9.0, 3.0))),  # type: ignore[arg-type]
    "zeros beside text": good(
        "mudler/LocalAI#9927", stream(HELLO, WORLD, STOP, usage(0, 0)), charge=10
    ),
    "no output beside text": good("", stream(HELLO, WORLD, STOP, usage(9, 0)), charge=10),
    "zeros first": good(
        "router-for-me/CLIProxyAPI#4053", stream(usage(0, 0), HELLO, WORLD, STOP, BILL)
    ),
    "thinking, and no usage": good(
        "MorpheusAIs/Morpheus-Lumerin-Node#757",
        stream(thought("one two three four"), HELLO, WORLD, STOP),
        charge=14,
    ),
    **{
        f"thinking called {field}": good(
            "", stream(thought(said, field), HELLO, WORLD, STOP), charge=14
        )
        for field, said in {
            "reasoning": "one two three four",
            "reasoning_details": [{"type": "reasoning.text", "text": "one two three four"}],
            "thinking": "one two three four",
            "reasoning_text": "one two three four",
        }.items()
    },
    "thinking under two names is one": good(
        "",
        stream(
            chunk(
                {
                    "content": "",
                    "reasoning": "one two three four",
                    "reasoning_content": "one two three four",
                    "reasoning_details": [{"type": "reasoning.text", "text": "one two three four"}],
                }
            ),
            *(HELLO, WORLD, STOP),
        ),
        charge=14,
    ),
    "thinking as parts, and no usage": good(
        "",
        stream(text([{"type": "thinking", "thinking": "one two three four"}]), HELLO, WORLD, STOP),
        charge=14,
    ),
    "thinking that broke off": Shape(
        "", stream(thought("one two three four"), end=b""), "upstream_interrupted", charge=20
    ),
    "more text in a chunk than was asked for": Shape(
        "",
        stream(text("word " * 1_000), STOP),
        *("answer_too_long", "word " * 1_000, 1_009),
    ),
}

LIMITED = {"error": {"message": "Rate limit exceeded: free-models-per-day", "code": 429}}
BUSY = ("upstream_overloaded", 2)


def busy(source: str, reply: bytes, **more: Any) -> Shape:
    return Shape(source, reply, "upstream_overloaded", calls=2, retryable=True, **more)


def account(source: str, reply: bytes) -> Shape:
    return Shape(source, reply, "upstream_account", retryable=False, line=("ERROR", "credit"))


def too_long(source: str, reply: bytes) -> Shape:
    return Shape(source, reply, "context_length", retryable=False, line=("context_length",))


def rejected(source: str, reply: bytes, *line: str, again: int = 0) -> Shape:
    return Shape(
        *(source, reply, "upstream_rejected"),
        calls=1 + again,
        calls_without_line=again,
        retryable=False,
        line=line,
    )


def said(message: str) -> bytes:
    return refused("400 Bad Request", {"object": "error", "message": message, "code": 400})


REFUSALS = {
    "a rate limit as the only event": busy(
        "Aider-AI/aider#3550", stream(LIMITED, end=b""), line=("code=429", "status=200")
    ),
    "behind a role": busy("", stream(chunk({"role": "assistant", "content": ""}), LIMITED)),
    "as JSON, named a stream": busy("", response(json.dumps(LIMITED).encode())),
    "as JSON under 200": busy("", response(json.dumps(LIMITED).encode(), kind="application/json")),
    "in a list": busy("", response(json.dumps([LIMITED]).encode(), kind="application/json")),
    "in a list in an event": busy("", stream([LIMITED])),
    "as a string": busy("", stream({"error": "Rate limit exceeded, please slow down"})),
    "as a line of words": busy("", stream(b"error: Too many requests")),
    "as an event named error": busy(
        "", response(b'event: error\ndata: {"message": "Slow down", "code": 429}\n\n')
    ),
    "as an event named error, in words": busy(
        "", response(b"event: error\ndata: Too many requests\n\n")
    ),
    "Anthropic's": busy(
        "",
        stream({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ),
    "by type": busy("", stream({"error": {"type": "rate_limit_error"}})),
    "by status": busy("", stream({"error": {"status": "RESOURCE_EXHAUSTED"}})),
    "by reason": busy("", stream({"error": {"errors": [{"reason": "rateLimitExceeded"}]}})),
    "TGI's error_type": busy(
        "", stream({"error": "Model is overloaded", "error_type": "overloaded"})
    ),
    "an error_type beside no choices": busy(
        "NousResearch/hermes-agent#65631",
        stream({"choices": None, "error_type": "RateLimitError", "error_message": "no"}),
    ),
    "an error in the choice": busy(
        "damianvtran/local-operator#223",
        stream(
            {
                "choices": [
                    {
                        "delta": {"content": ""},
                        "finish_reason": "error",
                        "error": {"code": 429, "message": "no"},
                    }
                ]
            }
        ),
    ),
    "vLLM's without the word error": busy(
        "", stream({"object": "error", "message": "no", "type": "RateLimitError", "code": 429})
    ),
    "a gateway's title and status": busy("", stream({"title": "Too Many Requests", "status": 429})),
    "MiniMax's base_resp": busy(
        "", stream({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}})
    ),
    "a gateway's JSON in JSON": busy(
        "",
        stream(
            {
                "error": {
                    "message": "Provider returned error",
                    "metadata": {"raw": '{"error":{"code":"rate_limit_exceeded"}}'},
                }
            }
        ),
    ),
    "Bedrock's message alone": busy(
        "BerriAI/litellm#21647", stream({"message": "Too many tokens, please wait before trying."})
    ),
    "DashScope's code and message": busy(
        "", stream({"code": "Throttling.RateQuota", "message": "no", "request_id": "r"})
    ),
    "FastAPI's detail": busy("", stream({"detail": "Rate limit exceeded"})),
    "a name that a gateway quotes": too_long(
        "", stream({"error": {"message": "litellm.ContextWindowExceededError: no", "code": "400"}})
    ),
    "a document that is a string": busy(
        "", response(b'"Rate limit exceeded"', kind="application/json")
    ),
    "a document of plain text": busy("", response(b"Too many requests\n", kind="text/plain")),
    "a model that Ollama has not": rejected("", stream({"error": "model 'x' not found"})),
    "a message that is none": good("", stream({"code": 200, "message": "ok"}, *ANSWER)),
    "an error that says nothing": Shape("", stream({"error": {}}), "upstream_error", calls=2),
    "a model that is not there, in the stream": rejected(
        "open-webui/open-webui#27238",
        stream({"error": {"type": "invalid_request_error", "code": "model_not_found"}}),
        "code=model_not_found",
    ),
    "402": account(
        "speakeasy-api/gram#2726",
        refused("402 Payment Required", {"error": {"message": "no", "code": 402}}),
    ),
    "402 that says invalid_request_error": account(
        "openclaw/openclaw#25371",
        refused("402 Payment Required", {"error": {"code": "invalid_request_error"}}),
    ),
    "402 in the stream": account("", stream({"error": {"message": "no", "code": 402}})),
    "a key that is refused by 400": account(
        "",
        refused(
            "400 Bad Request",
            [
                {
                    "error": {
                        "code": 400,
                        "status": "INVALID_ARGUMENT",
                        "details": [{"reason": "API_KEY_INVALID"}],
                    }
                }
            ],
        ),
    ),
    "a key that is refused by 400, in words": account(
        "", refused("400 Bad Request", {"error": "Incorrect API key provided: xa***e."})
    ),
    "a key that is refused by 500": account(
        "", refused("500 Internal Server Error", {"error": {"code": "invalid_api_key"}})
    ),
    "no balance by 429": account(
        "", refused("429 Too Many Requests", {"error": {"type": "exceeded_current_quota_error"}})
    ),
    "no balance in the stream": account("", stream({"error": {"message": "Insufficient Balance"}})),
    "413 that calls itself a rate limit": too_long(
        "HunorLaczko/ha-groq-cloud-api#27",
        refused(
            "413 Payload Too Large",
            {"error": {"message": "no", "type": "tokens", "code": "rate_limit_exceeded"}},
        ),
    ),
    "413 of a proxy": rejected("", refused("413 Payload Too Large", {}), "status=413"),
    "429 that can never pass": too_long(
        "",
        refused(
            "429 Too Many Requests",
            {
                "error": {
                    "message": "Request too large for gpt-4o on tokens per min (TPM)",
                    "code": "rate_limit_exceeded",
                }
            },
        ),
    ),
    **{
        f"too long for {server}": too_long(source, said(message))
        for server, source, message in [
            (
                *("vLLM", "NVIDIA-NeMo/Gym#1206"),
                "This model's maximum context length is 4096 tokens. However, you requested 5000.",
            ),
            (
                *("vLLM's decoder", "NousResearch/hermes-agent#58832"),
                "The decoder prompt (length 9) is longer than the maximum model length of 8.",
            ),
            ("llama.cpp", "", "the request exceeds the available context size, try increasing it"),
            (
                *("llama-cpp-python", "abetlen/llama-cpp-python#416"),
                "Requested tokens (600) exceed context window of 512",
            ),
            (
                *("LM Studio", "lmstudio-ai/lmstudio-bug-tracker#546"),
                "Trying to keep the first 111490 tokens when context the overflows.",
            ),
            (
                *("Mistral", "BerriAI/litellm#21647"),
                "Prompt contains 40000 tokens, too large for model with 32768 maximum",
            ),
            ("xAI", "", "This model's maximum prompt length is 131072 but the request contains 9"),
            (
                *("Gemini", ""),
                "The input token count (9) exceeds the maximum number of tokens allowed (8).",
            ),
            ("Anthropic", "", "prompt is too long: 213462 tokens > 200000 maximum"),
            (
                *("SGLang", ""),
                "The input (9 tokens) is longer than the model's context length (8 tokens).",
            ),
            ("TGI", "", "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8"),
            ("Groq", "", "Please reduce the length of the messages or completion."),
            ("Perplexity", "", "The total length of all messages is too long."),
            ("DashScope", "", "Range of input length should be [1, 30720]"),
        ]
    },
    "too long, in the stream": too_long(
        "NousResearch/hermes-agent#403",
        stream({"error": {"message": "maximum context length is 8", "code": 400}}),
    ),
    "the wait is in the body": Shape(
        "diegosouzapw/OmniRoute#7961",
        refused(
            "429 Too Many Requests",
            [
                {
                    "error": {
                        "code": 429,
                        "message": "You exceeded your current quota, please check your plan.",
                        "status": "RESOURCE_EXHAUSTED",
                        "details": [{"@type": "google.rpc.RetryInfo", "retryDelay": "26s"}],
                    }
                }
            ],
        ),
        "upstream_overloaded",
        retry_after=26,
    ),
    "the wait is in the stream": Shape(
        "Aider-AI/aider#3694",
        stream({"error": {"code": 429, "message": "Please try again in 26.2s."}}),
        "upstream_overloaded",
        retry_after=27,
    ),
    "the wait is in a field of resets": Shape(
        "",
        refused("429 Too Many Requests", {}, "x-ratelimit-reset-tokens: 26s"),
        "upstream_overloaded",
        retry_after=26,
    ),
    "the wait is in header fields in the body": Shape(
        "",
        stream(
            {"error": {"code": 429, "metadata": {"headers": {"Retry-After": "26"}}}},
        ),
        "upstream_overloaded",
        retry_after=26,
    ),
    "a field that is not taken": rejected(
        "zeroclaw-labs/zeroclaw#2693",
        refused(
            "422 Unprocessable Entity",
            {
                "message": {
                    "detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]
                }
            },
        ),
        *("param=stream_options", "include_usage"),
        again=1,
    ),
    "a parameter that is not taken": rejected(
        "",
        refused(
            "400 Bad Request",
            {"error": {"code": "unsupported_parameter", "param": "max_tokens"}},
        ),
        *("code=unsupported_parameter", "param=max_tokens"),
        again=1,
    ),
    "a parameter that is not ours": rejected(
        "", refused("400 Bad Request", {"error": {"param": "sk-secret"}}), "status=400"
    ),
    "a refusal that is compressed": too_long(
        "",
        response(
            gzip.compress(b'{"error":{"code":"context_length_exceeded"}}'),
            *("400 Bad Request", "application/json", "Content-Encoding: gzip"),
        ),
    ),
    "an error after some text": Shape(
        "",
        stream(HELLO, LIMITED),
        *("upstream_overloaded", "Hello", 17),
    ),
    "an error after some thinking": Shape(
        "", stream(thought("one two three four"), LIMITED), "upstream_overloaded", charge=20
    ),
}

ENDINGS = {
    **{
        f"stopped by {reason}": Shape(
            "can1357/oh-my-pi#8563",
            stream(HELLO, chunk(finish=reason), usage(9, 1)),
            *("upstream_interrupted", "Hello", 10),
            retryable=True,
            line=(f"finish_reason={reason.lower()}",),
        )
        for reason in ("insufficient_system_resource", "abort", "error", "network_error", "ERROR")
    },
    **{
        f"done by {reason}": good("", stream(HELLO, chunk(finish=reason), BILL), "Hello")
        for reason in (
            "stop",
            "length",
            "content_filter",
            "tool_calls",
            "eos",
            "end_turn",
            "COMPLETE",
        )
    },
    "the first reason counts": good("", stream(HELLO, STOP, chunk(finish="error"), BILL), "Hello"),
    "null as a word": good(
        "", stream(chunk({"content": "Hello"}, "null"), WORLD, STOP, BILL), "Hello world"
    ),
    "all spent on thinking": Shape(
        "project-arbr/arbr-control-plane#253",
        stream(thought("Step by step. "), LENGTH, usage(9, 400)),
        "empty_answer",
        charge=409,
        retryable=False,
        line=("max_output_tokens", "finish_reason=length"),
    ),
    "all spent on thinking that is not shown": Shape(
        "64bit/async-openai#424",
        stream(LENGTH, usage(9, 400, completion_tokens_details={"reasoning_tokens": 400})),
        "empty_answer",
        charge=409,
        line=("max_output_tokens",),
    ),
    "blanks behind the thinking": Shape(
        "",
        stream(thought("Step by step."), text("\n\n"), LENGTH, usage(9, 400)),
        "empty_answer",
        text="\n\n",
        charge=409,
    ),
    "nothing said": Shape("", stream(STOP, usage(9, 0)), "empty_answer", charge=9, retryable=True),
    "nothing said, and no bill": Shape("", stream(STOP), "empty_answer", charge=8),
    "nothing said for a reason": good("", stream(chunk(finish="content_filter"), BILL), ""),
    "DONE alone": Shape("", stream(), "empty_answer", charge=16),
    "a refusal": good("", stream(chunk({"refusal": "I cannot."}), STOP, BILL), "I cannot."),
    "a tool that nobody asked for": Shape(
        "",
        stream(
            chunk({"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": "{}"}}]}),
            chunk(finish="tool_calls"),
            BILL,
        ),
        "upstream_bad_response",
        charge=12,
        line=("called a tool",),
    ),
    "a function, as it was once called": Shape(
        "",
        stream(
            chunk({"function_call": {"name": "look", "arguments": "{}"}}),
            chunk(finish="function_call"),
            BILL,
        ),
        "upstream_bad_response",
        charge=12,
    ),
}

TAGS = {
    "tags around the thinking": good(
        "", stream(text("<think>\nLet me see.\n</think>\n\nHello"), WORLD, STOP, BILL)
    ),
    "tags in pieces": good(
        "",
        stream(
            *map(text, ["<", "thi", "nk>", "one", " two</", "think", ">", "\n\n", "Hello"]),
            WORLD,
            STOP,
            BILL,
        ),
    ),
    "tags, and no usage": good(
        "",
        stream(text("<think>"), text("one two three four"), text("</think>"), HELLO, WORLD, STOP),
        charge=14,
    ),
    "the closing tag alone, in the first piece": good(
        "", stream(text("Let me see.</think>Hello"), WORLD, STOP, BILL)
    ),
    "nothing but a tag's beginning": good("", stream(text("<thin"), STOP, BILL), "<thin"),
    "another tag": good("", stream(text("<b>Hello"), WORLD, STOP, BILL), "<b>Hello world"),
    "a tag within the text": good("", stream(HELLO, text(" <think>"), STOP, BILL), "Hello <think>"),
    "thinking to the end": Shape(
        "", stream(text("<think>one two"), LENGTH, usage(9, 400)), "empty_answer", charge=409
    ),
}

SHAPES = {
    f"{kind}: {name}": shape
    for kind, shapes in {
        "stream": THE_STREAM,
        "bill": THE_BILL,
        "refusal": REFUSALS,
        "ending": ENDINGS,
        "tags": TAGS,
    }.items()
    for name, shape in shapes.items()
}
