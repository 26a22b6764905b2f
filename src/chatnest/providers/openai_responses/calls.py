"""Calls: the function calls of an answer, each piece of their arguments once. No I/O."""

import json
from typing import Any

from chatnest.events import ProviderEvent, ToolCall, ToolCallDelta
from chatnest.providers.openai_responses.shapes import Event, text_in

__all__ = ["Calls"]


class _Call:
    """``kept`` are arguments that are sent unless others follow; ``given`` is whether any were.
    ``named`` is whether the server gave it an id.
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

    Events name a call by ``item_id`` and ``output_index``. Some servers change the one from event
    to event, others use the other for several items, so the first that is known counts.
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
        """A piece of arguments. Pieces of a call that has not begun come again with its item."""
        if (call := self._find(event, event.get("item_id"))) is not None:
            call.give(text_in(event.get("delta")), events)

    def done(self, event: Event, events: list[ProviderEvent]) -> None:
        """Whole arguments, which count if there were no pieces."""
        call = self._find(event, event.get("item_id"))
        if call is not None and not call.given:
            call.give(_arguments(event), events)

    def item_done(self, event: Event, item: dict[str, Any], events: list[ProviderEvent]) -> None:
        """A whole call, whose arguments count if there were no others."""
        call = self._begin(event, item, events)
        if call is not None:
            call.over = True
            if not call.given:
                call.give(_arguments(item), events)

    def flush(self, events: list[ProviderEvent]) -> None:
        """Append arguments that were kept: nothing more follows."""
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
