"""A client that leaves, in each phase of a request: the upstream is closed, all is settled once."""

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from chatnest import BALANCED, Bounds, ChatNestApp, OpenAIProvider
from chatnest.testing import Answer, Conversation
from tests.streams.support import (
    CLIENT,
    DONE,
    PATIENCE,
    PING,
    START,
    AwayBooks,
    Books,
    ask,
    input_tokens,
    policies,
    serving,
    tasks,
    token,
)
from tests.support.soak import amount

pytestmark = pytest.mark.anyio


class Gate:
    """Where a phase is held, so that the client can leave in it."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.left = anyio.Event()
        self.open = anyio.Event()

    async def wait(self) -> None:
        self.entered.set()
        try:
            await self.open.wait()
        finally:
            self.left.set()

    async def reached(self) -> None:
        with anyio.fail_after(PATIENCE):
            await self.entered.wait()


@asynccontextmanager
async def leaving(app, **options):
    """A conversation whose app must end by itself, with nothing sent to nobody and no task left."""
    before = tasks()
    async with Conversation(app, **({"json": ask()} | options)) as c:
        yield c
        c.disconnect()
        await c.finished()
        assert c.late == []
    await no_tasks_but(before)


async def no_tasks_but(before):
    """Wait until what belongs to the transport has ended too; it needs a moment, not a time."""
    with anyio.fail_after(PATIENCE):
        while tasks() - before:
            await anyio.lowlevel.checkpoint()


async def settled_as(books, tokens, outcome="client_gone"):
    assert (books.charge.tokens, books.charge.outcome) == (tokens, outcome)
    assert await books.used() == tokens
    assert await books.held() == (0, 0)


async def test_during_the_body(upstream):
    books = Books()
    async with serving(upstream, ledger=books) as app:
        headers = {"content-type": "application/json"}
        async with leaving(app, send_body=False, headers=headers) as c:
            c.send_body(b'{"messages":', more=True)
            await anyio.wait_all_tasks_blocked()
        assert c.messages == []
    assert not books.reservations
    assert not upstream.connections


async def test_during_a_slow_identification(upstream):
    gate, books = Gate(), Books()

    async def identify(scope):
        await gate.wait()

    async with serving(upstream, ledger=books, identify=identify) as app:
        async with leaving(app) as c:
            await gate.reached()
        assert gate.left.is_set()
        assert c.messages == []
    assert not books.reservations
    assert not upstream.connections


async def test_during_a_slow_policy(upstream):
    gate, books = Gate(), Books()

    class Slow:
        async def prepare(self, turn):
            await gate.wait()

    async with serving(upstream, ledger=books, policies=[Slow(), *policies()]) as app:
        async with leaving(app) as c:
            await gate.reached()
        assert gate.left.is_set()
        assert c.messages == []
    assert not books.reservations
    assert not upstream.connections


class SlowBooks(Books):
    """Books whose ``operation`` is held up, before or after it is carried out."""

    def __init__(self, operation: str, *, before: bool) -> None:
        super().__init__()
        self.gate = Gate()
        self._operation = operation
        self._before = before

    async def reserve(self, reservation):
        return await self._slowly("reserve", super().reserve, reservation)

    async def settle(self, hold, charge):
        return await self._slowly("settle", super().settle, hold, charge)

    async def _slowly(self, name, operation, *values):
        slow = name == self._operation
        if slow and self._before:
            await self.gate.wait()
        answer = await operation(*values)
        if slow and not self._before:
            await self.gate.wait()
        return answer


@pytest.mark.parametrize("before", [True, False])
async def test_during_the_reservation(upstream, before):
    """Nobody knows whether it was carried out, so that it is undone."""
    books = SlowBooks("reserve", before=before)
    async with serving(upstream, ledger=books) as app:
        async with leaving(app) as c:
            await books.gate.reached()
        assert c.messages == []
    assert len(books.releases) == 1
    assert not books.charges
    assert (await books.used(), await books.held()) == (0, (0, 0))
    assert not upstream.connections


@pytest.mark.parametrize("before", [True, False])
async def test_a_reservation_whose_answer_is_lost_is_refused_and_undone(upstream, before):
    books = SlowBooks("reserve", before=before)
    async with serving(upstream, ledger=books, bounds=Bounds(ledger_seconds=0.05)) as app:
        async with Conversation(app, json=ask()) as c:
            await c.read_all()
        assert (c.status, c.problem()["code"]) == (503, "ledger_unavailable")
        assert c.headers["retry-after"] == "5"
    # What waited for the ledger was carried out when the application was closed.
    assert len(books.releases) == 1
    assert await books.held() == (0, 0)


async def test_while_connecting(upstream):
    """A listener whose queue is full lets a connection wait for ever; nothing has been sent."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        books = Books()
        provider = OpenAIProvider(base_url=f"http://127.0.0.1:{address[1]}/v1")
        async with serving(upstream, provider=provider, ledger=books) as app:
            async with leaving(app) as c:
                with anyio.fail_after(PATIENCE):
                    while not books.reservations:
                        await anyio.lowlevel.checkpoint()
                await anyio.wait_all_tasks_blocked()
            assert c.messages == []
        for filler in fillers:
            filler.close()
    await settled_as(books, 0)


async def test_while_waiting_for_headers(upstream):
    upstream.script(Answer.silence())
    books = Books()
    async with serving(upstream, ledger=books) as app:
        async with leaving(app) as c:
            await upstream.until(lambda u: u.requests)
        assert c.messages == []
        await upstream.until(lambda u: u.aborted == 1 and not u.open_sockets, timeout=PATIENCE)
        await settled_as(books, await input_tokens(app) + 8)


async def test_while_waiting_for_headers_of_a_stream_that_started_early(upstream):
    upstream.script(Answer.silence())
    books = Books()
    bounds = Bounds(early_start_seconds=0.02)
    async with serving(upstream, ledger=books, bounds=bounds) as app:
        async with leaving(app) as c:
            await c.until(lambda: c.received == START + PING)
            await upstream.until(lambda u: u.requests)
        await upstream.until(lambda u: u.aborted == 1, timeout=PATIENCE)
        await settled_as(books, await input_tokens(app) + 8)


async def test_before_the_first_token(upstream):
    upstream.script(Answer.stall(0))
    books = Books()
    bounds = Bounds(early_start_seconds=0.01)
    async with serving(upstream, ledger=books, bounds=bounds) as app:
        async with leaving(app) as c:
            await c.until(lambda: c.received == START + PING)
            await upstream.until(lambda u: u.requests)
        await upstream.until(lambda u: u.aborted == 1 and not u.open_sockets, timeout=PATIENCE)
        await settled_as(books, await input_tokens(app) + 8)


async def test_between_tokens(upstream):
    upstream.script(Answer.stall(2))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        async with leaving(app) as c:
            await c.until(lambda: c.received.endswith(token(" world")))
        await upstream.until(lambda u: u.aborted == 1 and not u.open_sockets, timeout=PATIENCE)
        counted = await app.provider.counter.count("Hello world")
        await settled_as(books, await input_tokens(app) + counted + 8)


@pytest.mark.parametrize("repeat", [True, False])
async def test_whatever_receive_does_after_the_disconnect(upstream, repeat):
    upstream.script(Answer.stall(1))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        async with leaving(app, repeat_disconnect=repeat) as c:
            await c.until(lambda: c.received.endswith(token("Hello")))
        await upstream.until(lambda u: u.aborted == 1, timeout=PATIENCE)
    assert len(books.charges) == 1


async def test_during_a_blocked_send(upstream):
    upstream.script(Answer.endless(pace=0.02))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        before = tasks()
        async with Conversation(app, json=ask()) as c:
            await c.until(lambda: c.received.endswith(token(" a")))
            c.stall()
            await c.blocked()
            c.disconnect()
            await c.finished()
            # The one that was on its way is the server's to drop; no other follows.
            assert len(c.late) <= 1
        await upstream.until(lambda u: u.aborted == 1 and not u.open_sockets, timeout=PATIENCE)
        await no_tasks_but(before)
    assert books.charge.outcome == "client_gone"
    assert await books.held() == (0, 0)


async def test_during_a_ping(upstream):
    upstream.script(Answer.stall(1))
    books = Books()
    async with serving(upstream, ledger=books, ping_interval=0.02) as app:
        before = tasks()
        async with Conversation(app, json=ask()) as c:
            await c.until(lambda: token("Hello") in c.received and c.received.endswith(PING))
            c.stall()
            await c.blocked()
            c.disconnect()
            await c.finished()
            assert [message["body"] for message in c.late] in ([], [PING])
        await upstream.until(lambda u: u.aborted == 1, timeout=PATIENCE)
        await no_tasks_but(before)
        await settled_as(books, await input_tokens(app) + 1 + 8)


async def test_during_the_sleep_before_a_retry(upstream):
    """The model has refused, so that there is nothing to pay."""
    upstream.script(Answer.error(500))
    books, asked = Books(), anyio.Event()

    class Patient:
        def classify(self, turn, failure, attempt):
            asked.set()
            return 20.0

    async with serving(upstream, ledger=books, policies=[Patient(), *policies()]) as app:
        async with leaving(app) as c:
            with anyio.fail_after(PATIENCE):
                await asked.wait()
            await anyio.wait_all_tasks_blocked()
        assert c.messages == []
    assert len(upstream.requests) == 1
    await settled_as(books, 0)


async def test_during_the_settlement(upstream):
    books = SlowBooks("settle", before=True)
    async with serving(upstream, ledger=books) as app:
        async with leaving(app) as c:
            await books.gate.reached()
            await c.until(lambda: c.received.endswith(token("!")))
            c.disconnect()
            await anyio.wait_all_tasks_blocked()
            books.gate.open.set()
        assert not c.received.endswith(DONE)
    await settled_as(books, 12, "done")


async def test_after_done(upstream):
    books = Books()
    async with serving(upstream, ledger=books) as app, leaving(app) as c:
        assert (await c.read_all()).endswith(DONE)
    await settled_as(books, 12, "done")


async def test_a_send_that_fails_is_a_client_that_has_gone(upstream):
    upstream.script(Answer.stall(1))
    books = Books()
    async with serving(upstream, ledger=books, ping_interval=0.02) as app:
        # There is nobody to tell.
        with pytest.raises(AssertionError, match="before its last"):  # noqa: PT012 - the whole of it
            async with Conversation(app, json=ask()) as c:
                await c.until(lambda: token("Hello") in c.received)
                c.fail_send(OSError("broken pipe"))
                await c.finished()
        await upstream.until(lambda u: u.aborted == 1, timeout=PATIENCE)
    assert books.charge.outcome == "client_gone"


async def test_a_receive_that_fails_is_a_client_that_has_gone(upstream):
    upstream.script(Answer.stall(1))
    books = Books()
    sent: list[int] = []
    body: Any = {"type": "http.request", "body": b'{"messages":[{"role":"user","content":"Hi"}]}'}

    async def receive():
        if not sent:
            sent.append(1)
            return body
        await upstream.until(lambda u: u.requests and u.last.pieces_sent)
        raise RuntimeError("no such connection")

    async def send(message):
        pass

    async with serving(upstream, ledger=books) as app:
        async with Conversation(app) as c:
            scope = {**c.scope, "headers": [(b"content-type", b"application/json")]}
        with anyio.fail_after(PATIENCE):
            await app(scope, receive, send)
        await upstream.until(lambda u: u.aborted == 1, timeout=PATIENCE)
    assert books.charge.outcome == "client_gone"


@pytest.mark.soak
async def test_many_that_leave_anywhere_leave_nothing_behind(upstream):
    upstream.default = Answer.tokens(20, pace=0.001)
    books = Books()
    options: dict[str, Any] = {"ledger": books, "policies": []}
    async with serving(upstream, **options) as app:
        before = tasks()

        async def one(number):
            async with Conversation(app, json=ask(), timeout=PATIENCE) as c:
                for _ in range(number % 60):
                    await anyio.sleep(0.0005)
                c.disconnect()
                await c.finished()
            # The head, the first frames: what was under way when nobody had noticed yet.
            assert len(c.late) <= 2

        async with anyio.create_task_group() as group:
            for number in range(amount(60, 200)):
                group.start_soon(one, number)
        await upstream.until(lambda u: u.served + u.aborted == len(u.requests), timeout=PATIENCE)
        await no_tasks_but(before)
        assert len(books.charges) + len(books.releases) == len(books.reservations)
        assert await books.held() == (0, 0)
    await upstream.until(lambda u: not u.open_sockets, timeout=PATIENCE)


def natively(
    app: ChatNestApp, arrived: asyncio.Event, received: bytearray | None = None
) -> asyncio.Task[None]:
    """A request in a task of asyncio's own, as servers make it; ``arrived`` is when it has text."""
    received = bytearray() if received is None else received

    async def receive() -> Any:
        if not received:
            body = b'{"messages":[{"role":"user","content":"Hi"}]}'
            received.extend(b" ")
            return {"type": "http.request", "body": body}
        await asyncio.Event().wait()
        return None

    async def send(message: Any) -> None:
        received.extend(message.get("body", b""))
        if received.endswith(token(" world")):
            arrived.set()

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/chat",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
    }
    return asyncio.ensure_future(app(scope, receive, send))


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("times", [1, 2])
async def test_a_native_cancellation_settles_all_the_same(upstream, times, anyio_backend):
    """As uvicorn does at the end of its patience. Once, and the client is told why."""
    upstream.script(Answer.stall(2))
    books = SlowBooks("settle", before=True)
    async with serving(upstream, ledger=books) as app:
        before = tasks()
        arrived = asyncio.Event()
        received = bytearray()
        task = natively(app, arrived, received)
        async with asyncio.timeout(PATIENCE):
            await arrived.wait()
            for _ in range(times):
                task.cancel()
                await books.gate.entered.wait()
            books.gate.open.set()
            with pytest.raises(asyncio.CancelledError):
                await task
        await upstream.until(lambda u: u.aborted == 1, timeout=PATIENCE)
        await no_tasks_but(before)
        assert books.charge.outcome == "server_shutdown"
        assert books.charge.tokens == await input_tokens(app) + 2 + 8
        assert (b"event: error" in received) == (times == 1)
        assert (b'"code":"server_shutdown"' in received) == (times == 1)
    assert await books.held() == (0, 0)


class SlowAfterTheFirst(Books):
    async def settle(self, hold, charge):
        if self.charges:
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
        return await super().settle(hold, charge)


@pytest.mark.loops("asyncio")
async def test_the_first_that_a_server_has_cancelled_goes_when_all_are_settled(
    upstream, anyio_backend
):
    """Daphne waits for no more than one."""
    upstream.script(*[Answer.stall(2)] * 3)
    books = SlowAfterTheFirst()
    async with serving(upstream, ledger=books) as app:
        arrived = [asyncio.Event() for _ in range(3)]
        requests = [natively(app, each) for each in arrived]
        async with asyncio.timeout(PATIENCE):
            for each in arrived:
                await each.wait()
            for request in requests:
                request.cancel()
            await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        assert len(books.charges) == 3
        await asyncio.wait(requests)


@pytest.mark.loops("asyncio")
async def test_a_request_that_is_cancelled_alone_waits_for_nobody(upstream, anyio_backend):
    upstream.script(*[Answer.stall(2)] * 2)
    async with serving(upstream) as app:
        arrived = [asyncio.Event() for _ in range(2)]
        one, other = (natively(app, each) for each in arrived)
        async with asyncio.timeout(PATIENCE):
            for each in arrived:
                await each.wait()
            one.cancel()
            await asyncio.wait([one])
            assert not other.done()
            other.cancel()
            await asyncio.wait([other])


async def test_a_ledger_that_is_away_at_the_end_is_told_later(upstream):
    books = AwayBooks()
    upstream.script(Answer.stall(1))
    async with serving(upstream, ledger=books) as app:
        async with leaving(app) as c:
            await c.until(lambda: c.received.endswith(token("Hello")))
        assert not books.charges
        assert (await books.held())[1] == 1
        books.away = False
        async with Conversation(app, json=ask()) as c:
            assert (await c.read_all()).endswith(DONE)
    assert [charge.outcome for charge in books.charges] == ["client_gone", "done"]
    assert await books.held() == (0, 0)


async def test_the_hold_is_the_worst_case_and_the_settlement_its_owners(upstream):
    upstream.script(Answer.stall(1))
    books = Books()
    async with serving(upstream, ledger=books) as app, leaving(app) as c:
        await c.until(lambda: c.received.endswith(token("Hello")))
        held = await input_tokens(app) + BALANCED.max_output_tokens
        assert await books.held() == (held, 1)
    charge = books.charge
    assert (charge.principal, charge.profile, charge.model) == (CLIENT, "balanced", "gpt-4o-mini")
    assert charge.input_tokens + charge.output_tokens == charge.tokens
