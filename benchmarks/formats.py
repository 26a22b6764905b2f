"""What a token and a request cost in each format, beside native ones on the same server."""

import json
from collections.abc import Callable
from functools import partial
from itertools import chain
from uuid import uuid4

from benchmarks.bench import Bench
from benchmarks.load import read_all, run
from benchmarks.servers import Server, Setting
from benchmarks.spent import Spent

__all__ = ["InFormats"]

Body = Callable[[str], dict[str, object]]


def _openai(text: str) -> dict[str, object]:
    return {"stream": True, "messages": [{"role": "user", "content": text}]}


def _whole(text: str) -> dict[str, object]:
    return _openai(text) | {"stream": False}


def _responses(text: str) -> dict[str, object]:
    return {"stream": True, "input": text}


def _ai_sdk(text: str) -> dict[str, object]:
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": uuid4().hex, "trigger": "submit-message", "messages": [message]}


def _ag_ui(text: str) -> dict[str, object]:
    message = {"id": "m1", "role": "user", "content": text}
    return {
        "threadId": uuid4().hex,
        "runId": uuid4().hex,
        "protocolVersion": "1.0",
        "messages": [message],
        "tools": [],
        "context": [],
    }


FORMATS: dict[str, tuple[str, Body, int]] = {
    "openai_chat": ("/v1/chat/completions", _openai, 1),
    "ai_sdk": ("/ai-sdk", _ai_sdk, 1),
    "ag_ui": ("/ag-ui", _ag_ui, 1),
    "openai_responses": ("/v1/responses", _responses, 5),
}
"""The path of a format, its body, and how often its stream has the text: Responses repeats it in
four events at the end.
"""

_PACED, _GAP, _STREAMS = 200, 20, 100
_BURST, _BURSTS = 2_000, 20
_SHORT, _SHORTS = 20, 400


class InFormats:
    """``FORMAT_paced`` and ``FORMAT_burst`` are the CPU time of a token, and ``whole_short`` of a
    request without a stream, each as a multiple of the native one. The kinds take turns: native,
    the format, the format, native.
    """

    name = "formats"
    what = "a paced and a burst token in each format, and a whole document, by the native ones"
    fresh = False
    long = False
    setting = Setting()
    servers = ("chatnest",)

    def __call__(self, bench: Bench, server: Server) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, (path, body, times) in FORMATS.items():
            ask = partial(_question, server.path + path, body)
            found[f"{name}_paced"] = _ratio(
                bench, server, ask, (_PACED, _GAP, _STREAMS, _STREAMS, times)
            )
            found[f"{name}_burst"] = _ratio(bench, server, ask, (_BURST, 0, _BURSTS, 4, times))
        whole = partial(_question, f"{server.path}/v1/chat/completions", _whole)
        found["whole_short"] = _ratio(bench, server, whole, (_SHORT, 0, _SHORTS, 8, 1))
        return found


Ask = Callable[[int, int], bytes]
Work = tuple[int, int, int, int, int]
"""Tokens, milliseconds between them, answers, answers at once, and how often each has its text."""


def _ratio(bench: Bench, server: Server, ask: Ask, work: Work) -> float:
    native, other = Spent(server, bench.upstream), Spent(server, bench.upstream)
    for spent in (native, other) if bench.quick else (native, other, other, native):
        with spent:
            _read(server, server.question if spent is native else ask, work, spent is native)
    return other.cpu / native.cpu


def _read(server: Server, ask: Ask, work: Work, is_native: bool) -> None:
    tokens, gap, total, at_once, times = work
    expected = tokens if is_native else tokens * times
    run(
        partial(
            read_all,
            server.port,
            partial(ask, tokens, gap),
            total=total,
            at_once=at_once,
            tokens=expected,
        )
    )


def _question(path: str, body: Body, tokens: int, gap: int) -> bytes:
    content = json.dumps(body(f"Hello, how are you? [{tokens} {gap}]")).encode()
    head = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    lines = chain(head, (f"Content-Length: {len(content)}", "", ""))
    return "\r\n".join(lines).encode() + content
