"""TokenCounter: counts tokens as a model does. The seam. No I/O."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from chatnest.conversation import Message

__all__ = ["TokenCounter"]


class TokenCounter(Protocol):
    """Counts tokens as the model does; chatnest.tokens.tokenizer.Tokenizer is one."""

    @property
    def reply_tokens(self) -> int:
        """Tokens that the chat format adds once to every conversation."""
        ...

    def warm(self) -> Awaitable[None]:
        """Load what counting needs."""
        ...

    def bounds(self, text: str) -> tuple[int, int]:
        """The minimum and maximum tokens that the text can have, without counting."""
        ...

    def count(self, text: str) -> Awaitable[int]:
        """Tokens of a text."""
        ...

    def count_messages(self, messages: Sequence[Message]) -> Awaitable[list[int]]:
        """Tokens of each message, with those that the chat format adds to a message."""
        ...
