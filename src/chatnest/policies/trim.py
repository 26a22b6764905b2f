"""TrimHistory: as much of the conversation as fits. No I/O."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from chatnest.conversation import Message
from chatnest.turn import Turn

__all__ = ["TrimHistory"]


class TrimHistory:
    """Keep the end of the conversation: at most ``max_messages`` of the profile, and so many that
    the whole answer fits one request beside them.

    The last message of the user's, what follows it and the operator's system prompt always stay,
    and the first message kept is the user's. Where that alone is too much, the turn is refused
    afterwards, when it is measured.
    """

    async def prepare(self, turn: Turn) -> None:
        newest_first = turn.messages[::-1][: turn.profile.max_messages]
        room = turn.max_tokens_per_request - turn.max_output_tokens - turn.reply_tokens
        room -= sum(await turn.tokens(turn.system))
        # What cannot fit by its bytes alone is not even counted.
        candidates = _that_fit(newest_first, map(turn.least_tokens, newest_first), room)
        kept = _that_fit(candidates, await turn.tokens(candidates), room)
        turn.messages = _from_user(turn.messages, len(turn.messages) - len(kept))


def _that_fit(messages: Sequence[Message], costs: Iterable[int], room: int) -> Sequence[Message]:
    """The first messages whose costs add up to at most ``room``."""
    sums = accumulate(costs)
    return [message for message, total in zip(messages, sums, strict=True) if total <= room]


def _from_user(messages: tuple[Message, ...], start: int) -> tuple[Message, ...]:
    """The messages from the first of the user's at or after ``start``, or from the last one."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    first = next((index for index in users if index >= start), users[-1])
    return messages[first:]
