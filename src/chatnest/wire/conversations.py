"""Conversation: the messages of a request, put together one after the other. No I/O."""

from chatnest.conversation import Message, ToolCall, ToolResult
from chatnest.errors import InvalidRequest
from chatnest.tool_turns import answered_calls

__all__ = ["Conversation"]


class Conversation:
    """The messages so far, and whether the calls of the last message have a result yet.

    A result follows the message with its call, and there is one for each call.
    """

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._has_result: dict[str, bool] = {}  # by the id of the call

    def add(self, message: Message) -> None:
        """Add a message of the user or the assistant."""
        self._messages.append(message)
        calls = [part.id for part in message.parts if isinstance(part, ToolCall)]
        self._has_result = dict.fromkeys(calls, False)

    def check_result(self, call_id: str, place: str) -> None:
        """Raise InvalidRequest, which names ``place``, if no result of this call can follow."""
        if call_id not in self._has_result:
            raise InvalidRequest(
                f"{place}: must be the id of a call in the message of the assistant before it."
            )
        if self._has_result[call_id]:
            raise InvalidRequest(f"{place}: must be the id of a call without a result.")

    def add_result(self, result: ToolResult) -> None:
        """Add the result of a call, after ``check_result``."""
        self._has_result[result.call_id] = True
        self._messages.append(Message("tool", (result,)))

    def messages(self) -> tuple[Message, ...]:
        """The messages, without calls that have no result: the client was stopped before."""
        return answered_calls(self._messages)
