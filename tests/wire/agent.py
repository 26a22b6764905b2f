"""Agent: what a client of AG-UI has after a stream, and what it sends in the next run.

It does with the events of our frames what ``verifyEvents`` and ``defaultApplyEvents`` of
@ag-ui/client 1.0.0 do, and breaks off where one of the two versions would.
"""

import json
from typing import Any

from chatnest.testing import EventReader

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


class Agent:
    """One thread of a client. ``is_0`` is the client 0.0.59."""

    def __init__(self, *messages: dict[str, Any], is_0: bool = False) -> None:
        self.messages = list(messages)
        self.is_0 = is_0
        self.events: list[dict[str, Any]] = []
        self.comments = 0
        self._reader = EventReader()
        self._open: set[tuple[str, str]] = set()

    def body(self, run: str = "run-1", **fields: Any) -> dict[str, Any]:
        """The body of the next run."""
        version = {} if self.is_0 else {"protocolVersion": "1.0"}
        return {
            "threadId": "thread-1",
            "runId": run,
            **version,
            "tools": [],
            "context": [],
            "forwardedProps": {},
            "state": {},
            "messages": self.messages,
            **fields,
        }

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def text(self) -> str:
        """The text of all messages of the model."""
        return "".join(m.get("content", "") for m in self.messages if m["role"] == "assistant")

    @property
    def last(self) -> dict[str, Any] | None:
        """The event that ended the run, or None."""
        if self.types[-1:] in (["RUN_FINISHED"], ["RUN_ERROR"]):
            return self.events[-1]
        return None

    def read(self, stream: bytes) -> "Agent":
        """Read a stream, or a piece of one."""
        assert b"\r" not in stream
        for event in self._reader.feed(stream):
            assert (event.event, event.id) == ("message", "")
            self._take(json.loads(event.data))
        self.comments = len(self._reader.comments)
        return self

    def _take(self, event: dict[str, Any]) -> None:
        name = event["type"]
        assert self.last is None, "nothing follows the last event"
        assert self.events or name in {"RUN_STARTED", "RUN_ERROR"}
        assert None not in event.values()
        self.events.append(event)
        getattr(self, f"_on_{name.lower()}")(event)

    def _begin(self, *what: str) -> None:
        assert what not in self._open
        self._open.add(what)  # type: ignore[arg-type]

    def _end(self, *what: str) -> None:
        self._open.remove(what)  # type: ignore[arg-type]

    def _message(self, id_: str, role: str) -> dict[str, Any]:
        found = next((m for m in self.messages if m["id"] == id_), None)
        if found is None:
            found = {"id": id_, "role": role}
            self.messages.append(found)
        assert found["role"] == role
        return found

    def _call(self, id_: str) -> dict[str, Any]:
        calls = [call for m in self.messages for call in m.get("toolCalls", ())]
        found: dict[str, Any] = next(call for call in calls if call["id"] == id_)
        return found

    def _on_run_started(self, event: dict[str, Any]) -> None:
        assert len(self.events) == 1
        assert event.get("protocolVersion") == (None if self.is_0 else "1.0")

    def _on_run_error(self, event: dict[str, Any]) -> None:
        assert isinstance(event["message"], str)

    def _on_run_finished(self, event: dict[str, Any]) -> None:
        assert not self._open
        assert not self.is_0 or "outcome" not in event
        for usage in event.get("usage", ()):
            assert all(n >= 0 for name, n in usage.items() if name.endswith("Tokens"))

    def _on_text_message_start(self, event: dict[str, Any]) -> None:
        self._begin("text", event["messageId"])
        self._message(event["messageId"], "assistant").setdefault("content", "")

    def _on_text_message_content(self, event: dict[str, Any]) -> None:
        assert ("text", event["messageId"]) in self._open
        self._message(event["messageId"], "assistant")["content"] += event["delta"]

    def _on_text_message_end(self, event: dict[str, Any]) -> None:
        self._end("text", event["messageId"])

    def _on_reasoning_start(self, event: dict[str, Any]) -> None:
        self._begin("span", event["messageId"])

    def _on_reasoning_message_start(self, event: dict[str, Any]) -> None:
        assert event["role"] == "reasoning"
        self._begin("thinking", event["messageId"])
        assert event["messageId"] not in {m["id"] for m in self.messages}
        self._message(event["messageId"], "reasoning")["content"] = ""

    def _on_reasoning_message_content(self, event: dict[str, Any]) -> None:
        assert ("thinking", event["messageId"]) in self._open
        self._message(event["messageId"], "reasoning")["content"] += event["delta"]

    def _on_reasoning_message_end(self, event: dict[str, Any]) -> None:
        self._end("thinking", event["messageId"])

    def _on_reasoning_end(self, event: dict[str, Any]) -> None:
        self._end("span", event["messageId"])

    def _on_reasoning_encrypted_value(self, event: dict[str, Any]) -> None:
        if event["subtype"] == "tool-call":
            entity = self._call(event["entityId"])
        else:
            (entity,) = [m for m in self.messages if m["id"] == event["entityId"]]
        entity["encryptedValue"] = event["encryptedValue"]

    def _on_tool_call_start(self, event: dict[str, Any]) -> None:
        id_ = event["toolCallId"]
        self._begin("call", id_)
        calls = [call["id"] for m in self.messages for call in m.get("toolCalls", ())]
        assert id_ not in calls, "the arguments would be added to the earlier call"
        message = self._message(event["parentMessageId"], "assistant")
        function = {"name": event["toolCallName"], "arguments": ""}
        call = {"id": id_, "type": "function", "function": function}
        message.setdefault("toolCalls", []).append(call)

    def _on_tool_call_args(self, event: dict[str, Any]) -> None:
        assert ("call", event["toolCallId"]) in self._open
        self._call(event["toolCallId"])["function"]["arguments"] += event["delta"]

    def _on_tool_call_end(self, event: dict[str, Any]) -> None:
        self._end("call", event["toolCallId"])

    def _on_custom(self, event: dict[str, Any]) -> None:
        assert isinstance(event["name"], str)
        assert "value" in event


def user(content: Any = "Hi", id_: str = "u1") -> dict[str, Any]:
    return {"id": id_, "role": "user", "content": content}


def result(call: str = "c1", content: Any = "42", **fields: Any) -> dict[str, Any]:
    return {"id": f"r-{call}", "role": "tool", "toolCallId": call, "content": content, **fields}


def calling(*calls: str, **fields: Any) -> dict[str, Any]:
    """A message with calls of the tool f."""
    function = {"name": "f", "arguments": "{}"}
    sent = [{"id": id_, "type": "function", "function": function} for id_ in calls]
    return {"id": "a1", "role": "assistant", "toolCalls": sent, **fields}
