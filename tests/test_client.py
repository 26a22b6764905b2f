"""chatnest.client before a real server: whole answers over connections that break."""

import pytest

from chatnest import MemoryLedger
from chatnest.client import ChatError, ChatNestClient
from chatnest.testing import Answer, FakeUpstream, FaultProxy
from tests.servers.support import uvicorn_thread
from tests.servers.test_uvicorn import chat

pytestmark = pytest.mark.anyio
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def port(upstream: FakeUpstream):
    identify = {"identify": lambda _: "ann"}
    with uvicorn_thread(chat(upstream, ledger=MemoryLedger(), **identify)) as port:
        yield port


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/api/chat"


async def test_an_answer_is_read_piece_by_piece(upstream, port):
    async with ChatNestClient(url(port)) as client, client.ask(HI) as answer:
        pieces = [piece async for piece in answer]
        limits = await client.limits()

    assert len(pieces) > 1
    assert answer.usage is not None
    assert answer.usage["source"] == "provider"
    assert next(each for each in limits["limits"] if each["name"] == "tokens")["used"] > 0


@pytest.mark.loops("asyncio")
async def test_a_connection_that_breaks_is_made_again(upstream, port):
    upstream.default = Answer.stall(20, pieces=("abc ",), repeat=40)
    async with FaultProxy("127.0.0.1", port) as proxy, ChatNestClient(url(proxy.port)) as client:
        pieces = []
        async with client.ask(HI) as answer:
            async for piece in answer:
                pieces.append(piece)
                if len(pieces) in {5, 20}:
                    proxy.reset()
                if len(pieces) == 20:
                    upstream.release()

    assert "".join(pieces) == "abc " * 40
    assert len(upstream.requests) == 1


# On trio, httpx2's connection pool leaves a generator to the garbage collector in these two, of
# which trio warns.


@pytest.mark.loops("asyncio")
async def test_who_leaves_early_ends_it(upstream, port):
    upstream.default = Answer.stall(1)
    async with ChatNestClient(url(port)) as client, client.ask(HI) as answer:
        assert await anext(aiter(answer)) == "Hello"

    await upstream.until(lambda u: u.aborted == 1)


@pytest.mark.loops("asyncio")
async def test_a_cancel_gives_a_receipt(upstream, port):
    upstream.default = Answer.stall(1)
    async with ChatNestClient(url(port)) as client, client.ask(HI) as answer:
        await anext(aiter(answer))
        receipt = await answer.cancel()
        with pytest.raises(ChatError) as ended:
            await answer.text()

    assert receipt is not None
    assert (receipt.was_running, receipt.outcome) == (True, "cancelled")
    assert receipt.charged > 0
    assert ended.value.code == "cancelled"


async def test_one_key_is_one_answer(upstream, port):
    texts = []
    async with ChatNestClient(url(port)) as client:
        for _ in range(2):
            async with client.ask(HI, key="same") as answer:
                texts.append(await answer.text())

    assert texts[0] == texts[1]
    assert len(upstream.requests) == 1


async def test_a_refusal_is_raised_with_its_code(upstream, port):
    async with ChatNestClient(url(port)) as client:
        with pytest.raises(ChatError) as refused:
            async with client.ask(HI, profile="none") as answer:
                await answer.text()
        with pytest.raises(ChatError) as unknown:
            await client.cancel("0" * 32)

    assert (refused.value.status, refused.value.code) == (400, "invalid_request")
    assert (unknown.value.status, unknown.value.code) == (404, "not_found")


async def test_a_server_that_is_not_there():
    async with ChatNestClient("http://127.0.0.1:9/c", patience=0.2) as client:
        with pytest.raises(ChatError) as caught:
            async with client.ask(HI) as answer:
                await answer.text()
        with pytest.raises(ChatError):
            await client.limits()

    assert (caught.value.status, caught.value.code) == (0, "cut_off")
