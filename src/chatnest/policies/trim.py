"""TrimHistory: drops the oldest messages of a conversation that is too long. No I/O."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import attrgetter

from chatnest.conversation import Message
from chatnest.errors import InvalidRequest
from chatnest.tool_turns import turns_of, without_signatures
from chatnest.turn import Turn

__all__ = ["TrimHistory"]


class TrimHistory:
    """Keeps the end of the conversation: at most ``max_messages`` of the profile, and as many as
    leave room for the whole answer in one request. A tool turn, which is all calls and results in a
    row, counts as one message.

    The user's last message, all messages after it and the operator's system prompt are always kept,
    and the first message kept is a user's. If these alone are too long, the turn is refused later,
    when it is measured. Signed thinking is dropped with the messages before it.
    """

    async def prepare(self, turn: Turn) -> None:
        """Trim ``turn.messages``. Raises InvalidRequest if the last tool turn has more messages
        than ``max_tool_messages`` of the profile.
        """
        most = turn.profile.max_messages
        if turn.has_tool_parts:
            most = _messages_of(turn.messages, most, turn.profile.max_tool_messages)
        newest_first = turn.messages[::-1][:most]
        room = turn.max_tokens_per_request - turn.max_output_tokens - turn.reply_tokens
        room -= sum(await turn.tokens(turn.system))
        room -= await turn.definition_tokens() if turn.has_definitions else 0
        if turn.is_large:  # messages that are too long by their bytes alone are not counted
            newest_first = newest_first[: _how_many(map(turn.least_tokens, newest_first), room)]
        kept = _how_many(await turn.tokens(newest_first), room)
        before = len(turn.messages)
        turn.messages = _from_user(turn.messages, before - kept)
        if len(turn.messages) < before:
            turn.messages = without_signatures(turn.messages)


def _messages_of(messages: Sequence[Message], most: int, most_of_turn: int) -> int:
    """How many messages the last ``most`` groups have. Raises InvalidRequest."""
    sizes = list(map(len, turns_of(messages)))
    if sizes[-1] > most_of_turn:
        raise InvalidRequest(
            f"must have at most {most_of_turn} calls and results of tools in a row.",
            field="messages",
        )
    return sum(sizes[-most:])


def _how_many(costs: Iterable[int], room: int) -> int:
    """How many of these costs, from the first one on, add up to at most ``room``."""
    return bisect_right(list(accumulate(costs)), room)


def _from_user(messages: tuple[Message, ...], start: int) -> tuple[Message, ...]:
    """The messages from the user's first message at or after ``start``, or from the user's last."""
    roles = list(map(attrgetter("role"), messages))
    last = len(roles) - 1 - roles[::-1].index("user")
    return messages[roles.index("user", min(start, last)) :]
