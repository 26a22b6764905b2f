"""The spans of a real ``chatnest serve`` arrive at a real OTLP receiver: one tree a turn."""

import asyncio
import json
import math
import signal
import socket
import sys
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from chatnest.testing import Answer, FakeUpstream
from chatnest.testing.upstream.record import SeenRequest
from tests.servers.support import Client, Process
from tests.support.soak import amount

oteltap = pytest.importorskip("oteltap")

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio"), pytest.mark.soak]

KINDS = ("plain", "cancel", "refuse", "retry", "run", "early", "fail", "stop")
"""Of turns: answered, left by the client, without tokens, failed once, resumed, invalid, failed,
stopped by the user.
"""

CANARY = "xylophone-canary"

CONFIG = """
[provider]
model = "gpt-5-mini"
base_url = "{base_url}"
trace = true

[telemetry]
otel = true

[profiles.balanced]
requests_per_minute = 100000
max_concurrent_streams = 100
daily_token_limit = 50000000

[profiles.poor]
max_messages = 8
max_tokens_per_request = 2000
max_output_tokens = 100
min_output_tokens = 8
temperature = 0.7
requests_per_minute = 100000
max_concurrent_streams = 100
daily_token_limit = 9

[hard_caps]
requests_per_minute = 100000
daily_token_limit = 50000000

[budget]
anonymous_daily_token_limit = "unlimited"
"""


class Model:
    """Answers by the kind of the turn that the question names. A retry fails at first."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, request: SeenRequest) -> Answer:
        question = str(request.json["messages"][-1]["content"])
        with self._lock:
            is_new = question not in self._seen
            self._seen.add(question)
        if question.startswith(("cancel", "stop")):
            return Answer(repeat=math.inf, pace=0.2)
        if question.startswith("fail") or (question.startswith("retry") and is_new):
            return Answer.error(500)
        return Answer(pieces=(CANARY,), usage=(9, 3))


def take_turn(port: int, kind: str, number: int) -> None:
    """One turn, from a client of its own."""
    fields: dict[str, Any] = {"profile": "poor"} if kind == "refuse" else {}
    headers = [f'Idempotency-Key: "{number}"'] if kind in {"run", "stop"} else []
    body = {"messages": [{"role": "user", "content": f"{kind} {number} {CANARY}"}], **fields}
    if kind == "run":
        body["linger"] = 60
    with Client(port) as client:
        client.request("POST", body={} if kind == "early" else body, headers=headers)
        reply = client.reply()
        if kind == "cancel":
            reply.until(b"event: token")
            return
        if kind not in {"run", "stop"}:
            reply.read_all()
            return
        run = reply.headers["chatnest-run-id"]
        if kind == "stop":
            with Client(port) as other:
                other.request("DELETE", f"/api/chat/runs/{run}")
                assert other.reply().status == 200
            reply.read_all()
            return
    with Client(port) as client:
        client.get(f"/api/chat/runs/{run}?after=0")


async def received(tap: Any, number: int) -> list[Any]:
    """The spans that arrive, until all turns have theirs."""
    spans: list[Any] = []
    roots = 0

    def is_last(span: Any) -> bool:
        nonlocal roots
        spans.append(span)
        roots += span.name == "chatnest.turn"
        return bool(roots == number)

    await tap.await_trace(is_last, timeout=amount(240, 1_800))
    return spans


def attributes(span: Any) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes
    }


async def test_each_turn_is_one_tree_at_the_receiver(tmp_path: Path, record_property: Any) -> None:
    number = amount(64, 1_000)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = oteltap.OtelTapHttpProtobufReceiverSettings(http_port=port)
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "OPENAI_API_KEY": "k",
    }
    with FakeUpstream() as upstream:
        upstream.default = Model()
        (tmp_path / "c.toml").write_text(CONFIG.format(base_url=upstream.base_url))
        scripts = Path(sys.executable).parent
        instrument = [str(scripts / "opentelemetry-instrument"), "--"]
        serve = [
            *instrument,
            str(scripts / "chatnest"),
            "serve",
            "--config",
            "c.toml",
            "--port",
            "0",
            "--workers",
            "2",
        ]
        async with oteltap.OtelTapHttpProtobufReceiver(settings) as tap:
            with Process(serve, cwd=tmp_path, **environ) as server:
                at = server.ready()
                kinds = [KINDS[n % len(KINDS)] for n in range(number)]
                # The receiver hands spans only to those that wait already.
                waiting = asyncio.create_task(received(tap, number))
                await _all(at, kinds)
                spans = await waiting
                server.signal(signal.SIGTERM)
                server.wait()

    _check(spans, Counter(kinds), len(upstream.requests))
    record_property("soak", f"{number} turns, {len(upstream.requests)} calls, {len(spans)} spans")
    sent = {request.headers["traceparent"].split("-")[2] for request in upstream.requests}
    assert sent == {span.span_id.hex() for span in spans if span.name.startswith("chat ")}


def _check(spans: list[Any], kinds: Counter[str], calls: int) -> None:
    turns = {span.span_id: span for span in spans if span.name == "chatnest.turn"}
    below = [span for span in spans if span.span_id not in turns]
    assert len(turns) == kinds.total()
    assert len({attributes(turn)["chatnest.request.id"] for turn in turns.values()}) == len(turns)
    assert all(not turn.parent_span_id for turn in turns.values())
    assert len({turn.trace_id for turn in turns.values()}) == len(turns)
    assert len(below) == calls
    for call in below:
        turn = turns[call.parent_span_id]
        assert call.name == "chat gpt-5-mini"
        assert call.trace_id == turn.trace_id
        assert turn.start_time_unix_nano <= call.start_time_unix_nano
        assert call.start_time_unix_nano <= call.end_time_unix_nano <= turn.end_time_unix_nano
    outcomes = Counter(attributes(turn)["chatnest.outcome"] for turn in turns.values())
    assert outcomes == {
        "done": kinds["plain"] + kinds["retry"] + kinds["run"],
        "client_gone": kinds["cancel"],
        "budget_exhausted": kinds["refuse"],
        "invalid_request": kinds["early"],
        "upstream_error": kinds["fail"],
        "cancelled": kinds["stop"],
    }
    attempts: dict[bytes, int] = defaultdict(int)
    for call in below:
        attempts[call.parent_span_id] += 1
    assert Counter(attempts.values()) == {
        1: kinds["plain"] + kinds["run"] + kinds["cancel"] + kinds["stop"],
        2: kinds["retry"] + kinds["fail"],
    }
    assert all(attributes(turns[each])["chatnest.attempts"] == n for each, n in attempts.items())
    assert CANARY not in "".join(map(str, spans))
    assert "127.0.0.1" not in json.dumps([attributes(turn) for turn in turns.values()])


async def _all(port: int, kinds: list[str]) -> None:
    def ask() -> None:
        with ThreadPoolExecutor(10) as pool:
            for _ in pool.map(lambda each: take_turn(port, each[1], each[0]), enumerate(kinds)):
                pass

    await anyio.to_thread.run_sync(ask)
