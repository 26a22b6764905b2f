"""TrimHistory: drops the oldest messages of a conversation that is too long. No I/O."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from operator import attrgetter

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
        if turn.is_large:  # messages that are too long by their bytes alone are not counted
            newest_first = newest_first[: _how_many(map(turn.least_tokens, newest_first), room)]
        kept = _how_many(await turn.tokens(newest_first), room)
        turn.messages = _from_user(turn.messages, len(turn.messages) - kept)


def _how_many(costs: Iterable[int], room: int) -> int:
    """How many of these costs, from the first one on, add up to at most ``room``."""
    return bisect_right(list(accumulate(costs)), room)


def _from_user(messages: tuple[Message, ...], start: int) -> tuple[Message, ...]:
    """The messages from the user's first message at or after ``start``, or from the user's last."""
    roles = list(map(attrgetter("role"), messages))
    last = len(roles) - 1 - roles[::-1].index("user")
    return messages[roles.index("user", min(start, last)) :]
