"""What a call is told of its requests: with a transport that answers by a script."""

from collections.abc import Callable
from typing import Any

import pytest

from chatnest import AnthropicProvider
from chatnest.conversation import Message
from chatnest.errors import UpstreamError, UpstreamRejected, UpstreamUnavailable
from chatnest.events import Delta
from chatnest.providers.http.transport import Response, Sent, TransportError
from chatnest.requests import ModelRequest, Tool, ToolChoice
from chatnest.testing.answer_contract import answer_of
from chatnest.turn import ModelCall
from tests.providers.anthropic_messages.events import SAID
from tests.providers.anthropic_messages.test_refusals import document

pytestmark = pytest.mark.anyio


class Scripted:
    """A response whose body has arrived."""

    headers: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, body: bytes, status: int = 400) -> None:
        self.status = status
        self.body = body
        self.is_closed = False

    async def read(self) -> bytes:
        return self.unread()

    def unread(self) -> bytes:
        body, self.body = self.body, b""
        return body

    def offer(self, taker: object) -> None:
        pass

    def release(self) -> bool:
        return False

    async def aclose(self) -> None:
        self.is_closed = True


class Transport:
    """``replies`` to requests in their order; then there is no server any more. ``late`` responses
    belong to requests that were cancelled.
    """

    def __init__(self, *replies: Scripted, late: Scripted | None = None) -> None:
        self.replies = list(replies)
        self.late = late
        self.sent: list[bool] = []

    async def get(self) -> "Transport":
        return self

    async def post(self, body: bytes, call: Sent, late: Callable[[Response], None]) -> Any:
        self.sent.append(call.sent)
        if self.late is not None:
            late(self.late)
        if not self.replies:
            raise TransportError from OSError()
        call.sent = True
        return self.replies.pop(0)

    async def aclose(self) -> None:
        pass


def refusal(message: str) -> Scripted:
    return Scripted(document("invalid_request_error", message))


NO_TEMPERATURE = "`temperature` is deprecated for this model."
NOT_FORCED = "tool_choice: forced tool use is not supported for this model."


async def failure(transport: Transport) -> tuple[UpstreamError, ModelCall]:
    request = ModelRequest(
        messages=(Message.of("user", "Hi"),),
        max_output_tokens=50,
        temperature=0.5,
        tools=(Tool(name="f"),),
        tool_choice=ToolChoice(mode="required"),
    )
    call = ModelCall(request=request, request_id="r")
    provider = AnthropicProvider(base_url="http://127.0.0.1:9")
    provider._transports = transport  # type: ignore[assignment]
    with pytest.raises(UpstreamError) as caught:
        await answer_of(provider, call)
    return caught.value, call


async def test_a_refused_request_does_not_count_as_sent():
    transport = Transport(refusal(NO_TEMPERATURE))
    error, call = await failure(transport)
    assert isinstance(error, UpstreamUnavailable)
    assert (transport.sent, call.sent) == ([False, False], False)


async def test_a_second_field_is_not_left_out():
    error, _ = await failure(Transport(refusal(NO_TEMPERATURE), refusal(NOT_FORCED)))
    assert isinstance(error, UpstreamRejected)


async def test_responses_that_are_refused_are_closed():
    replies = refusal(NO_TEMPERATURE), refusal("x")
    await failure(Transport(*replies))
    assert [reply.is_closed for reply in replies] == [True, True]


async def test_what_arrived_for_a_request_that_was_cancelled_is_decoded_for_the_charge():
    _, call = await failure(Transport(late=Scripted(SAID, 200)))
    assert call.unread is not None
    events = [event for batch in call.unread for event in batch]
    assert events == [Delta("Hello"), Delta(" world")]


async def test_what_arrived_of_a_refusal_costs_nothing():
    _, call = await failure(Transport(late=Scripted(SAID, 400)))
    assert call.unread is None
