"""HiddenThinking: tokens of thinking that a provider bills but does not show. No I/O.

The provider's figure contains them. If an answer breaks off before the figure arrives, the thinking
may have cost any number of tokens up to the limit of the call. Two facts bound that number further:

- Encrypted thinking is not shorter than the thinking. Base64 has 4 characters for 3 bytes. A token
  has about 4 bytes; we assume 2, for thinking in code or in languages other than English. Codex
  divides by 4, and subtracts 650 bytes for the envelope (we subtract 128 characters). Anthropic
  documents that a signature contains the whole thinking.
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
    """Bounds the thinking of models that hide it. ``models`` has the models that were only
    recognized by a figure with hidden thinking.
    """

    models: set[str] = msgspec.field(default_factory=set)

    def learn(self, turn: Turn, usage: Usage) -> None:
        """Note the model of a turn if its figure has more thinking than was shown."""
        if usage.reasoning_tokens > len(turn.answer.thinking.encode("utf-8", "replace")) // 2:
            self.models.add(turn.model)

    def tokens(self, turn: Turn) -> int:
        """The maximum tokens of thinking in a turn without a figure, including those that were
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
    """The seconds for which the model may have thought: until its text began, if that is known."""
    answer = turn.answer
    if not answer.may_think and not answer.thinking:
        return answer.waited
    return turn.attempts[-1].seconds if turn.attempts else 0.0
