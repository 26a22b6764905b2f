"""Provider: the source of answers. The seam. No I/O."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar, runtime_checkable

from chatnest.events import ProviderEvent, Reasoning
from chatnest.tokens import TokenCounter
from chatnest.turn import ModelCall

__all__ = ["OfferingStream", "Provider", "ProviderStream", "Taker"]

_T_contra = TypeVar("_T_contra", contravariant=True)

ProviderStream = AsyncIterator[Sequence[ProviderEvent]]
"""Each item has the events that arrived together, in the order of arrival.

A stream may be an OfferingStream as well. A wrapper that changes events must not have ``offer``.
"""


class Taker(Protocol[_T_contra]):
    """A consumer that may take an item directly, instead of waiting for the iterator."""

    def take(self, offered: _T_contra, /) -> bool:
        """Take the item and return True, or change nothing and return False. Raises nothing."""
        ...


@runtime_checkable
class OfferingStream(Protocol):
    """A ProviderStream with a short cut for a piece of text or of thinking that arrives alone.

    After ``offer``, the stream may call ``taker.take`` while the iterator waits, with a text or a
    Reasoning. The iterator does not yield a piece that was taken.

    Under ``chatnest serve``, a piece from OpenAIProvider is parsed, counted and sent within one
    callback of the event loop, and no task wakes up::

        providers.http.http1:Http1Connection.data_received     bytes of the model arrive
        |   providers.http.responses:ResponseParser            llhttp appends the piece
        +-> providers.openai_chat.decode:ChunkDecoder.take     one chunk and nothing else
            |   providers.sse:EventSplitter.alone              its data
            +-> streams.generation:Generation.take             within the limits of the answer
                +-> streams.response:Response.put_now          while nothing else is being sent
                |   +-> server.flow:Flow.piece                 calls transport.write
                |   answer:Answer.add_pieces                   counted, since it was sent

    Each step declines by returning False and changing nothing. The iterator then yields the piece,
    and the writer's task sends it. A piece of thinking goes the same way, up to
    ``answer:Answer.add_thoughts``. Between the two, ``answering`` calls ``offer``, and
    ``providers.http.answer_stream:AnswerStream.offer`` leads from the stream to the connection.
    """

    def offer(self, taker: Taker[str | Reasoning], /) -> None:
        """Offer pieces of text and of thinking to ``taker`` from now on."""

    def __aiter__(self) -> AsyncIterator[Sequence[ProviderEvent]]: ...


class Provider(Protocol):
    """A model that answers a conversation."""

    @property
    def model(self) -> str:
        """The name of the model, for records."""
        ...

    @property
    def counter(self) -> TokenCounter:
        """The token counter for this model. Its counts may be estimates."""
        ...

    def open(self, call: ModelCall) -> AbstractAsyncContextManager[ProviderStream]:
        """Send the call to the model.

        Entering sets ``call.sent`` as soon as the request may have reached the model, and raises an
        UpstreamError unless the model accepts it. The iterator yields the events that arrived
        together, in the order of arrival; an empty sequence is a sign of life. It ends after a
        Finish, and raises an UpstreamError if the answer breaks off. An answer that ends without a
        Finish counts as broken off. Leaving closes the connection at once, even during an answer.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections. A later ``open`` makes new ones."""
        ...
