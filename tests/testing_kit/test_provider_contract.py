"""The contracts of providers find faults: each of their tests fails a provider with one fault."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar

import httpx2
import msgspec
import pytest

from chatnest import errors
from chatnest.events import Delta, Finish, ProviderEvent, Usage
from chatnest.testing import AnswerContract, ProviderContract
from chatnest.turn import ModelCall
from tests.providers.test_contract import SHOWN

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

Batches = AsyncIterator[Sequence[ProviderEvent]]


Bakery: Any = SHOWN["Bakery"]


class Sound(Bakery):  # type: ignore[misc]  # the page's own
    """The provider of the page, with a place for each fault."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
        async with super().open(self.asked(call)) as events:
            self.opened(call)
            yield self.batches(events)

    def asked(self, call: ModelCall) -> ModelCall:
        return call

    def opened(self, call: ModelCall) -> None:
        """After the head of the response."""

    async def batches(self, events: Batches) -> Batches:
        async for batch in events:
            yield [changed for event in batch for changed in self.changed(event)]

    def changed(self, event: ProviderEvent) -> list[ProviderEvent]:
        return [event]


def changing(change: Callable[[Any], list[ProviderEvent]]) -> type[Sound]:
    return type("Changing", (Sound,), {"changed": lambda self, event: change(event)})


def failing(
    as_: Callable[[Exception], Exception], *kinds: type[errors.UpstreamError]
) -> type[Sound]:
    """Failures of these kinds become others."""

    class Failing(Sound):
        @asynccontextmanager
        async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
            try:
                async with super().open(call) as events:
                    yield events
            except kinds as exc:
                raise as_(exc) from None

        async def batches(self, events: Batches) -> Batches:
            try:
                async for batch in super().batches(events):
                    yield batch
            except kinds as exc:
                raise as_(exc) from None

    return Failing


def swallowing(*kinds: type[errors.UpstreamError]) -> type[Sound]:
    """Failures of these kinds are the end of a whole answer."""

    class Swallowing(Sound):
        async def batches(self, events: Batches) -> Batches:
            try:
                async for batch in super().batches(events):
                    yield batch
            except kinds:
                pass
            yield [Finish("stop"), Usage(9, 4)]

    return Swallowing


class Nameless(Sound):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.model = ""


class Uncounted(Sound):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        counter = type("Zero", (), {"count": lambda self, text: _zero()})
        self.counter = counter()


async def _zero() -> int:
    return 0


class TextLast(Sound):
    """Its reason to stop comes before the text."""

    async def batches(self, events: Batches) -> Batches:
        rest = [event async for batch in events for event in batch]
        yield sorted(rest, key=lambda event: not isinstance(event, Finish))


class Unsent(Sound):
    def opened(self, call: ModelCall) -> None:
        call.sent = False


class SentLate(Sound):
    """Sets ``sent`` with the head of the response only."""

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
        own = msgspec.structs.replace(call)
        async with super().open(own) as events:
            call.sent = True
            yield events
        call.unread = own.unread


class SentEarly(Sound):
    def asked(self, call: ModelCall) -> ModelCall:
        call.sent = True
        return call


class Jealous(Sound):
    """An answer that is left early is in the way of the next."""

    is_busy = False

    async def batches(self, events: Batches) -> Batches:
        if self.is_busy:
            raise errors.UpstreamOverloaded
        self.is_busy = True
        async for batch in super().batches(events):
            yield batch
        self.is_busy = False


class Closed(Sound):
    is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True
        await super().aclose()

    def opened(self, call: ModelCall) -> None:
        if self.is_closed:
            raise errors.UpstreamUnavailable


class ClosedTwice(Sound):
    is_closed = False

    async def aclose(self) -> None:
        if self.is_closed:
            raise RuntimeError("it is closed")
        self.is_closed = True
        await super().aclose()


class Splitting(Sound):
    """Takes each read for whole events."""

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
        async with (
            httpx2.AsyncClient(trust_env=False) as client,
            client.stream("POST", self.url, content=b"{}") as response,
        ):
            call.sent = True
            yield self._read(response)

    async def _read(self, response: httpx2.Response) -> Batches:
        async for data in response.aiter_raw():
            for event in data.strip().split(b"\n\n"):
                yield SHOWN["events_of"](event.removeprefix(b"data: "))


class Forgetful(Sound):
    """Its model gets another limit, or another message."""

    lost: ClassVar[dict[str, Any]]

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
        request, call.request = call.request, msgspec.structs.replace(call.request, **self.lost)
        async with super().open(call) as events:
            yield events
        call.request = request


class Boundless(Forgetful):
    lost: ClassVar[dict[str, Any]] = {"max_output_tokens": 7}


class Mute(Forgetful):
    lost: ClassVar[dict[str, Any]] = {"messages": ()}


class Late(Sound):
    """A piece waits for the next."""

    async def batches(self, events: Batches) -> Batches:
        held: list[ProviderEvent] = []
        async for batch in events:
            for event in batch:
                if held:
                    yield held
                held = [event]
        yield held


class Clinging(Sound):
    """A cancelled answer keeps its connection until the provider is closed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._kept = AsyncExitStack()

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
        yield await self._kept.enter_async_context(super().open(call))

    async def aclose(self) -> None:
        kept, self._kept = self._kept, AsyncExitStack()
        await kept.aclose()
        await super().aclose()


class Wasteful(Sound):
    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
        async with super().open(call) as events:
            yield events
        call.unread = None


class Open(Sound):
    """Its ``aclose`` does nothing. The test closes it in the end."""

    async def aclose(self) -> None:
        OPEN.append(super().aclose)


OPEN: list[Callable[[], Any]] = []


class Following(Sound):
    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
        try:
            async with super().open(call) as events:
                yield events
        except errors.UpstreamRejected:
            if call.status < 400:
                async with super().open(call) as events:
                    yield events
            raise


class Stubborn(Sound):
    """Asks again by itself."""

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
        async with AsyncExitStack() as stack:
            try:
                events = await stack.enter_async_context(super().open(call))
            except errors.UpstreamServerError:
                events = await stack.enter_async_context(super().open(call))
            yield events


class Quoting(Sound):
    """Its errors repeat the upstream's text."""

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
        async with self._connections.open(b"{}", call, SHOWN["events_of"]) as response:
            if response.status != 200:
                error = SHOWN["refusal"](response.status)
                error.args = ((await response.document()).decode(),)
                raise error
            yield response.events


class Mixing(Sound):
    """All of its answers at a time are read from the latest one."""

    asking = 0

    async def batches(self, events: Batches) -> Batches:
        async for batch in super().batches(events):
            yield [event for event in batch for _ in range(self.asking)]

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[Batches]:
        self.asking += 1
        try:
            async with super().open(call) as events:
                yield events
        finally:
            self.asking -= 1


def without(kind: type) -> type[Sound]:
    return changing(lambda event: [] if isinstance(event, kind) else [event])


def twice(kind: type) -> type[Sound]:
    return changing(lambda event: [event] * (2 if type(event) is kind else 1))


def stripped(event: ProviderEvent) -> list[ProviderEvent]:
    return [Delta(event.text.strip())] if isinstance(event, Delta) else [event]


def overbilled(event: ProviderEvent) -> list[ProviderEvent]:
    return [Usage(event.input_tokens, 5)] if isinstance(event, Usage) else [event]


FAULTS: dict[str, list[type[Sound]]] = {
    "test_it_has_a_name_and_counts_tokens": [Nameless, Uncounted],
    "test_an_answer_is_text_then_one_finish_and_its_usage": [
        without(Delta),
        without(Finish),
        without(Usage),
        twice(Finish),
        changing(lambda event: [event, Delta("")]),
        TextLast,
    ],
    "test_a_call_that_was_answered_was_sent": [Unsent],
    "test_an_answer_may_be_left_at_its_first_piece": [Jealous],
    "test_it_can_be_asked_again_after_aclose": [Closed, ClosedTwice],
    "test_the_text_arrives_unchanged": [changing(stripped)],
    "test_bytes_that_are_split_anywhere_make_the_same_text": [Splitting],
    "test_the_usage_is_the_upstreams": [changing(overbilled), without(Usage)],
    "test_the_request_has_the_message_and_the_limit_of_the_output": [Boundless, Mute],
    "test_a_piece_does_not_wait_for_the_next": [Late],
    "test_a_cancelled_answer_closes_its_connection": [Clinging],
    "test_what_arrived_before_a_cancellation_is_in_unread": [Wasteful],
    "test_aclose_closes_the_connections": [Open],
    "test_a_request_counts_as_sent_before_its_answer_begins": [SentLate],
    "test_a_request_that_reached_nobody_was_not_sent": [
        SentEarly,
        failing(lambda _: errors.UpstreamInterrupted(), errors.UpstreamUnavailable),
    ],
    "test_each_refusal_is_its_error": [
        failing(lambda _: errors.UpstreamRejected(), errors.UpstreamAccount),
        failing(lambda _: errors.UpstreamServerError(), errors.UpstreamOverloaded),
        failing(lambda _: RuntimeError(), errors.UpstreamError),
        Quoting,
        Stubborn,
    ],
    "test_a_redirect_is_not_followed": [Following],
    "test_an_answer_that_breaks_off_is_interrupted": [
        swallowing(errors.UpstreamInterrupted),
        failing(lambda _: errors.UpstreamServerError(), errors.UpstreamInterrupted),
        Unsent,
    ],
    "test_no_answer_and_no_http_are_errors": [
        failing(lambda _: errors.UpstreamInterrupted(), errors.UpstreamUnavailable),
        failing(lambda _: OSError(), errors.UpstreamUnavailable),
    ],
    "test_an_unreadable_answer_is_a_bad_response": [
        swallowing(errors.UpstreamBadResponse),
        failing(lambda _: ValueError(), errors.UpstreamBadResponse),
    ],
    "test_one_event_without_an_end_is_a_bad_response": [
        swallowing(errors.UpstreamBadResponse),
        failing(lambda _: errors.UpstreamInterrupted(), errors.UpstreamBadResponse),
    ],
    "test_answers_at_the_same_time_do_not_mix": [Mixing],
}
CASES = [(name, fault) for name, faults in FAULTS.items() for fault in faults]
"""Names of tests, and a provider that each must fail."""


async def passes(name: str, provider: type[Sound]) -> bool:
    made = {"provider": lambda self, url: provider(url)}
    contract = type("Contract", (SHOWN["TestBakery"],), made)()
    try:
        await getattr(contract, name)()
    except Exception:  # noqa: BLE001  # an assertion, or the fault itself
        return False
    finally:
        while OPEN:
            await OPEN.pop()()
    return True


@pytest.mark.parametrize(("name", "fault"), CASES)
async def test_a_provider_with_a_fault_fails(name, fault, monkeypatch):
    for module in ("answer_contract", "provider_contract"):
        monkeypatch.setattr(f"chatnest.testing.{module}.SECONDS", 0.5)
    assert not await passes(name, fault)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_sound_one_passes(name):
    assert await passes(name, Sound)


def test_each_test_of_the_contracts_has_a_fault():
    own, of_all = (
        {name for name in dir(contract) if name.startswith("test_")}
        for contract in (ProviderContract, AnswerContract)
    )
    assert of_all < own
    assert set(FAULTS) == own
