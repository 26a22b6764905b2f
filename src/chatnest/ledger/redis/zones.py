"""Zones: the time zones in which budgets are counted, by the budget's name. No I/O."""

from collections.abc import Iterable, Mapping

from chatnest.errors import ZoneConflict
from chatnest.ledger.base import Limit

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

    def know(self, names: Iterable[str]) -> bool:
        """Whether the zone of each of these names is known."""
        return all(name in self._known for name in names)

    def unknown(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """The wanted zones of names that the books do not have yet.

        Raises ZoneConflict if the books have another zone for a name.
        """
        for name, zone in wanted.items():
            if (kept := self._known.get(name, zone)) != zone:
                raise ZoneConflict(name, kept, zone)
        return {name: zone for name, zone in wanted.items() if name not in self._known}


def zones_of(limits: Iterable[Limit]) -> dict[str, str]:
    """The zone of each budget by its name. Raises ZoneConflict if one name has two zones."""
    zones: dict[str, str] = {}
    for limit in limits:
        if limit.kind == "budget":
            zone = zones.setdefault(limit.name, limit.timezone)
            if zone != limit.timezone:
                raise ZoneConflict(limit.name, zone, limit.timezone)
    return zones
