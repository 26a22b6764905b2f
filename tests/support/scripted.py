"""A provider that answers by a script, in events, and what it was asked."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from chatnest.events import Finish, ProviderEvent, ToolCall, Usage
from chatnest.providers.base import ProviderStream
from chatnest.requests import ModelRequest
from chatnest.tokens import Tokenizer
from chatnest.turn import ModelCall


class Scripted:
    """Each call gets the next answer, the last one again and again. ``reason`` ends it: by default
    ``tool_calls`` after a call, and otherwise ``stop``. With a ``failure`` it breaks off instead.
    """

    def __init__(
        self,
        *answers: Sequence[ProviderEvent],
        reason: str = "",
        failure: Exception | None = None,
    ) -> None:
        self.model = "gpt-4o-mini"
        self.counter: Any = Tokenizer.for_model("gpt-4o-mini")
        self.asked: list[ModelRequest] = []
        self.reason = reason
        self.failure = failure
        self._answers = list(answers)

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[ProviderStream]:
        call.sent = True
        self.asked.append(call.request)
        events = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        stream = self._stream(events)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def _stream(self, events: Sequence[ProviderEvent]) -> Any:
        for event in events:
            yield [event]
        if self.failure is not None:
            raise self.failure
        has_call = any(isinstance(event, ToolCall) for event in events)
        yield [Finish(self.reason or ("tool_calls" if has_call else "stop")), Usage(50, 10)]

    async def aclose(self) -> None:
        pass
