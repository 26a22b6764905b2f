"""A reader of the UI message stream, as strict as the strictest client: useChat of 5, 6 and 7."""

import json
from collections.abc import Iterator
from typing import Any

from chatnest.testing import parse_events

FIELDS = {
    "start": {"messageId"},
    "start-step": set[str](),
    "finish-step": set[str](),
    "text-start": {"id"},
    "text-delta": {"id", "delta"},
    "text-end": {"id"},
    "reasoning-start": {"id"},
    "reasoning-delta": {"id", "delta"},
    "reasoning-end": {"id"},
    "tool-input-start": {"toolCallId", "toolName"},
    "tool-input-delta": {"toolCallId", "inputTextDelta"},
    "tool-input-available": {"toolCallId", "toolName", "input"},
    "tool-input-error": {"toolCallId", "toolName", "input", "errorText"},
    "source-url": {"sourceId", "url"},
    "data-chatnest-error": {"data", "transient"},
    "message-metadata": {"messageMetadata"},
    "error": {"errorText"},
    "finish": {"finishReason", "messageMetadata"},
}
"""The parts of a stream that chatnest sends, and the fields that they must have."""

FINISH = {"stop", "length", "content-filter", "tool-calls", "error", "other"}


class UIMessage:
    """The message of the assistant, as useChat keeps it, and the end of its stream."""

    def __init__(self, stream: bytes = b"", parts: Any = ()) -> None:
        self.id: str | None = None
        self.parts: list[dict[str, Any]] = [dict(part) for part in parts]
        self.metadata: dict[str, Any] = {}
        self.facts: dict[str, Any] | None = None
        self.error: str | None = None
        self.finish: str | None = None
        self.is_over = False
        self._open: dict[str, dict[str, Any]] = {}
        for chunk in chunks(stream):
            assert not self.is_over, "nothing may follow [DONE]"
            if chunk is None:
                assert self.ended(), "[DONE] is the last"
                self.is_over = True
            else:
                assert not self.ended(), "useChat reads nothing after an error"
                self._take(chunk)

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def ending(self) -> object:
        """The sign of the end, or None before it."""
        return (self.finish, self.error) if self.is_over else None

    def ended(self) -> bool:
        return self.error is not None or self.finish is not None

    def sent(self) -> dict[str, Any]:
        """The message in the body of the next request."""
        found = {"role": "assistant", "parts": self.parts, "metadata": self.metadata}
        return found | ({} if self.id is None else {"id": self.id})

    def answered(self, output: Any, *, failed: bool = False) -> None:
        """Give an output, or the text of a failure, to the calls that wait for one."""
        for part in self.parts:
            if part.get("state") == "input-available":
                part.update(
                    {"state": "output-error", "errorText": output}
                    if failed
                    else {"state": "output-available", "output": output}
                )

    def is_complete(self) -> bool:
        """lastAssistantMessageIsCompleteWithToolCalls: whether the client sends it at once."""
        starts = [n for n, part in enumerate(self.parts) if part["type"] == "step-start"]
        tools = [p for p in self.parts[starts[-1] :] if p["type"].startswith("tool-")]
        states = {part["state"] for part in tools}
        return bool(tools) and states <= {"output-available", "output-error"}

    def _take(self, chunk: dict[str, Any]) -> None:  # noqa: C901, PLR0912  # a case for each part
        kind = chunk["type"]
        assert set(chunk) >= FIELDS[kind], chunk
        match kind.split("-"):
            case ["start"]:
                self.id = chunk["messageId"]
            case ["start", "step"]:
                self.parts.append({"type": "step-start"})
            case ["text" | "reasoning" as name, "start"]:
                self._open[chunk["id"]] = part = {"type": name, "text": "", "state": "streaming"}
                self.parts.append(part)
            case ["text" | "reasoning", "delta"]:
                self._open[chunk["id"]]["text"] += chunk["delta"]
            case ["text" | "reasoning", "end"]:
                part = self._open.pop(chunk["id"])
                part["state"] = "done"
                if "providerMetadata" in chunk:
                    part["providerMetadata"] = chunk["providerMetadata"]
            case ["tool", "input", "start"]:
                self.parts.append(tool_part(chunk) | {"state": "input-streaming", "text": ""})
            case ["tool", "input", "delta"]:
                self._tool(chunk)["text"] += chunk["inputTextDelta"]
            case ["tool", "input", "available"]:
                part = self._tool(chunk)
                part |= {"state": "input-available", "input": chunk["input"]}
                assert json.loads(part.pop("text") or "{}") == chunk["input"]
            case ["tool", "input", "error"]:
                part = self._tool(chunk)
                assert part.pop("text") == chunk["input"]
                part |= {"state": "output-error", "errorText": chunk["errorText"]}
                part["rawInput"] = chunk["input"]
            case ["source", "url"]:
                self.parts.append(chunk)
            case ["data", *_]:
                assert chunk["transient"] is True
                self.facts = chunk["data"]
            case ["message", "metadata"]:
                self.metadata |= chunk["messageMetadata"]
            case ["error"]:
                self.error = chunk["errorText"]
            case ["finish"]:
                assert not self._open
                assert chunk["finishReason"] in FINISH
                self.finish = chunk["finishReason"]
                self.metadata |= chunk["messageMetadata"]

    def _tool(self, chunk: dict[str, Any]) -> dict[str, Any]:
        (part,) = (p for p in self.parts if p.get("toolCallId") == chunk["toolCallId"])
        return part


def tool_part(chunk: dict[str, Any]) -> dict[str, Any]:
    return {"type": f"tool-{chunk['toolName']}", "toolCallId": chunk["toolCallId"]}


def chunks(stream: bytes) -> Iterator[dict[str, Any] | None]:
    """The parts of a stream, and None for its end."""
    for event in parse_events(stream):
        assert event.event == "message", "assistant-ui refuses other events"
        if event.data == "[DONE]":
            yield None
            continue
        chunk = json.loads(event.data)
        assert not has_null(chunk), "useChat refuses null"
        yield chunk


def has_null(value: Any) -> bool:
    match value:
        case dict():
            return any(map(has_null, (each for key, each in value.items() if key != "input")))
        case list():
            return any(map(has_null, value))
    return value is None
