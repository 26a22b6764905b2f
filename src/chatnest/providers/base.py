"""Provider: where answers come from. The seam. No I/O."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from chatnest.events import ProviderEvent
from chatnest.turn import ModelCall, TokenCounter

__all__ = ["Provider", "ProviderStream", "Taker"]

_T_contra = TypeVar("_T_contra", contravariant=True)

ProviderStream = AsyncIterator[Sequence[ProviderEvent]]
"""What arrived together, as one sequence, in the order of arrival.

It may have a method ``offer(taker)``. From then on, a piece of text that arrives alone, while the
next is waited for, may be offered to that Taker first; what it has taken is not given again. Who
wraps a stream to change what comes must not hand ``offer`` through.
"""


class Taker(Protocol[_T_contra]):
    """Who is offered first what somebody else waits for."""

    def take(self, offered: _T_contra, /) -> bool:
        """Whether it was taken. If not, nothing has happened. Raises nothing."""
        ...


class Provider(Protocol):
    """A model that can be asked."""

    @property
    def model(self) -> str:
        """Its name, for the books."""
        ...

    @property
    def counter(self) -> TokenCounter:
        """Counts tokens as it does."""
        ...

    def open(self, call: ModelCall) -> AbstractAsyncContextManager[ProviderStream]:
        """Ask the model.

        Entering raises an UpstreamError unless the model has taken the request, and sets
        ``call.sent`` as soon as the request may have reached it. The iterator gives what arrived
        together as one sequence, in the order of arrival, also an empty one where only a sign of
        life came; it ends after a Finish, and raises an UpstreamError where the answer breaks
        off; without a Finish, it has broken off as well. Leaving closes the connection at once,
        whatever is still under way.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections; a later call of ``open`` makes new ones."""
        ...
