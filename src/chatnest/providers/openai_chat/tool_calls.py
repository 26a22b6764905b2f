"""ToolCalls: the calls of tools in one answer, in the shapes of many servers. No I/O.

A server should send the index with each piece, and the id and the name with the first one. Servers
omit the index, repeat id and name, cut the name, send all calls under one index, or send a call at
once with an object as its arguments.
"""

import json
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, Final

import msgspec

from chatnest.errors import UpstreamBadResponse
from chatnest.events import ProviderEvent, ToolCall, ToolCallDelta
from chatnest.providers.openai_chat.shapes import mended
from chatnest.providers.openai_chat.signatures import seal_of_call

__all__ = ["ToolCalls"]

_MOST_PARSED: Final = 65_536
"""Maximum characters of arguments that are parsed to see whether they are complete."""

_MOST_CALLS: Final = 1_024
"""Maximum calls of one answer."""

_NO_IDS: Final = ("", "null", "None")
"""Ids that stand for a missing one: Mistral sends "null"."""


class _Call:
    """One call. Its ToolCall is held back until the arguments begin, since the name may be cut."""

    __slots__ = ("arguments", "begun", "id", "index", "is_given", "name", "size")

    def __init__(self, index: int, call_id: str, *, is_given: bool) -> None:
        self.index = index
        self.id = call_id
        self.is_given = is_given  # whether the server has sent an id
        self.name = ""
        self.begun = False
        self.size = 0
        self.arguments: list[str] = []

    def add_name(self, name: str) -> None:
        """Add the name or a piece of it. A repeated name changes nothing."""
        if not self.begun and name != self.name:
            self.name = name if name.startswith(self.name) else self.name + name

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are a JSON value."""
        if not self.arguments or self.size > _MOST_PARSED:
            return False
        try:
            msgspec.json.decode("".join(self.arguments))
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        return True


class ToolCalls:
    """The calls of one answer by ``model``. Indexes count from 0 in the order of the calls."""

    __slots__ = ("_begun", "_by_index", "_calls", "_ids", "_model")

    def __init__(self, model: str) -> None:
        self._model = model
        self._begun = 0
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._ids: dict[str, _Call] = {}

    @property
    def are_named(self) -> bool:
        """Whether each call has a name."""
        return all(call.name for call in self._calls)

    def read(self, deltas: Sequence[Any], events: list[ProviderEvent]) -> None:
        """Append the events of pieces that arrived together."""
        for place, delta in enumerate(deltas):
            if not isinstance(delta, dict):
                continue
            function = delta.get("function", delta)
            if not isinstance(function, dict):
                function = {}
            name, arguments = function.get("name"), _text_of(function.get("arguments"))
            name = mended(name) if isinstance(name, str) else ""
            call = self._find(delta, place if len(deltas) > 1 else None, name, arguments)
            if call is None:
                continue
            call.add_name(name)
            if arguments:
                self._begin(call, events)
                call.arguments.append(arguments)
                call.size += len(arguments)
                events.append(ToolCallDelta(call.index, arguments))
            extra = delta.get("extra_content")
            if isinstance(extra, dict) and extra:
                self._begin(call, events)
                events.append(seal_of_call(extra, call.id, self._model))

    def end(self, events: list[ProviderEvent], *, is_cut: bool) -> None:
        """Append what was held back. A call without arguments gets an empty object, unless the
        answer was cut: most clients and servers parse them as JSON.
        """
        for call in self._calls:
            self._begin(call, events)
            if not call.arguments and not is_cut:
                call.arguments.append("{}")
                events.append(ToolCallDelta(call.index, "{}"))

    def _begin(self, call: _Call, events: list[ProviderEvent]) -> None:
        while self._begun <= call.index:
            earlier = self._calls[self._begun]
            earlier.begun = True
            self._begun += 1
            events.append(ToolCall(earlier.index, earlier.id, earlier.name))

    def _find(
        self, delta: dict[str, Any], place: int | None, name: str, arguments: str
    ) -> _Call | None:
        """The call of a piece: a known one, or a new one. None for a piece that has nothing."""
        index = delta.get("index")
        index = index if type(index) is int and index >= 0 else None
        call_id = delta.get("id")
        call_id = mended(call_id) if isinstance(call_id, str) and call_id not in _NO_IDS else ""
        call = self._known(index, call_id, place, name)
        if call is None and not (name or arguments or call_id):
            return None
        if call is None or _is_another(call, call_id, name, arguments):
            return self._new(index, call_id)
        if call_id and not call.is_given and not call.begun and call_id not in self._ids:
            call.id, call.is_given = call_id, True
            self._ids[call_id] = call
        return call

    def _known(self, index: int | None, call_id: str, place: int | None, name: str) -> _Call | None:
        """The call that a piece would continue. Without an index and an id, a piece that arrives
        with others continues the call at its own place among them.
        """
        if index is not None:
            return self._by_index.get(index)
        if call_id in self._ids or not self._calls:
            return self._ids.get(call_id)
        if call_id or place is None:
            return self._calls[-1]
        call = self._calls[place] if place < len(self._calls) else None
        if not name:
            return call or self._calls[-1]
        return call if call is not None and call.name == name else None

    def _new(self, index: int | None, call_id: str) -> _Call:
        if len(self._calls) >= _MOST_CALLS:
            raise UpstreamBadResponse
        is_given = bool(call_id)
        if not call_id or call_id in self._ids:
            call_id = f"call_{token_hex(12)}"
        call = _Call(len(self._calls), call_id, is_given=is_given)
        self._calls.append(call)
        self._ids[call_id] = call
        if index is not None:
            self._by_index[index] = call
        return call


def _is_another(call: _Call, call_id: str, name: str, arguments: str) -> bool:
    """Whether a piece begins another call than the one that it would continue. Servers repeat the
    id, the name or both in each piece, cut the name, and use one index for all calls.
    """
    if not name or call_id == call.id:
        return False
    if not call.arguments:
        return bool(call_id) and call.is_given
    if name != call.name:
        return True
    return bool(call_id or arguments) and call.is_complete


def _text_of(arguments: object) -> str:
    """The arguments as text: as it came, or as the JSON of a value."""
    if arguments is None or isinstance(arguments, str):
        return mended(arguments or "")
    return mended(json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))
