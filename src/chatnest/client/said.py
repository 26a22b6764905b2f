"""Said: an answer as a message of the assistant, to send it back in the next request. No I/O."""

from collections.abc import Mapping
from typing import Any, assert_never

from chatnest.conversation import ToolCall as Call
from chatnest.events import (
    Delta,
    Piece,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    ToolCall,
    ToolCallDelta,
)
from chatnest.wire.proofs import proof_of

__all__ = ["Said"]


class Said:
    """The pieces of an answer that have arrived."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: dict[int, tuple[ToolCall, list[str]]] = {}
        self._thinking: list[dict[str, Any]] = []
        self._block: list[str] = []  # the thinking since the last other piece

    def add(self, piece: Piece) -> None:
        """Add the next piece."""
        if isinstance(piece, Reasoning):
            self._block.append(piece.text)
            return
        if self._block and not isinstance(piece, ReasoningSignature):
            self._end_block({})
        match piece:
            case Delta(text=text) | Refusal(text=text):
                self._texts.append(text)
            case ReasoningSignature():
                self._end_block(proof_of(piece))
            case ToolCall():
                self._calls[piece.index] = piece, []
            case ToolCallDelta(index=index, text=text):
                if index in self._calls:
                    self._calls[index][1].append(text)
            case Source():
                pass
            case _:
                assert_never(piece)

    @property
    def text(self) -> str:
        """The text."""
        return "".join(self._texts)

    @property
    def calls(self) -> tuple[Call, ...]:
        """The tool calls, whose arguments are the text that the model wrote."""
        return tuple(
            Call(id=call.id, name=call.name, arguments="".join(arguments))
            for call, arguments in self._calls.values()
        )

    def message(self) -> dict[str, Any]:
        """The message, with thinking and signatures as they came."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self._block:
            self._end_block({})
        if self._thinking:
            message["reasoning"] = list(self._thinking)
        if self._calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.calls
            ]
        return message

    def _end_block(self, proof: Mapping[str, object]) -> None:
        self._thinking.append({"text": "".join(self._block), **proof})
        self._block.clear()
