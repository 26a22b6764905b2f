"""LastAnswer: the transport of the last answer on a connection."""

from collections.abc import Callable
from typing import Any

__all__ = ["LastAnswer"]


class LastAnswer:
    """Calls ``close`` in place of the transport's own. Everything else passes through."""

    __slots__ = ("_transport", "close")

    def __init__(self, transport: Any, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close: Callable[[], None] = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
