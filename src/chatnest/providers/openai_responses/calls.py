"""Calls: the function calls of an answer, each piece of their arguments once. No I/O."""

import json
from typing import Any

from chatnest.events import ProviderEvent, ToolCall, ToolCallDelta
from chatnest.providers.openai_responses.shapes import Event, text_in

__all__ = ["Calls"]


class _Call:
    """A function call. ``kept`` has the arguments of its first item, which are used if no others
    arrive. ``given`` is whether arguments were passed on. ``named`` is whether the server gave the
    call an id. ``over`` is whether its item is complete.
    """

    __slots__ = ("given", "index", "kept", "name", "named", "over")

    def __init__(self, index: int, name: str, kept: str, *, named: bool) -> None:
        self.index = index
        self.named = named
        self.name = name
        self.kept = kept
        self.given = False
        self.over = False

    def give(self, arguments: str, events: list[ProviderEvent]) -> None:
        if arguments:
            self.given = True
            events.append(ToolCallDelta(self.index, arguments))


class Calls:
    """Function calls from events: pieces of arguments, whole arguments, whole items.

    Events name a call by ``item_id`` and ``output_index``. Some servers change ``item_id`` from
    event to event, and others use one ``output_index`` for several items. So a known ``item_id``
    decides, and ``output_index`` otherwise.
    """

    __slots__ = ("_by_index", "_by_item", "_calls", "_last")

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}
        self._by_item: dict[str, _Call] = {}
        self._by_index: dict[int, _Call] = {}
        self._last: _Call | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def added(self, event: Event, item: dict[str, Any], events: list[ProviderEvent]) -> None:
        """Begin a call, unless it is known or has no name yet."""
        self._begin(event, item, events)

    def delta(self, event: Event, events: list[ProviderEvent]) -> None:
        """Add a piece of arguments. A piece of an unknown call is ignored: its item repeats it."""
        if (call := self._find(event, event.get("item_id"))) is not None:
            call.give(text_in(event.get("delta")), events)

    def done(self, event: Event, events: list[ProviderEvent]) -> None:
        """Add whole arguments, unless pieces have arrived."""
        call = self._find(event, event.get("item_id"))
        if call is not None and not call.given:
            call.give(_arguments(event), events)

    def item_done(self, event: Event, item: dict[str, Any], events: list[ProviderEvent]) -> None:
        """Complete a call. Its item's arguments are used if no others have arrived."""
        call = self._begin(event, item, events)
        if call is not None:
            call.over = True
            if not call.given:
                call.give(_arguments(item), events)

    def flush(self, events: list[ProviderEvent]) -> None:
        """Append the arguments that were kept, at the end of the answer."""
        for call in self._calls.values():
            if not call.given:
                call.give(call.kept, events)

    def _begin(
        self, event: Event, item: dict[str, Any], events: list[ProviderEvent]
    ) -> _Call | None:
        name, item_id = text_in(item.get("name")), text_in(item.get("id"))
        own = text_in(item.get("call_id"))
        call_id = own or item_id or f"call_{len(self._calls)}"
        call = self._calls.get(call_id) or self._by_item.get(item_id)
        if call is None:
            same = self._by_index.get(_index(event))
            if (
                same is not None
                and not same.over
                and same.name == name
                and not (own and same.named)
            ):
                call = same
        if call is None and name:
            call = self._last = _Call(len(self._calls), name, _arguments(item), named=bool(own))
            self._calls[call_id] = call
            events.append(ToolCall(call.index, call_id, name))
            for known in filter(None, (item_id, own)):
                self._by_item[known] = call
            self._by_index[_index(event)] = call
        return call

    def _find(self, event: Event, item_id: object) -> _Call | None:
        if isinstance(item_id, str) and item_id in self._by_item:
            return self._by_item[item_id]
        if "output_index" in event:
            return self._by_index.get(_index(event))
        return None if isinstance(item_id, str) else self._last


def _index(event: Event) -> int:
    index = event.get("output_index")
    return index if isinstance(index, int) else -1


def _arguments(fields: dict[str, Any]) -> str:
    """Arguments as text. Some servers send an object."""
    arguments = fields.get("arguments")
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)
