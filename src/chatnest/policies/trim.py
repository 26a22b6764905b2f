"""TrimHistory: drops the oldest messages of a conversation that is too long. No I/O."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from chatnest.conversation import Message
from chatnest.turn import Turn

__all__ = ["TrimHistory"]


class TrimHistory:
    """Keeps the end of the conversation: at most ``max_messages`` of the profile, and as many as
    leave room for the whole answer in one request.

    The user's last message, all messages after it and the operator's system prompt are always kept,
    and the first message kept is a user's. If these alone are too long, the turn is refused later,
    when it is measured.
    """

    async def prepare(self, turn: Turn) -> None:
        newest_first = turn.messages[::-1][: turn.profile.max_messages]
        room = turn.max_tokens_per_request - turn.max_output_tokens - turn.reply_tokens
        room -= sum(await turn.tokens(turn.system))
        # Messages that are too long by their bytes alone are not counted.
        candidates = _that_fit(newest_first, map(turn.least_tokens, newest_first), room)
        kept = _that_fit(candidates, await turn.tokens(candidates), room)
        turn.messages = _from_user(turn.messages, len(turn.messages) - len(kept))


def _that_fit(messages: Sequence[Message], costs: Iterable[int], room: int) -> Sequence[Message]:
    """The first messages whose costs add up to at most ``room``."""
    sums = accumulate(costs)
    return [message for message, total in zip(messages, sums, strict=True) if total <= room]


def _from_user(messages: tuple[Message, ...], start: int) -> tuple[Message, ...]:
    """The messages from the user's first message at or after ``start``, or from the user's last."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    first = next((index for index in users if index >= start), users[-1])
    return messages[first:]
