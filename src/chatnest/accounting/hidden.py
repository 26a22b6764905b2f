"""HiddenThinking: tokens of thinking that a provider bills and does not show. No I/O.

The provider's figure has them. An answer that breaks off before it may have cost any number of
them, up to the limit of the call. Two facts bound the number further:

- Encrypted thinking is not shorter than the thinking. Base64 has 4 characters for 3 bytes. A token
  has about 4 bytes; 2 are taken, for thinking in code or in another language than English. Codex
  divides by 4, and takes off 650 bytes for the envelope (128 characters here). Anthropic documents
  that a signature has the whole thinking in it.
- A model needs time. Providers advertise 1,000 tokens a second for their fastest models, and most
  models write 50 to 250.
"""

from math import ceil
from typing import Final

import msgspec

from chatnest.events import Usage
from chatnest.turn import Turn

__all__ = ["HiddenThinking"]

_TOKENS_PER_SECOND: Final = 1_000
_TOKENS_IN_EIGHT: Final = 3
"""Tokens in 8 characters of encrypted thinking: 6 bytes."""


class HiddenThinking(msgspec.Struct, frozen=True):
    """Bounds the thinking of models that hide it. ``models`` are those whose providers did not know
    it, until a figure had thinking in it.
    """

    models: set[str] = msgspec.field(default_factory=set)

    def learn(self, turn: Turn, usage: Usage) -> None:
        """Note the model of a turn whose figure has more thinking than was shown."""
        if usage.reasoning_tokens > len(turn.answer.thinking.encode("utf-8", "replace")) // 2:
            self.models.add(turn.model)

    def tokens(self, turn: Turn) -> int:
        """The maximum tokens that a turn without a figure may have thought, with those that were
        shown. 0 for a model that shows its thinking.
        """
        answer = turn.answer
        sealed = (answer.sealed or 0) * _TOKENS_IN_EIGHT // 8
        if answer.sealed is not None and not answer.may_think:
            return sealed
        by_time = min(self._most(turn), ceil(_seconds(turn) * _TOKENS_PER_SECOND))
        return max(sealed, by_time)

    def _most(self, turn: Turn) -> int:
        call = turn.call
        if call is None:
            return 0
        if call.hidden_tokens is not None:
            return call.hidden_tokens
        thinks = turn.model in self.models and call.request.effort != "none"
        return call.request.max_output_tokens if thinks else 0


def _seconds(turn: Turn) -> float:
    """The seconds for which the model may have thought: until its text, if that is known."""
    answer = turn.answer
    if not answer.may_think and not answer.thinking:
        return answer.waited
    return turn.attempts[-1].seconds if turn.attempts else 0.0
