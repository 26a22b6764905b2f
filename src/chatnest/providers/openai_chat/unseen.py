"""Unseen: the thinking, tool calls and sources of an answer. No I/O."""

from typing import Any

from chatnest.events import ProviderEvent, Reasoning
from chatnest.providers.openai.loose_json import loads
from chatnest.providers.openai_chat.shapes import EMPTY, NOTHING, Chunk, Delta
from chatnest.providers.openai_chat.signatures import Details, seal_of_call
from chatnest.providers.openai_chat.sources import Sources
from chatnest.providers.openai_chat.thinking import ThinkingHabit
from chatnest.providers.openai_chat.tool_calls import ToolCalls

__all__ = ["Unseen"]


class Unseen:
    """Thinking, tool calls and sources in the answer of ``model``. Most answers have none."""

    __slots__ = ("_details", "_model", "_sources", "calls")

    def __init__(self, model: str) -> None:
        self._model = model
        self._details: Details | None = None
        self._sources: Sources | None = None
        self.calls: ToolCalls | None = None

    def read_thinking(
        self, delta: Delta, thinking: ThinkingHabit | None, events: list[ProviderEvent]
    ) -> bool:
        """Append the thinking in a delta. Returns whether there is any in a field of its own."""
        thought = delta.thought
        if thought is not None:
            events.append(Reasoning(thought))
            if thinking is not None:
                thinking.see(delta)
        if delta.reasoning_details not in EMPTY:
            if self._details is None:
                self._details = Details(self._model)
            events += self._details.read(loads(delta.reasoning_details))
        return thought is not None

    def read_calls(self, delta: Delta, events: list[ProviderEvent]) -> bool:
        """Append the tool calls in a delta. Returns whether the answer has any so far."""
        if found := delta.calls:
            if self.calls is None:
                self.calls = ToolCalls(self._model)
            self.calls.read(found, events)
        return self.calls is not None

    def read_extra(self, delta: Delta, events: list[ProviderEvent]) -> bool:
        """Append the signature in Google's extra content of a message. Returns whether the text of
        the delta is thinking.
        """
        extra = loads(delta.extra_content)
        google: Any = extra.get("google") if isinstance(extra, dict) else None
        if not isinstance(google, dict):
            return False
        if google.get("thought_signature"):
            events.append(seal_of_call(extra, "", self._model))
        return google.get("thought") is True

    def read_sources(self, chunk: Chunk, delta: Delta | None, events: list[ProviderEvent]) -> None:
        """Append the sources in a chunk."""
        if self._sources is None:
            self._sources = Sources()
        if delta is not None and delta.annotations != NOTHING:
            events += self._sources.annotations(delta.annotations)
        events += self._sources.results(chunk.citations, chunk.search_results)
