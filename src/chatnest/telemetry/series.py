"""Series: all time series of an application, which follow from its configuration. No I/O.

Each series has a fixed place in one array of numbers, so that workers can share the array.
"""

from collections.abc import Iterator
from itertools import product
from typing import Final, Literal

import msgspec

__all__ = ["ABOVE", "OTHER", "OUTCOMES", "REFUSALS", "Family", "Known", "Layout", "families_of"]

OTHER: Final = "other"
"""The value of a label for everything that the configuration does not name."""

_CALLS: Final = (
    *("upstream_unavailable", "upstream_timeout", "upstream_overloaded", "upstream_error"),
    *("upstream_account", "upstream_rejected", "context_length", "upstream_bad_response"),
    *("upstream_interrupted", "empty_answer"),
)
_ENDS: Final = (
    *("stream_timeout", "answer_too_long", "internal_error", "server_shutdown", "cancelled"),
    *("client_gone", "client_stalled"),
)
OUTCOMES: Final = ("done", *_CALLS, *_ENDS)
"""How a turn can end: ``done``, and the codes of errors that can end an admitted turn."""

REFUSALS: Final = (
    *("invalid_request", "unauthenticated", "forbidden_profile", "model_not_found", "slow_body"),
    *("body_too_large", "request_too_large", "unsupported_media_type", "idempotency_key_reused"),
    *("ledger_unavailable", "overloaded", "server_shutdown", "internal_error"),
)
"""Why a request can be refused, other than by a limit."""

_SOURCES: Final = ("provider", "estimated")
_CLASSES: Final = ("input", "cached", "cache_written", "output", "reasoning")
_OPERATIONS: Final = ("reserve", "settle", "release")
ABOVE: Final = ("0.5", "0.8", "1.0")
"""Parts of a limit's amount. Accounts are counted if they have used at least this part."""

_FIRST: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0, 120.0)
_STREAM: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_TOKEN: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
_LEDGER: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of buckets, in seconds."""

Together = Literal["sum", "max", "none"]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The names of a configuration that become labels. Clients cannot choose any of them."""

    models: tuple[str, ...]
    upstreams: tuple[str, ...]
    profiles: tuple[str, ...]
    limits: tuple[str, ...]
    currency: str


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """A metric: one series for each combination of its labels' values.

    A counter or a histogram is the sum over all workers, including those that have ended. A gauge
    is taken over running workers: ``together`` selects their sum, their maximum, or 1 if no worker
    has set it. The counted number is divided by ``scale``. A histogram has ``bounds``, the upper
    bounds of its buckets.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"] = "counter"
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bounds: tuple[float, ...] = ()
    scale: int = 1
    together: Together = "sum"

    @property
    def width(self) -> int:
        """How many numbers a series has: its value, or its buckets and then its sum."""
        return len(self.bounds) + 2 if self.bounds else 1

    @property
    def series(self) -> tuple[tuple[str, ...], ...]:
        """The values of the labels of each series."""
        return tuple(product(*(values for _, values in self.labels)))

    def samples(self) -> Iterator[tuple[str, dict[str, str]]]:
        """The name and the labels of each sample: a histogram has several for each series."""
        names = [name for name, _ in self.labels]
        total = "_total" if self.kind == "counter" else ""
        for values in self.series:
            labels = dict(zip(names, values, strict=True))
            if not self.bounds:
                yield f"{self.name}{total}", labels
                continue
            for bound in (*map(str, self.bounds), "+Inf"):
                yield f"{self.name}_bucket", {**labels, "le": bound}
            yield f"{self.name}_count", labels
            yield f"{self.name}_sum", labels


class Layout:
    """The place of each series in the array: ``places[name][values of the labels]``."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self.families: tuple[Family, ...] = families
        self.places: dict[str, dict[tuple[str, ...], int]] = {}
        place = 0
        for family in families:
            found = self.places[family.name] = {}
            for values in family.series:
                found[values] = place
                place += family.width
        self.gauges: tuple[int, ...] = tuple(
            each
            for family in families
            if family.kind == "gauge"
            for each in self.places[family.name].values()
        )
        """The places of all gauges, which a new worker sets to 0."""
        self.streams: int = self.places["chatnest_streams"][()]
        """The place of the turns that are not settled yet."""
        self.lost: int = place
        """The place of the holds of workers that were killed."""
        self.size: int = place + 1


def families_of(known: Known) -> tuple[Family, ...]:
    """All metrics of an application."""
    models = ("model", (*known.models, OTHER))
    limits = ("limit", (*known.limits, OTHER))
    return (
        Family(
            name="chatnest_turns",
            help="Turns that were settled, or whose client disconnected before their admission.",
            labels=(
                models,
                ("profile", (*known.profiles, OTHER)),
                ("outcome", (*OUTCOMES, OTHER)),
            ),
        ),
        Family(
            name="chatnest_refusals",
            help="Requests that a limit refused, or would have refused if it were enforced.",
            labels=(limits, ("enforced", ("true", "false"))),
        ),
        Family(
            name="chatnest_rejections",
            help="Requests that were refused for another reason than a limit.",
            labels=(("code", (*REFUSALS, OTHER)),),
        ),
        Family(
            name="chatnest_tokens",
            help="Tokens that were charged. Each token is in one class.",
            labels=(models, ("class", _CLASSES), ("source", _SOURCES)),
        ),
        Family(
            name="chatnest_spend",
            help="Money that was charged, in units of the currency.",
            labels=(models, ("currency", (known.currency,))),
            scale=10**9,
        ),
        Family(
            name="chatnest_unpriced_turns",
            help="Turns that were charged tokens of a model without a price.",
            labels=(models,),
        ),
        Family(
            name="chatnest_overrun_tokens",
            help="Tokens that were charged beyond what was held.",
        ),
        Family(
            name="chatnest_attempts",
            help="Calls to a model that have ended.",
            labels=(
                ("upstream", (*dict.fromkeys(known.upstreams), OTHER)),
                ("outcome", (*OUTCOMES, OTHER)),
            ),
        ),
        Family(
            name="chatnest_first_token_seconds",
            help="Time from the request to the first text, thinking or tool call.",
            kind="histogram",
            labels=(models,),
            bounds=_FIRST,
        ),
        Family(
            name="chatnest_stream_seconds",
            help="Time from the request to the end of its turn.",
            kind="histogram",
            labels=(models,),
            bounds=_STREAM,
        ),
        Family(
            name="chatnest_output_token_seconds",
            help="Mean time per token of the output after the first, for each turn.",
            kind="histogram",
            labels=(models,),
            bounds=_TOKEN,
        ),
        Family(
            name="chatnest_ledger_seconds",
            help="Time of calls to the ledger.",
            kind="histogram",
            labels=(("operation", _OPERATIONS),),
            bounds=_LEDGER,
        ),
        Family(
            name="chatnest_ledger_failures",
            help="Calls to the ledger that failed or took too long.",
            labels=(("operation", _OPERATIONS),),
        ),
        Family(
            name="chatnest_streams",
            help="Turns that are admitted and not settled yet.",
            kind="gauge",
        ),
        Family(
            name="chatnest_held_tokens",
            help="Tokens that are held for turns that are not settled yet.",
            kind="gauge",
        ),
        Family(
            name="chatnest_outbox_waiting",
            help="Settlements and releases that wait until the ledger is available.",
            kind="gauge",
        ),
        Family(
            name="chatnest_ledger_up",
            help="Whether the ledger was available to all workers when they last called it.",
            kind="gauge",
            together="none",
        ),
        Family(
            name="chatnest_limit_used_ratio",
            help="The fullest account of a limit: used and held, of its amount.",
            kind="gauge",
            labels=(limits,),
            together="max",
        ),
        Family(
            name="chatnest_limit_accounts",
            help="Accounts of a limit that have used and held at least this part of its amount.",
            kind="gauge",
            labels=(limits, ("above", ABOVE)),
            together="max",
        ),
    )
