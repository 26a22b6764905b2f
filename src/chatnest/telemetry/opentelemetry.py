"""OpenTelemetry: an observer that makes spans and metrics. It needs the extra ``otel``.

    the host's server span, or the client's span from a trusted proxy
    └── chatnest.turn        from the request to the settlement; event: chatnest.first_piece
        ├── chat gpt-5-mini  a call to the model, here one that failed
        └── chat gpt-5-mini

A refused request is a chatnest.turn with the name of the limit. This module uses only the API of
OpenTelemetry: without an SDK in the program, nothing is recorded.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from importlib.metadata import version
from time import monotonic
from typing import Any, Final, NamedTuple

import anyio.to_thread
import msgspec
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from chatnest.amounts import NANOS
from chatnest.identity.principals import ClientAddress
from chatnest.telemetry.base import (
    Asked,
    Attempted,
    Ended,
    Observation,
    Refused,
)
from chatnest.telemetry.instruments import Instruments
from chatnest.telemetry.semconv import Attributes, names_of, of_metrics, place_of

__all__ = ["OpenTelemetry"]

_FLUSH_MILLISECONDS: Final = 5_000
"""Maximum milliseconds for an SDK to export the remaining data when the application ends."""

_ERROR: Final = Status(StatusCode.ERROR)
_NO_FAULT: Final = frozenset({"cancelled", "client_gone", "client_stalled", "done"})
"""Outcomes that are not failures of the service."""

_LEAST_FAULT: Final = 500

_LOOK_SECONDS: Final = 1.0
"""Minimum seconds between two searches for an SDK."""

_FIELDS: Final = ("traceparent", "tracestate")

_propagator: Final = TraceContextTextMapPropagator()


class _Client(NamedTuple):
    """The client's span, and whether a trusted proxy sent it."""

    context: Context
    span: SpanContext
    trusted: bool


_NO_SDK: Final = frozenset(
    {"NoOpMeterProvider", "NoOpTracerProvider", "ProxyTracerProvider", "_ProxyMeterProvider"}
)
"""The classes of providers that record nothing."""

_client: Final[ContextVar[_Client | None]] = ContextVar("chatnest_client_span", default=None)


class _OpenTurn(msgspec.Struct):
    """A turn that has not ended: its span, and the span of a call whose headers were made."""

    span: Span
    call: Span | None = None

    @property
    def context(self) -> Context:
        """The context of its calls."""
        return trace.set_span_in_context(self.span, Context())


class OpenTelemetry:
    """Makes a span of each turn and of each call to a model, and records metrics.

    ``semconv`` is the generation of the GenAI conventions: ``"1.41"``, ``"latest"``, or None for
    the one in OTEL_SEMCONV_STABILITY_OPT_IN, by default 1.41. With ``principal``, spans of turns
    have the principal, its groups and the client's id of the conversation. The parent of a turn is
    the current span. Without a current span, it is the client's ``traceparent`` if it comes from
    one of ``trusted_proxies``; any other ``traceparent`` is only linked. The providers are the
    global ones by default. It sees no events until one of them belongs to an SDK.

    Raises ConfigurationError.
    """

    def __init__(
        self,
        *,
        semconv: str | None = None,
        principal: bool = False,
        trusted_proxies: Iterable[str] = (),
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._names = names_of(semconv, os.environ)
        self._principal = principal
        self._proxies = ClientAddress(trusted_proxies)
        self._providers = tracer_provider, meter_provider
        own = version("chatnest")
        self._tracer = trace.get_tracer("chatnest", own, tracer_provider)
        meter = metrics.get_meter("chatnest", own, meter_provider)
        self._instruments = Instruments(meter, self._names)
        self._turns: dict[str, _OpenTurn] = {}
        self._steps: dict[type, Callable[[Any], None]] = {
            Asked: self._ask,
            Attempted: self._call,
            Ended: self._end,
            Refused: self._refuse,
        }
        self._look_at = 0.0
        self._has_traces = tracer_provider is not None and _records(tracer_provider)
        self._has_metrics = meter_provider is not None and _records(meter_provider)
        has_any = self._has_traces or self._has_metrics
        self.sees: tuple[type[Observation], ...] = tuple(self._steps) if has_any else ()

    # ------------------------------------------------ traces of others

    def arrived(self, scope: Scope, head: Mapping[bytes, bytes]) -> bool:
        """See Tracing. The client's span counts for the tasks that this one starts."""
        was_asleep = not self.sees
        if not (self._has_traces and self._has_metrics) and monotonic() >= self._look_at:
            self._look_for_sdk()
        if not self._has_traces:
            return was_asleep and bool(self.sees)
        found = None
        if b"traceparent" in head:
            fields = {name: head.get(name.encode(), b"").decode("latin-1") for name in _FIELDS}
            context = _propagator.extract({n: v for n, v in fields.items() if v}, Context())
            span = trace.get_current_span(context).get_span_context()
            if span.is_valid:
                found = _Client(context, span, self._proxies.is_trusted(scope))
        _client.set(found)
        return was_asleep

    def trace_headers(self, turn_id: str, model: str) -> Mapping[str, str]:
        """See Tracing. Begins the span of the call, whose id the provider gets."""
        turn = self._turns.get(turn_id)
        headers: dict[str, str] = {}
        if turn is not None:
            attributes: Attributes = {"gen_ai.request.model": model}
            turn.call = self._tracer.start_span(
                f"chat {model}", turn.context, SpanKind.CLIENT, attributes
            )
            _propagator.inject(headers, trace.set_span_in_context(turn.call, Context()))
        return headers

    # ------------------------------------------------ the observer

    def observe(self, event: Observation) -> None:
        """See Observer."""
        self._steps[type(event)](event)

    async def aclose(self) -> None:
        """Export the remaining spans and metrics, if the SDK has a method for that."""
        own_traces, own_metrics = self._providers
        for provider in (
            own_traces if own_traces is not None else trace.get_tracer_provider(),
            own_metrics if own_metrics is not None else metrics.get_meter_provider(),
        ):
            flush: Any = getattr(provider, "force_flush", None)
            if flush is not None:
                await anyio.to_thread.run_sync(partial(flush, _FLUSH_MILLISECONDS))

    def _look_for_sdk(self) -> None:
        """Note whether the program has set providers by now. It may set them after it has created
        this observer, and until then all work would be in vain.
        """
        self._look_at = monotonic() + _LOOK_SECONDS
        own_traces, own_metrics = self._providers
        if own_metrics is None:
            self._has_metrics = _records(metrics.get_meter_provider())
        if own_traces is None:
            self._has_traces = _records(trace.get_tracer_provider())
        if self._has_traces or self._has_metrics:
            self.sees = tuple(self._steps)

    def _ask(self, event: Asked) -> None:
        if self._has_traces:
            self._turns[event.id] = _OpenTurn(self._begin(event))

    def _begin(self, event: Asked | Refused) -> Span:
        """Begin the span of a turn, at the time of its request."""
        client = _client.get()
        context, links = None, []
        if client is not None and not trace.get_current_span().get_span_context().is_valid:
            if client.trusted:
                context = client.context
            else:
                links = [Link(client.span)]
        began = event.time if isinstance(event, Asked) else event.time - event.seconds
        span = self._tracer.start_span(
            "chatnest.turn", context, links=links, start_time=int(began * NANOS)
        )
        if span.is_recording():
            span.set_attributes(self._of_request(event))
        return span

    def _of_request(self, event: Asked | Refused) -> Attributes:
        found: Attributes = {"chatnest.request.id": event.id}
        for name, value in (
            ("chatnest.model", event.model),
            ("chatnest.profile", event.profile),
            ("chatnest.plan", event.plan),
        ):
            if value is not None:
                found[name] = value
        if self._principal and event.principal is not None:
            found["user.id"] = event.principal
            found |= {f"chatnest.group.{n}": v for n, v in (event.groups or {}).items()}
            if isinstance(event, Asked) and event.conversation is not None:
                found["gen_ai.conversation.id"] = event.conversation
        return found

    def _call(self, event: Attempted) -> None:
        """Make the span of a call that has ended."""
        if self._has_metrics:
            self._instruments.attempted(event, of_metrics(event.api, event.address))
        turn = self._turns.get(event.id)
        if turn is None:
            return
        attempt = event.attempt
        span, turn.call = turn.call, None
        if not turn.span.is_recording():
            return
        place = place_of(event.api, event.address)
        if span is None:
            span = self._tracer.start_span(
                f"chat {attempt.model}",
                turn.context,
                SpanKind.CLIENT,
                {**place, "gen_ai.request.model": attempt.model},
                start_time=int(attempt.started * NANOS),
            )
        span.set_attributes(place | self._names.of_call(event))
        span.set_attribute("chatnest.attempt", event.number)
        if attempt.outcome is not None and attempt.outcome not in _NO_FAULT:
            span.set_status(_ERROR)
        span.end(int((attempt.started + attempt.seconds) * NANOS))

    def _end(self, event: Ended) -> None:
        """End the span of a settled turn."""
        if self._has_metrics:
            self._instruments.ended(event)
        turn = self._turns.pop(event.id, None)
        if turn is None or not turn.span.is_recording():
            return
        span, began = turn.span, event.time - event.seconds
        if turn.call is not None:  # its call was never made
            turn.call.end(int(event.time * NANOS))
        if event.first_piece_seconds is not None:
            at = int((began + event.first_piece_seconds) * NANOS)
            span.add_event("chatnest.first_piece", timestamp=at)
        span.set_attributes(_of_settlement(event))
        if event.outcome not in _NO_FAULT:
            span.set_status(_ERROR)
        span.end(int(event.time * NANOS))

    def _refuse(self, event: Refused) -> None:
        if self._has_metrics:
            self._instruments.refused(event)
        if not self._has_traces:
            return
        turn = self._turns.pop(event.id, None)
        span = turn.span if turn is not None else self._begin(event)
        if span.is_recording():
            span.set_attributes({"chatnest.outcome": event.code, "error.type": event.code})
            if event.limit is not None:
                span.set_attribute("chatnest.limit", event.limit)
            if event.status >= _LEAST_FAULT:
                span.set_status(_ERROR)
            span.end(int(event.time * NANOS))


def _records(provider: object) -> bool:
    return type(provider).__name__ not in _NO_SDK


def _of_settlement(event: Ended) -> Attributes:
    found: Attributes = {
        "chatnest.outcome": event.outcome,
        "chatnest.source": event.source,
        "chatnest.attempts": event.attempts,
        "chatnest.input_tokens": event.input_tokens,
        "chatnest.output_tokens": event.output_tokens,
        "chatnest.held_tokens": event.held,
    }
    if event.facts.price:
        found["chatnest.cost"] = event.money / NANOS
        found["chatnest.held_cost"] = event.held_money / NANOS
        found["chatnest.price"] = event.facts.price
    if event.outcome != "done":
        found["error.type"] = event.outcome
    return found
