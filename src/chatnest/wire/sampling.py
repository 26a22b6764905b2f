"""Sampling of a request, and its other numbers: their ranges, in every format. No I/O."""

from collections.abc import Mapping
from typing import Final, Protocol

from chatnest.requests import DEFAULT_SAMPLING, Sampling
from chatnest.wire.caps import MAX_SEED, MAX_STOP_CHARACTERS, MAX_STOPS
from chatnest.wire.places import Places

__all__ = ["SentSampling", "sampling_of"]

_RANGES: Final = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "seed": (-MAX_SEED - 1, MAX_SEED),
}


class SentSampling(Protocol):
    """The fields of a body that say how the model chooses its words."""

    @property
    def temperature(self) -> float | None: ...
    @property
    def top_p(self) -> float | None: ...
    @property
    def presence_penalty(self) -> float | None: ...
    @property
    def frequency_penalty(self) -> float | None: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def stop(self) -> str | list[str] | None: ...


def sampling_of(
    sent: SentSampling, counts: Mapping[str, str], names: Mapping[str, str], places: Places
) -> Sampling:
    """The sampling of a request, within its ranges. ``counts`` are the fields that must be at least
    1, each with its name in JSON. ``names`` has the names in JSON of other fields.
    """
    for field, name in counts.items():
        value = getattr(sent, field)
        if value is not None and value < 1:
            raise places.wrong(name)
    for field, (least, most) in _RANGES.items():
        value = getattr(sent, field)
        if value is not None and not least <= value <= most:
            raise places.wrong(names.get(field, field))
    sampling = Sampling(
        temperature=sent.temperature,
        top_p=sent.top_p,
        presence_penalty=sent.presence_penalty,
        frequency_penalty=sent.frequency_penalty,
        seed=sent.seed,
        stop=_stops(sent.stop, places) if sent.stop is not None else (),
    )
    return DEFAULT_SAMPLING if sampling == DEFAULT_SAMPLING else sampling


def _stops(sent: str | list[str], places: Places) -> tuple[str, ...]:
    words = [sent] if isinstance(sent, str) else sent
    if len(words) > MAX_STOPS or not all(0 < len(word) <= MAX_STOP_CHARACTERS for word in words):
        raise places.wrong("stop")
    return tuple(words)
