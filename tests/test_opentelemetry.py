"""Spans and metrics of turns, with an SDK in memory."""

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from chatnest import ChatNestApp, ConfigurationError, Model, OpenAIProvider, ServerSettings
from chatnest.events import Usage
from chatnest.telemetry import Asked, Attempted, Ended, opentelemetry
from chatnest.telemetry.observers import Observers
from chatnest.telemetry.opentelemetry import OpenTelemetry
from chatnest.telemetry.semconv import OPT_IN, names_of, place_of
from chatnest.testing import Answer
from chatnest.testing.upstream.canary import CANARY as OF_UPSTREAM
from chatnest.turn import Attempt
from tests.streams.support import KEY, answer_to, ask, policies, profile, serving

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
CANARY = "xylophone-canary"


class Recorded:
    """An SDK that keeps spans and metrics in memory, and the observer that makes them."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        meters = MeterProvider([self._reader])
        self.observer = OpenTelemetry(
            tracer_provider=self.tracers, meter_provider=meters, **options
        )

    @property
    def spans(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())

    def named(self, start: str) -> list[Any]:
        return [span for span in self.spans if span.name.startswith(start)]

    @property
    def turn(self) -> Any:
        (span,) = self.named("chatnest.turn")
        return span

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: [
                (dict(point.attributes or {}), getattr(point, "value", getattr(point, "sum", None)))
                for point in metric.data.data_points
            ]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


SHARED = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "openai.api.type": "chat_completions",
    "server.address": "127.0.0.1",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.request.stream": True,
    "gen_ai.request.max_tokens": 400,
    "gen_ai.request.temperature": 0.7,
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 9,
    "gen_ai.usage.output_tokens": 3,
    "openai.response.service_tier": "default",
    "http.response.status_code": 200,
    "chatnest.attempt": 1,
}
"""What both generations have of a call, but for its times, port and ids."""


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": '"1"'}], ids=["plain", "run"])
async def test_a_turn_has_a_span_with_a_span_of_its_call(upstream, headers):
    upstream.default = Answer(usage=(9, 3))
    recorded = Recorded()
    async with serving(upstream, observers=[recorded.observer]) as app:
        with recorded.tracers.get_tracer("host").start_as_current_span("POST /api/chat") as host:
            await answer_to(app, ask(), headers=headers)

    turn, (call,) = recorded.turn, recorded.named("chat ")
    assert turn.parent == host.get_span_context()
    assert call.parent == turn.context
    assert (turn.kind, call.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert call.name == "chat gpt-4o-mini"
    assert turn.start_time <= call.start_time < call.end_time <= turn.end_time
    (first,) = turn.events
    assert first.name == "chatnest.first_piece"
    assert turn.start_time < first.timestamp <= turn.end_time
    given = dict(turn.attributes)
    assert given.pop("chatnest.request.id")
    assert given.pop("chatnest.held_tokens") > 12
    assert given == {
        "chatnest.model": "gpt-4o-mini",
        "chatnest.profile": "balanced",
        "chatnest.outcome": "done",
        "chatnest.source": "provider",
        "chatnest.attempts": 1,
        "chatnest.input_tokens": 9,
        "chatnest.output_tokens": 3,
    }
    assert turn.status.status_code is StatusCode.UNSET


async def test_a_call_has_the_attributes_of_the_conventions(upstream):
    upstream.default = Answer(usage=(9, 3))
    recorded = Recorded()
    async with serving(upstream, observers=[recorded.observer]) as app:
        await answer_to(app, ask())

    given = dict(recorded.named("chat ")[0].attributes)
    assert 0 < given.pop("gen_ai.response.time_to_first_chunk") < 60
    assert given.pop("server.port") == int(upstream.base_url.rsplit(":")[-1].partition("/")[0])
    names = [given.pop(name, None) for name in ("gen_ai.response.id", "gen_ai.response.model")]
    assert given == SHARED, names


def details(generation: str) -> dict[str, Any]:
    """The attributes of a call with a cache, thinking and an effort."""
    usage = Usage(90, 30, cached_tokens=60, cache_written_tokens=8, reasoning_tokens=7)
    event = Attempted(
        id="t",
        time=1.0,
        principal="p",
        groups={},
        profile="x",
        model="m",
        number=1,
        attempt=Attempt(model="m", started=1.0, seconds=2.0, outcome=None, status=0),
        error=None,
        address="",
        content_type="",
        max_output_tokens=30,
        effort="high",
        usage=usage,
    )
    return dict(names_of(generation, {}).of_call(event))


def test_each_generation_has_its_own_names_of_the_details():
    both = {
        "gen_ai.request.max_tokens": 30,
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 90,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.reasoning.output_tokens": 7,
    }
    assert details("1.41") == {**both, "gen_ai.usage.cache_creation.input_tokens": 8}
    assert details("latest") == {
        **both,
        "gen_ai.usage.cache_write.input_tokens": 8,
        "gen_ai.request.reasoning.level": "high",
    }


@pytest.mark.parametrize(
    ("variable", "chosen", "generation"),
    [
        ("", None, "1.41"),
        ("http,gen_ai_latest_experimental", None, "latest"),
        ("gen_ai_latest_experimental", "1.41", "1.41"),
        ("", "latest", "latest"),
    ],
)
def test_a_setting_or_the_variable_chooses_the_generation(variable, chosen, generation):
    assert names_of(chosen, {OPT_IN: variable}) is names_of(generation, {})


def test_an_unknown_generation_is_refused():
    with pytest.raises(ConfigurationError, match="semconv: expected one of"):
        OpenTelemetry(semconv="2")


@pytest.mark.parametrize(
    ("api", "address", "provider"),
    [
        ("openai-chat", "https://api.openai.com/v1", "openai"),
        ("openai-chat", "https://me.openai.azure.com/openai", "azure.ai.openai"),
        ("openai-responses", "https://api.x.ai/v1", "x_ai"),
        ("openai-chat", "http://localhost:8000/v1", "openai"),
        ("openai-chat", "https://notapi.x.ai.example", "openai"),
        ("anthropic-messages", "https://api.anthropic.com", "anthropic"),
        ("", "https://api.x.ai:x/", "custom"),
    ],
)
def test_a_provider_is_named_by_its_host_or_its_dialect(api, address, provider):
    assert place_of(api, address)["gen_ai.provider.name"] == provider


GEN_AI = {
    "1.41": {
        "gen_ai.client.operation.duration": 1,
        "gen_ai.client.operation.time_to_first_chunk": 1,
        "gen_ai.client.token.usage": 2,
    },
    "latest": {
        "gen_ai.client.inference.duration": 1,
        "gen_ai.client.inference.time_to_first_chunk": 1,
        "gen_ai.client.inference.usage.input_tokens": 1,
        "gen_ai.client.inference.usage.output_tokens": 1,
        "gen_ai.client.inference.usage.cache_read.input_tokens": 1,
        "gen_ai.client.inference.usage.cache_write.input_tokens": 1,
        "gen_ai.client.inference.usage.reasoning.output_tokens": 1,
    },
}
"""The metrics of each generation, and the number of their series."""


@pytest.mark.parametrize("generation", GEN_AI)
async def test_the_metrics_are_those_of_one_generation(upstream, generation):
    upstream.default = Answer(usage=(9, 3))
    recorded = Recorded(semconv=generation)
    async with serving(upstream, observers=[recorded.observer]) as app:
        for _ in range(2):
            await answer_to(app, ask())
        await answer_to(app, {"messages": 3})

    found = recorded.metrics()
    assert {n: len(v) for n, v in found.items() if n.startswith("gen_ai.")} == GEN_AI[generation]
    of_model = {"chatnest.model": "gpt-4o-mini", "chatnest.profile": "balanced"}
    assert found["chatnest.turns"] == [(of_model | {"chatnest.outcome": "done"}, 2)]
    assert sum(value for _, value in found["chatnest.tokens"]) == 24
    ((labels, refused),) = found["chatnest.refusals"]
    assert (labels["chatnest.outcome"], refused) == ("invalid_request", 1)


async def test_a_refusal_is_a_span_with_the_name_of_the_limit(upstream):
    recorded = Recorded()
    once: dict[str, Any] = {"profiles": [profile(requests_per_minute=1)], "default_profile": "own"}
    async with serving(upstream, observers=[recorded.observer], **once) as app:
        for _ in range(2):
            await answer_to(app, ask())

    refused = recorded.named("chatnest.turn")[-1]
    given = dict(refused.attributes)
    assert (given["chatnest.limit"], given["chatnest.outcome"]) == ("requests", "rate_limited")
    assert refused.status.status_code is StatusCode.UNSET
    assert refused.start_time <= refused.end_time
    assert [span.parent.span_id for span in recorded.named("chat ")] == [
        recorded.named("chatnest.turn")[0].context.span_id
    ]


async def test_each_attempt_is_a_span_of_its_turn(upstream):
    upstream.script(Answer.error(500), Answer())
    recorded = Recorded()
    async with serving(upstream, observers=[recorded.observer], policies=policies()) as app:
        await answer_to(app, ask())

    failed, worked = recorded.named("chat ")
    assert {span.parent.span_id for span in (failed, worked)} == {recorded.turn.context.span_id}
    assert failed.end_time <= worked.start_time
    assert failed.attributes["error.type"] == "upstream_error"
    assert failed.status.status_code is StatusCode.ERROR
    assert [span.attributes["chatnest.attempt"] for span in (failed, worked)] == [1, 2]


@pytest.mark.parametrize("trusted", [True, False], ids=["proxy", "stranger"])
async def test_the_trace_of_a_client_goes_on_if_a_trusted_proxy_sends_it(upstream, trusted):
    recorded = Recorded(trusted_proxies=["127.0.0.0/8"] if trusted else ["10.0.0.0/8"])
    async with serving(upstream, observers=[recorded.observer]) as app:
        await answer_to(app, ask(), headers=CLIENT)
        await answer_to(app, {"messages": 3}, headers=CLIENT)
        await answer_to(app, ask())

    continued, refused, own = recorded.named("chatnest.turn")
    for span in (continued, refused):
        assert (f"{span.context.trace_id:032x}" == TRACE) == trusted
        assert (span.parent is None) != trusted
        linked = [f"{link.context.trace_id:032x}" for link in span.links]
        assert linked == ([] if trusted else [TRACE])
    assert own.parent is None
    assert not own.links


@pytest.mark.parametrize(
    ("server", "model", "sent"),
    [(True, None, 1), (True, False, 0), (False, None, 0), (False, True, 1)],
)
async def test_a_provider_gets_the_trace_where_that_is_told(upstream, server, model, sent):
    recorded = Recorded()
    settings = ServerSettings(trace=server)
    provider = OpenAIProvider(base_url=upstream.base_url, api_key="k", server=settings)
    models = {"m": Model(provider=provider, trace=model)}
    app = ChatNestApp(models=models, observers=[recorded.observer])
    await answer_to(app, ask(), headers={**CLIENT, "baggage": "who=ann"})
    await app.aclose()

    (request,) = upstream.requests
    (call,) = recorded.named("chat ")
    expected = f"00-{call.context.trace_id:032x}-{call.context.span_id:016x}-0"
    found = request.headers.get("traceparent", "")
    assert found[:-1] == (expected if sent else "")
    assert "baggage" not in request.headers
    assert call.parent.span_id == recorded.turn.context.span_id


async def test_no_span_has_content_a_key_or_an_address(upstream):
    upstream.default = Answer(pieces=(CANARY, f" {CANARY}"))
    recorded = Recorded()
    headers = {"authorization": f"Bearer {CANARY}", "chatnest-conversation-id": CANARY}
    async with serving(upstream, observers=[recorded.observer]) as app:
        await answer_to(app, ask(CANARY), headers=headers, client=("203.0.113.9", 50_000))
        upstream.script(Answer.error(401))
        await answer_to(app, ask(CANARY), headers=headers, client=("203.0.113.9", 50_000))

    told = "".join(span.to_json() for span in recorded.spans) + str(recorded.metrics())
    assert "chatnest.turn" in told
    assert CANARY not in told
    assert OF_UPSTREAM not in told
    assert KEY not in told
    assert "203.0.113" not in told


async def test_the_principal_is_told_only_where_that_is_set(upstream):
    recorded = Recorded(principal=True)
    async with serving(upstream, observers=[recorded.observer]) as app:
        await answer_to(app, ask(conversation="c"))

    given = recorded.turn.attributes
    assert str(given["user.id"]).startswith("addr:")
    assert given["gen_ai.conversation.id"] == "c"
    assert "addr:" not in str(recorded.metrics())


async def test_without_an_sdk_nothing_is_kept(upstream):
    observer = OpenTelemetry(
        tracer_provider=trace.NoOpTracerProvider(), meter_provider=NoOpMeterProvider()
    )
    async with serving(upstream, observers=[observer]) as app:
        await answer_to(app, ask())
        await answer_to(app, {"messages": 3})
    assert observer._turns == {}


async def test_an_sdk_that_the_program_sets_later_is_found(upstream, monkeypatch):
    """Until then, no event of a turn is made."""
    recorded = Recorded()
    monkeypatch.setattr(opentelemetry, "_LOOK_SECONDS", 0)
    observer = OpenTelemetry()
    observers = Observers([observer])
    assert not observers.watched

    async with serving(upstream, observers=[observer]) as app:
        await answer_to(app, ask())
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorded.tracers)
        await answer_to(app, ask())
        await answer_to(app, {"messages": 3})

    turns = recorded.named("chatnest.turn")
    assert [span.attributes["chatnest.outcome"] for span in turns] == ["done", "invalid_request"]
    assert [span.parent.span_id for span in recorded.named("chat ")] == [turns[0].context.span_id]


async def test_without_an_sdk_no_event_is_made(upstream, monkeypatch):
    made: list[type] = []
    report = Observers._report

    def counting(self: Observers, kind: Any, *args: Any, **facts: Any) -> None:
        made.append(kind)
        report(self, kind, *args, **facts)

    monkeypatch.setattr(Observers, "_report", counting)
    async with serving(upstream, observers=[OpenTelemetry()]) as app:
        await answer_to(app, ask())
        assert made == []
    async with serving(upstream, observers=[Recorded().observer]) as app:
        await answer_to(app, ask())
    assert made == [Asked, Attempted, Ended]
