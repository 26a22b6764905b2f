"""Instruments: the metrics of turns and of calls to the model, for OpenTelemetry."""

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.metrics import Counter, Meter

from chatnest.amounts import NANOS
from chatnest.telemetry.base import Attempted, Ended, Refused
from chatnest.telemetry.semconv import Names

__all__ = ["Instruments"]

_SECONDS: Final = [
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
]
"""Bucket boundaries for durations, from the conventions."""

_TOKENS: Final = [4**power for power in range(14)]
"""Bucket boundaries for tokens, from the conventions."""


class Instruments:
    """Counters and histograms of a meter. Labels are names from the configuration, never from a
    client: models, profiles, limits, outcomes.
    """

    def __init__(self, meter: Meter, names: Names) -> None:
        def seconds(name: str, text: str) -> Any:
            return meter.create_histogram(
                name, "s", text, explicit_bucket_boundaries_advisory=_SECONDS
            )

        def counter(name: str | None, unit: str, text: str) -> Counter | None:
            return None if name is None else meter.create_counter(name, unit, text)

        self._duration = seconds(names.duration, "Seconds of a call to a model.")
        self._first_chunk = seconds(names.first_chunk, "Seconds to the first piece of a call.")
        self._tokens = names.tokens and meter.create_histogram(
            names.tokens,
            "{token}",
            "Tokens of a call, by type.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._by_kind = (
            ("input_tokens", counter(names.input_tokens, "{token}", "Tokens of the input.")),
            ("output_tokens", counter(names.output_tokens, "{token}", "Tokens of the output.")),
            ("cached_tokens", counter(names.cached_tokens, "{token}", "Tokens read from a cache.")),
            (
                "cache_written_tokens",
                counter(names.written_tokens, "{token}", "Tokens written to a cache."),
            ),
            (
                "reasoning_tokens",
                counter(names.reasoning_tokens, "{token}", "Tokens of reasoning."),
            ),
        )
        self._turns = meter.create_counter("chatnest.turns", "{turn}", "Turns that have ended.")
        self._refusals = meter.create_counter(
            "chatnest.refusals", "{request}", "Requests that were refused."
        )
        self._charged = meter.create_counter("chatnest.tokens", "{token}", "Tokens charged.")
        self._spend = meter.create_counter(
            "chatnest.spend", "{currency}", "Money charged, in the ledger's currency."
        )
        self._turn_seconds = seconds("chatnest.turn.duration", "Seconds of a turn.")
        self._first_piece = seconds(
            "chatnest.turn.time_to_first_piece", "Seconds from a request to its first piece."
        )

    def attempted(self, event: Attempted, place: Mapping[str, Any]) -> None:
        """A call to the model has ended."""
        labels = {**place, "gen_ai.request.model": event.attempt.model}
        usage = event.usage
        if usage is not None and usage.source != "provider":
            usage = None
        if usage is not None and self._tokens:
            for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                self._tokens.record(tokens, labels | {"gen_ai.token.type": kind})
        modality = {"gen_ai.token.modality": "unknown"}
        for name, counter in self._by_kind:
            if counter is not None:
                counter.add(0 if usage is None else getattr(usage, name), labels | modality)
        if event.first_piece_seconds is not None:
            self._first_chunk.record(event.first_piece_seconds, labels)
        if event.error is not None:
            # A new dict, since the SDK keeps the old one.
            labels = labels | {"error.type": event.error.code}
        self._duration.record(event.attempt.seconds, labels)

    def refused(self, event: Refused) -> None:
        """A request was refused."""
        labels = {"chatnest.limit": event.limit or "", "chatnest.outcome": event.code}
        for name in ("model", "profile"):
            labels[f"chatnest.{name}"] = getattr(event, name) or ""
        self._refusals.add(1, labels)

    def ended(self, event: Ended) -> None:
        """A turn was settled."""
        labels = {"chatnest.model": event.model, "chatnest.profile": event.profile}
        outcome = labels | {"chatnest.outcome": event.outcome}
        self._turns.add(1, outcome)
        self._turn_seconds.record(event.seconds, outcome)
        if event.first_piece_seconds is not None:
            self._first_piece.record(event.first_piece_seconds, labels)
        if event.source != "none":
            labels = labels | {"chatnest.source": event.source}
            self._charged.add(event.input_tokens, labels | {"chatnest.token.type": "input"})
            self._charged.add(event.output_tokens, labels | {"chatnest.token.type": "output"})
            self._spend.add(event.money / NANOS, labels)
