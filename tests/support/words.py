"""Words: a token counter whose counts a reader of a test can check."""

from collections.abc import Sequence

from chatnest.conversation import Message

__all__ = ["Words"]


class Words:
    """A token for each word and one for each message, two for the reply. Keeps what it counted."""

    reply_tokens = 2

    def __init__(self) -> None:
        self.counted: list[str] = []

    async def warm(self) -> None:
        """Nothing to load."""

    def bounds(self, text: str) -> tuple[int, int]:
        return -(-len(text) // 10), len(text)

    async def count(self, text: str) -> int:
        self.counted.append(text)
        return len(text.split())

    async def count_messages(self, messages: Sequence[Message]) -> list[int]:
        return [1 + await self.count(message.text) for message in messages]
