"""What observers cost a turn: CPU time of a chat in this process, beside a chat without observers.

    python -m benchmarks.observed

Each round has all chats, in a random order, so a slower minute of the machine slows them all. A
figure is the median, over the rounds, of the difference from the chat without observers.
"""

import argparse
import asyncio
import json
import logging
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from chatnest import BALANCED, Bounds, ChatNestApp, HardCaps
from chatnest.events import Delta, Finish, Usage
from chatnest.providers.base import ProviderStream
from chatnest.telemetry import AccessLog, Observer
from chatnest.telemetry.opentelemetry import OpenTelemetry
from chatnest.tokens import Tokenizer
from chatnest.turn import ModelCall

__all__ = ["main"]

_MOST = 10**9
_BODY = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()
_SCOPE: dict[str, Any] = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "path": "/api/chat",
    "headers": [(b"content-type", b"application/json")],
    "client": ("127.0.0.1", 50_000),
}
_PLAIN = "without"


class _Model:
    """A provider without a network, whose answers are one token."""

    model = "gpt-4o-mini"
    counter: Any = Tokenizer.for_model("gpt-4o-mini")

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[ProviderStream]:
        call.sent = True
        stream = self._events()
        try:
            yield stream
        finally:
            await stream.aclose()

    async def _events(self) -> Any:
        yield [Delta("Hello")]
        yield [Finish("stop"), Usage(9, 1)]

    async def aclose(self) -> None:
        """Nothing is open."""


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


class _Lines(logging.Handler):
    """Formats the lines of the access log, and drops them."""

    def emit(self, record: logging.LogRecord) -> None:
        record.getMessage()


def _with_sdk() -> OpenTelemetry:
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return OpenTelemetry(
        tracer_provider=tracers, meter_provider=MeterProvider([InMemoryMetricReader()])
    )


_KINDS: dict[str, tuple[Callable[[], list[Observer]], bool]] = {
    _PLAIN: (list, False),
    "again without, for comparison": (list, False),
    "OpenTelemetry, no SDK": (lambda: [OpenTelemetry()], False),
    "access log and metrics": (lambda: [AccessLog("json")], True),
    "all, no SDK": (lambda: [AccessLog("json"), OpenTelemetry()], True),
    "all, with an SDK": (lambda: [AccessLog("json"), _with_sdk()], True),
}
"""For each chat, its observers, and whether it has metrics."""


def _chat(observers: list[Observer], *, has_metrics: bool) -> ChatNestApp:
    fields = {name: getattr(BALANCED, name) for name in BALANCED.__struct_fields__}
    fields |= {"requests_per_minute": _MOST, "daily_token_limit": _MOST}
    chat = ChatNestApp(
        provider=_Model(),
        observers=observers,
        profiles=[type(BALANCED)(**fields)],
        hard_caps=HardCaps(requests_per_minute=None, daily_token_limit=None),
        bounds=Bounds(lag_seconds=60),  # a slow machine refuses nothing
    )
    if has_metrics:
        assert chat.metrics is not None
    return chat


async def _take_turn(chat: ChatNestApp) -> None:
    messages = [{"type": "http.request", "body": _BODY, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    await chat(dict(_SCOPE), receive, send)
    assert b"event: done" in sent[-1]["body"] + sent[-2].get("body", b""), sent


async def _spent(chat: ChatNestApp, turns: int) -> float:
    """Microseconds of CPU of this thread for a turn."""
    began = time.thread_time()
    for _ in range(turns):
        await _take_turn(chat)
    return (time.thread_time() - began) / turns * 1e6


async def _measure(rounds: int, turns: int) -> dict[str, list[float]]:
    chats = {
        name: _chat(observers(), has_metrics=has_metrics)
        for name, (observers, has_metrics) in _KINDS.items()
    }
    found: dict[str, list[float]] = {name: [] for name in chats}
    for chat in chats.values():
        await _spent(chat, turns)
    for number in range(rounds):
        names = [*chats]
        random.Random(number).shuffle(names)  # a chat also pays for what the one before it left
        for name in names:
            found[name].append(await _spent(chats[name], turns))
    for chat in chats.values():
        await chat.aclose()
    return found


def main() -> None:
    """Measure, and print a line for each chat."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--turns", type=int, default=10, help="turns of each chat in a round")
    options = parser.parse_args()
    log = logging.getLogger("chatnest.access")
    log.addHandler(_Lines())
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.getLogger("chatnest").setLevel(logging.ERROR)
    found = asyncio.run(_measure(options.rounds, options.turns))
    plain = found[_PLAIN]
    print(f"{'observers':32}{'us a turn':>10}{'more':>8}   middle half of the rounds")
    for name, spent in found.items():
        more = [a - b for a, b in zip(spent, plain, strict=True)]
        low, middle, high = statistics.quantiles(more, n=4) if any(more) else (0.0, 0.0, 0.0)
        print(f"{name:32}{statistics.median(spent):10.1f}{middle:8.1f}   {low:.1f} to {high:.1f}")


if __name__ == "__main__":
    main()
