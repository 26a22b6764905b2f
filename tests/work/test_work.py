"""What a token costs, in work instead of seconds: the same on every machine, so that a regression
fails here. (``nox -s bench`` measures the seconds.)

Model and application take turns on one event loop: the model says the next piece when the last one
has been sent to the client, so that nothing depends on time.
"""

import asyncio
import gc
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import benchmarks.upstream
import chatnest
from benchmarks.load import question
from benchmarks.upstream import MARK
from chatnest import Bounds, ChatNestApp, Identity, standard_policies
from chatnest.asgi.http import SEND_NOW
from chatnest.events import ClientEvent, Delta, Numbered, Reasoning
from chatnest.ledger.memory import MemoryLedger
from chatnest.policies.limits import LimitRule
from chatnest.prices import Prices
from chatnest.runs.memory import MemoryRunLog
from chatnest.server.flow import Flow
from chatnest.telemetry import AccessLog, Observer
from chatnest.telemetry.opentelemetry import OpenTelemetry
from chatnest.wire.native import NativeFormat
from chatnest.wire.native.frames import NativeFrames
from tests.work.speech import CHAT, MESSAGES, RESPONSES, Dialect

OURS = str(Path(chatnest.__file__).parent)
HERE = str(Path(__file__).parent), str(Path(benchmarks.upstream.__file__).parent)

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]


@dataclass(frozen=True)
class Kind:
    """``heap`` tokens come in one piece. After ``before`` pieces the work for ``counted`` more is
    counted, so that what is done once is not. The server can send without waiting, as ``chatnest
    serve`` can, or cannot, as others. ``keyed`` answers are runs. What comes is thinking with
    ``thinks``, and a client of it sees the thinking. The model speaks a ``dialect``.
    """

    heap: int
    before: int = 50
    counted: int = 100
    sends_now: bool = False
    keyed: bool = False
    thinks: bool = False
    dialect: Dialect = CHAT

    @property
    def pieces(self) -> int:
        return self.before + self.counted + 1


SERVED = Kind(heap=1, sends_now=True)
KEYED = Kind(heap=1, sends_now=True, keyed=True)
PACED = Kind(heap=1)
BURST = Kind(heap=60, before=3, counted=10)

_THINKING: Final = 1.3
"""How much more work a piece of thinking may take than a piece of text."""

_OBSERVED: Final = 1.06
"""How much more work a request may take with the observers that ship, and without an SDK."""

_RECORDED: Final = 1.12
"""How much more with an SDK, without the work of the SDK."""

CEILINGS = {
    SERVED: {
        "sends": 1,
        "callbacks of the event loop": 1.02,
        "timers": 0,
        "calls of ours": 9,
        "calls of others": 12,
        "blocks kept": 0.2,
    },
    KEYED: {
        "sends": 1,
        "callbacks of the event loop": 1.02,
        "timers": 0,
        "calls of ours": 12,
        "calls of others": 12,
        "blocks kept": 2.5,
    },
    PACED: {
        "sends": 1,
        "callbacks of the event loop": 2.02,
        "timers": 0,
        "calls of ours": 19.2,
        "calls of others": 25,
        "blocks kept": 0.2,
    },
    BURST: {
        "sends": 0.017,
        "callbacks of the event loop": 0.034,
        "timers": 0,
        "calls of ours": 0.352,
        "calls of others": 0.6,
        "blocks kept": 0.2,
    },
}
"""At most, for each token. Calls are those of Python functions, and each going on of a coroutine;
blocks are of memory. Our own work has no slack: one more ``await`` for a token is seen. What others
do differs a little between versions.
"""

REQUEST = {"sends": 3, "timers": 6, "calls of ours": 280, "calls of others": 634}
"""At most, for a whole request of one token. Most of the others' are anyio's, for cancel scopes."""

REQUEST_IN_MONEY = {"sends": 3, "timers": 6, "calls of ours": 303, "calls of others": 636}
"""The same with a price, and with limits of money of the principal, of its team and of all. Before
there was money, a request took 276 calls of ours.
"""

ADVICE = (
    "(what is done now, its ceiling). More work than before: see what was added for each token or "
    "request. Where it has to be, measure what it costs (nox -s bench) and raise the ceiling in "
    "tests/work/test_work.py; where there is less to do now, lower it."
)


class ThinkingFrames(NativeFrames):
    """Shows thinking as text: nothing else shows here when a piece has arrived."""

    __slots__ = ()

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        return super().encode(list(map(shown, events)))


class ThinkingFormat(NativeFormat):
    frames = ThinkingFrames


def shown(event: ClientEvent) -> ClientEvent:
    match event:
        case Reasoning(text=text):
            return Delta(text)
        case Numbered(number=number, event=Reasoning(text=text)):
            return Numbered(number, Delta(text))
        case _:
            return event


class Model(asyncio.Protocol):
    """Says the next of its pieces when it is told to."""

    def __init__(self, kind: Kind) -> None:
        self._speech = kind.dialect.thinking if kind.thinks else kind.dialect.text
        self._pieces = [self._speech.piece * kind.heap] * kind.pieces

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if b'"stream"' in data:
            self._left = iter([*self._pieces, self._speech.end])
            self._transport.write(self._speech.head)
            self.go_on()

    def go_on(self) -> None:
        self._transport.write(next(self._left))


class Work:
    """A client, which counts what was done between two of the pieces that it got."""

    def __init__(self, kind: Kind, model: Model) -> None:
        self._kind = kind
        self._model = model
        self._pieces = self._seen = 0
        self._body = question(1).partition(b"\r\n\r\n")[2]
        self._asked = False
        self.last = b""
        self.total: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        transport: Any = self
        self.flow = Flow(transport)

    async def receive(self) -> dict[str, Any]:
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        self.write(message.get("body", b""))

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, _: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.total["sends"] += 1
        self.last = data
        self._seen += data.count(MARK)
        if self._seen == self._kind.heap:
            self._seen = 0
            self._pieces += 1
            self._look()
            self._model.go_on()

    def _look(self) -> None:
        if self._pieces in {self._kind.before, self._kind.before + self._kind.counted}:
            profile = sys.getprofile()
            sys.setprofile(None)
            gc.collect()
            sign = -1 if self._pieces == self._kind.before else 1
            self.total["blocks kept"] = sys.getallocatedblocks()
            for name, count in self.total.items():
                self.found[name] += sign * count
            sys.setprofile(profile)

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        place = frame.f_code.co_filename
        if event == "call" and not place.startswith(HERE):
            self.total["calls of ours" if place.startswith(OURS) else "calls of others"] += 1

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            self.total[name] += 1
            return function(*args, **kwargs)

        return counting

    @contextmanager
    def counting(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            loop = asyncio.get_running_loop()
            patch.setattr(loop, "call_at", self.counted("timers", loop.call_at))
            run = asyncio.Handle._run
            patch.setattr(asyncio.Handle, "_run", self.counted("callbacks of the event loop", run))
            gc.collect()
            gc.disable()
            sys.setprofile(self.profile)
            try:
                yield
            finally:
                sys.setprofile(None)
                gc.enable()


async def work(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, *, keyed: bool = False, **options: Any
) -> Work:
    """What one stream takes, after others of the same application, with a key each if ``keyed``."""
    loop = asyncio.get_running_loop()
    model = Model(kind)
    server = await loop.create_server(lambda: model, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}{kind.dialect.path}"
    provider = kind.dialect.provider(base_url=url, api_key="k", model=kind.dialect.model)
    bounds = Bounds(lag_seconds=60)  # a slow turn would be watched by one more
    app = ChatNestApp(provider=provider, default_profile="expanded", bounds=bounds, **options)
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/api/chat",
        "client": ("127.0.0.1", 50_000),
    }
    monkeypatch.setattr(MemoryRunLog, "poll_seconds", 60)  # a slow turn would be polled more often
    try:
        for number in range(3):  # of them the last counts: what is loaded once is loaded
            found = Work(kind, model)
            key = [(b"idempotency-key", b"key-%d" % number)] if keyed or kind.keyed else []
            scope["headers"] = [(b"content-type", b"application/json"), *key]
            scope["extensions"] = {SEND_NOW: found.flow} if kind.sends_now else {}
            async with asyncio.timeout(60):
                with found.counting(monkeypatch):
                    await app(scope, found.receive, found.send)  # type: ignore[arg-type]
            assert b"event: done" in found.last, repr(found.last)
    finally:
        await app.aclose()
        server.close()
    return found


@pytest.fixture(autouse=True)
async def _as_in_production():
    """asyncio's debug mode does work of its own, and that is not what is counted."""
    loop = asyncio.get_running_loop()
    debug = loop.get_debug()
    loop.set_debug(False)
    yield
    loop.set_debug(debug)


@pytest.mark.parametrize("kind", CEILINGS, ids=["served", "keyed", "paced", "burst"])
async def test_a_token_takes_no_more_work_than_it_did(kind, monkeypatch, record_property):
    found = (await work(kind, monkeypatch)).found
    tokens = kind.counted * kind.heap
    each = {name: round(found[name] / tokens, 3) for name in CEILINGS[kind]}
    record_property("work", str(each))

    too_much = {n: (each[n], most) for n, most in CEILINGS[kind].items() if each[n] > most}
    assert too_much == {}, ADVICE


@pytest.mark.parametrize("text", [SERVED, KEYED, BURST], ids=["served", "keyed", "burst"])
@pytest.mark.parametrize("dialect", [CHAT, RESPONSES, MESSAGES], ids=lambda each: each.name)
async def test_a_piece_of_thinking_takes_about_the_work_of_a_piece_of_text(
    dialect, text, monkeypatch, record_property
):
    """Both are shown by one format, so that they differ in nothing else."""
    text = replace(text, dialect=dialect)
    thinking = replace(text, thinks=True)
    formats = [ThinkingFormat()]
    thought = (await work(thinking, monkeypatch, formats=formats)).found
    said = (await work(text, monkeypatch, formats=formats)).found
    record_property("work", str({name: (thought[name], said[name]) for name in CEILINGS[SERVED]}))

    for name in ("sends", "callbacks of the event loop", "calls of ours", "calls of others"):
        assert thought[name] <= _THINKING * said[name], (name, thought[name], said[name])


@pytest.mark.parametrize("kind", [SERVED, BURST], ids=["served", "burst"])
async def test_observers_add_no_work_to_a_token(kind, monkeypatch):
    plain = (await work(kind, monkeypatch)).found
    observed = (await work(kind, monkeypatch, observers=[OpenTelemetry()])).found
    names = ("sends", "callbacks of the event loop", "calls of ours", "calls of others")
    assert {name: observed[name] for name in names} == {name: plain[name] for name in names}


async def test_observers_add_little_work_to_a_request(monkeypatch, record_property):
    kind = Kind(heap=1, before=0, counted=0)
    plain = (await work(kind, monkeypatch)).total["calls of ours"]
    observed = (await work(kind, monkeypatch, observers=[OpenTelemetry()])).total["calls of ours"]
    record_property("work", str((plain, observed)))
    assert observed <= _OBSERVED * plain, (plain, observed, ADVICE)


def in_money(ledger: MemoryLedger) -> dict[str, Any]:
    """A price, and limits of the principal, of its team and of all."""
    of_money = {
        "principal": ("5.00", "day"),
        "team": ("200.00", "month"),
        "global": ("900.00", "month"),
    }
    limits = [
        LimitRule(name=f"{per}-money", per=per, unit="money", amount=amount, window=window)
        for per, (amount, window) in of_money.items()
    ]
    return {
        "prices": Prices.of({"input": "0.25", "cached_input": "0.025", "output": "2.00"}),
        "policies": standard_policies(limits=limits),
        "identify": lambda _: Identity("ann", groups={"team": "acme"}),
        "ledger": ledger,
    }


@pytest.mark.parametrize("is_in_money", [False, True], ids=["plain", "in money"])
async def test_a_request_takes_no_more_work_than_it_did(is_in_money, monkeypatch, record_property):
    ceilings = REQUEST_IN_MONEY if is_in_money else REQUEST
    ledger = MemoryLedger()
    options = in_money(ledger) if is_in_money else {}
    found = (await work(Kind(heap=1, before=0, counted=0), monkeypatch, **options)).total
    each = {name: found[name] for name in ceilings}
    record_property("work", str(each))

    too_much = {n: (each[n], most) for n, most in ceilings.items() if each[n] > most}
    assert too_much == {}, ADVICE
    if is_in_money:
        written = await ledger.own_usage("ann", "2026-01-01")
        assert sum(row.use.turns for row in written) == 3
        assert all(row.use.money for row in written)


class Lines(logging.Handler):
    """Takes the lines of the access log, as the one of ``chatnest serve`` does."""

    def emit(self, record: logging.LogRecord) -> None:
        record.getMessage()


def handle_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("chatnest.access")
    monkeypatch.setattr(log, "handlers", [Lines()])
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(log, "level", logging.INFO)
    log.manager._clear_cache()  # type: ignore[attr-defined]  # as setLevel does


class Watched(ChatNestApp):
    """An application with an access log and metrics."""

    def __init__(self, **options: Any) -> None:
        super().__init__(observers=[AccessLog("json"), *self.more()], **options)
        assert self.metrics is not None

    def more(self) -> list[Observer]:
        return []


class Traced(Watched):
    """One with OpenTelemetry as well, in a program without an SDK."""

    def more(self) -> list[Observer]:
        return [OpenTelemetry()]


class Recorded(Watched):
    """One with OpenTelemetry and an SDK that keeps each span and metric."""

    def more(self) -> list[Observer]:
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
        meters = MeterProvider([InMemoryMetricReader()])
        return [OpenTelemetry(tracer_provider=tracers, meter_provider=meters)]


@pytest.mark.parametrize(
    ("kind_of_app", "most"),
    [
        (Watched, {"calls of ours": _OBSERVED, "calls of others": _OBSERVED}),
        (Traced, {"calls of ours": _OBSERVED, "calls of others": _OBSERVED}),
        (Recorded, {"calls of ours": _RECORDED}),
    ],
    ids=["log and metrics", "all", "all with an sdk"],
)
async def test_observers_take_little_work_for_a_request_and_none_for_a_token(
    kind_of_app, most, monkeypatch, record_property
):
    handle_lines(monkeypatch)
    kinds = Kind(heap=1, before=0, counted=0), SERVED
    plain = [await work(kind, monkeypatch) for kind in kinds]
    monkeypatch.setattr(sys.modules[__name__], "ChatNestApp", kind_of_app)
    watched = [await work(kind, monkeypatch) for kind in kinds]
    names = ("calls of ours", "calls of others")
    record_property("work", str([(watched[0].total[n], plain[0].total[n]) for n in names]))

    for name in names:
        assert plain[0].total[name] < watched[0].total[name]
        assert watched[1].found[name] <= plain[1].found[name] + 1, ADVICE
    for name, factor in most.items():
        assert watched[0].total[name] <= factor * plain[0].total[name], ADVICE
