"""Zones: the time zones in which budgets are counted, by the budget's name. No I/O."""

from collections.abc import Iterable, Mapping

from chatnest.ledger.base import Limit
from chatnest.ledger.books import check_scale, scale_of

__all__ = ["Zones", "zones_of"]


class Zones:
    """The zones that this process knows from the books."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def learn(self, zones: Mapping[str, str]) -> None:
        """Add zones that were read from the books."""
        self._known.update(zones)

    def clear(self) -> None:
        """Forget all zones: the books have changed."""
        self._known.clear()

    def scale(self, name: str) -> str | None:
        """The scale of a name, if it is known."""
        return self._known.get(name)

    def know(self, names: Iterable[str]) -> bool:
        """Whether the zone of each of these names is known."""
        return all(name in self._known for name in names)

    def unknown(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """The wanted zones of names that the books do not have yet.

        Raises ZoneConflict if the books have another zone for a name.
        """
        for name, zone in wanted.items():
            check_scale(name, self._known.get(name, zone), zone)
        return {name: zone for name, zone in wanted.items() if name not in self._known}


def zones_of(limits: Iterable[Limit]) -> dict[str, str]:
    """The zone of each budget by its name. Raises ZoneConflict if one name has two zones."""
    zones: dict[str, str] = {}
    for limit in limits:
        if limit.kind == "budget":
            scale = scale_of(limit)
            check_scale(limit.name, zones.setdefault(limit.name, scale), scale)
    return zones
