"""FakeUpstream as its clients see it: the openai SDK where it can, sockets for the rest."""

import contextlib
import pkgutil
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import anyio
import openai
import pytest

from chatnest.testing import Answer, FakeUpstream, SeenRequest
from tests.servers.support import said
from tests.testing_kit.raw import (
    ASK,
    connect,
    deltas,
    exchange,
    read_to_end,
    read_until,
    request,
    reset,
    text,
)

pytestmark = pytest.mark.anyio


def sdk(upstream: FakeUpstream) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=upstream.base_url, api_key="x", max_retries=0)


# On trio the SDK leaves generators to the garbage collector after `[DONE]`, and trio says so.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <async_generator:pytest.PytestUnraisableExceptionWarning"
)
async def test_sdk_streams_with_usage():
    async with FakeUpstream(Answer.text("Hello wide world")) as upstream, sdk(upstream) as client:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        await upstream.until(lambda u: u.served == 1)
    assert [c.choices[0].delta.content for c in chunks[:-2]] == ["", "Hello", " wide", " world"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 9 + 3
    assert {(c.object, c.model) for c in chunks} == {("chat.completion.chunk", "gpt-4o-mini")}
    assert len({c.id for c in chunks}) == 1
    seen = upstream.last
    assert (seen.method, seen.path, seen.state) == ("POST", "/v1/chat/completions", "served")
    assert seen.headers["authorization"] == "Bearer x"
    assert seen.json["messages"] == [{"role": "user", "content": "Hi"}]
    assert (seen.pieces_sent, upstream.open_sockets) == (3, 0)


async def test_sdk_whole_answers_models_and_one_connection():
    async with FakeUpstream() as upstream, sdk(upstream) as client:
        for _ in range(3):
            completion = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "Hi"}]
            )
            assert completion.choices[0].message.content == "Hello world!"
            assert completion.usage is not None
            assert completion.usage.completion_tokens == 3
        models = await client.models.list()
        assert [model.id for model in models.data] == ["fake"]
        assert (upstream.connections, len(upstream.requests)) == (1, 4)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer.error(401), openai.AuthenticationError),
        (Answer.rate_limited(), openai.RateLimitError),
        (Answer.insufficient_quota(), openai.RateLimitError),
        (Answer.context_length(), openai.BadRequestError),
        (Answer.error(500, kind="server_error"), openai.InternalServerError),
        (Answer.close(), openai.APIConnectionError),
        (Answer.close_on_accept(), openai.APIConnectionError),
        (Answer.not_http(), openai.APIConnectionError),
    ],
)
async def test_sdk_names_the_errors(answer, error):
    async with FakeUpstream(answer) as upstream, sdk(upstream) as client:
        with pytest.raises(error) as caught:
            await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
        assert upstream.connections == 1
    if isinstance(caught.value, openai.RateLimitError):
        assert caught.value.code in {"rate_limit_exceeded", "insufficient_quota"}


async def test_default_may_be_a_function():
    async with FakeUpstream() as upstream:
        upstream.default = lambda seen: Answer.text(seen.json["model"])
        upstream.script(Answer.text("first"))
        for expected in ("first", "m", "m"):
            _, body = await anyio.to_thread.run_sync(exchange, upstream)
            assert text(body) == expected


async def test_until_is_bounded_and_can_be_cancelled(upstream):
    with pytest.raises(TimeoutError, match=r"not within 0\.01 s: <FakeUpstream connections=0"):
        await upstream.until(lambda u: u.served, timeout=0.01)
    over = threading.Event()
    with anyio.move_on_after(0.01) as scope:
        await upstream.until(lambda u: over.is_set(), timeout=60)
    assert scope.cancelled_caught
    over.set()
    upstream.notify()  # its thread need not wait either


def test_chunks_are_those_of_openai(upstream):
    head, body = exchange(upstream)
    assert b"content-type: text/event-stream" in head
    assert body.endswith(b"data: [DONE]\n\n")
    first, *_, last = deltas(body)
    assert list(first) == [
        "id",
        "object",
        "created",
        "model",
        "service_tier",
        "system_fingerprint",
        "choices",
    ]
    assert first["choices"] == [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "", "refusal": None},
            "logprobs": None,
            "finish_reason": None,
        }
    ]
    assert last["choices"][0]["delta"] == {}
    assert "usage" not in first


@pytest.mark.parametrize("leave", [reset, lambda client: client.close()], ids=["RST", "FIN"])
@pytest.mark.parametrize(
    "answer",
    [Answer.silence(), Answer(first_delay=60), Answer.stall(2), Answer(pace=60), Answer.endless()],
    ids=["silence", "first delay", "stall", "pace", "blocked"],
)
def test_sees_at_once_that_the_client_has_left(upstream, answer, leave, record_property):
    upstream.script(answer)
    with connect(upstream) as client:
        client.sendall(request())
        upstream.wait(lambda u: u.requests)
        if answer.pace or answer.ending == "stall":
            upstream.wait(lambda u: u.last.pieces_sent)
        left = time.monotonic()
        leave(client)
        upstream.wait(lambda u: u.aborted == 1 and u.open_sockets == 0)
    assert upstream.last.state == "aborted"
    assert upstream.last.closed_at is not None
    record_property("seen after", f"{upstream.last.closed_at - left:.3f} s")
    assert upstream.served == 0


def test_write_that_meets_a_reset_ends_it_quietly(upstream, caplog):
    for expected in range(1, 21):
        upstream.script(Answer.endless())
        with connect(upstream) as client:
            client.sendall(request())
            client.recv(1)
            reset(client)
        upstream.wait(lambda u, expected=expected: u.aborted == expected)
    assert caplog.text == ""


def test_release_ends_a_stall_and_a_silence(upstream):
    upstream.script(Answer.stall(1), Answer.silence())
    with connect(upstream) as stalled, connect(upstream) as silent, connect(upstream):
        stalled.sendall(request())
        upstream.wait(lambda u: u.requests and u.last.pieces_sent == 1)
        silent.sendall(request())
        upstream.wait(lambda u: len(u.requests) == 2 and u.connections == 3)
        stalled.sendall(request())
        upstream.release()
        for client in (stalled, silent):
            assert b"[DONE]" in read_until(client, b"\r\n0\r\n\r\n")
        upstream.wait(lambda u: u.served == 3)
    upstream.wait(lambda u: u.open_sockets == 0)
    assert (upstream.aborted, upstream.connections) == (0, 3)


def test_paced_answer_waits_for_its_reader_too(upstream):
    upstream.script(Answer(pieces=("a", "b" * 20_000_000, "c"), pace=1e-4))
    with connect(upstream) as client:
        client.sendall(request(head="Connection: close\r\n"))
        upstream.wait(lambda u: u.requests and u.last.pieces_sent == 2)
        assert upstream.last.state == "open"
        data, _ = read_to_end(client)
    assert len(data) > 20_000_000
    assert data.endswith(b"0\r\n\r\n")


def test_pace_shorter_than_the_clocks_does_not_wait(upstream):
    upstream.script(Answer.tokens(1000, pace=1e-9))
    assert len(text(exchange(upstream)[1])) == 2000


def test_pace_keeps_its_rate(upstream):
    upstream.script(Answer.tokens(11, pace=0.005))
    exchange(upstream)
    seen = upstream.last
    upstream.wait(lambda _: seen.state == "served")
    assert seen.closed_at is not None
    assert seen.closed_at - seen.received_at >= 0.05


def test_endless_answer_waits_for_its_reader():
    with FakeUpstream(Answer.endless(), send_buffer=16384) as upstream, connect(upstream) as client:
        client.sendall(request())
        seen = _still(upstream)
        before = seen.bytes_written
        assert before < 8_000_000
        read = 0
        while read < before + 100_000:
            read += len(client.recv(65536))
        upstream.wait(lambda _: seen.bytes_written > before)
        assert seen.state == "open"


def _still(upstream: FakeUpstream) -> SeenRequest:
    """Wait until no more is written: the client does not read."""
    upstream.wait(lambda u: u.requests and u.last.bytes_written)
    seen, before = upstream.last, 0
    with contextlib.suppress(TimeoutError):
        while before := seen.bytes_written:
            upstream.wait(partial(_more_than, seen, before), timeout=0.1)
    return seen


def _more_than(seen: SeenRequest, before: int, _: FakeUpstream) -> bool:
    return seen.bytes_written > before


def test_requests_in_one_write_and_in_single_bytes(upstream):
    with connect(upstream) as client:
        client.sendall(request() * 3)
        upstream.wait(lambda u: u.served == 3)
        for byte in request(head="Connection: close\r\n"):
            client.sendall(bytes([byte]))
        data, error = read_to_end(client)
    assert error is None
    assert data.count(b"[DONE]") == 4
    assert upstream.connections == 1


def test_chunked_request_http_10_and_rubbish(upstream):
    with connect(upstream) as client:
        client.sendall(
            b"POST /v1/chat/completions?a=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'3\r\n{"m\r\n'
        )
        client.sendall(b'9;ext\r\nodel":1 }\r\n0\r\n\r\n')
        read_until(client, b"chat.completion")
    assert upstream.last.json == {"model": 1}
    with connect(upstream) as client:
        client.sendall(request(version="1.0"))
        data, _ = read_to_end(client)
    assert b"chunked" not in data
    assert data.endswith(b"\n\ndata: [DONE]\n\n")
    with connect(upstream) as client:
        client.sendall(b"what\r\n\r\n")
        data, _ = read_to_end(client)
        assert data == b""


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /v1/models", b"200"),
        (b"GET /v1/chat/completions", b"404"),
        (b"POST /v1/chat/completions", b"400"),
        (b"POST /v1/elsewhere", b"404"),
    ],
)
def test_other_requests(upstream, line, status):
    upstream.script(Answer())
    with connect(upstream) as client:
        client.sendall(line + b" HTTP/1.1\r\nConnection: close\r\n\r\n")
        data, _ = read_to_end(client)
    assert data.split()[1] == status
    assert text(exchange(upstream)[1]) == "Hello world!"


def test_disconnect_closes_idle_connections_and_open_answers(upstream):
    upstream.script(Answer(), Answer.silence())
    with connect(upstream) as idle, connect(upstream) as busy:
        idle.sendall(request())
        read_until(idle, b"0\r\n\r\n")
        busy.sendall(request())
        upstream.wait(lambda u: len(u.requests) == 2)
        upstream.disconnect()
        assert read_to_end(idle)[0] == b""
        upstream.wait(lambda u: u.open_sockets == 0)
    assert (upstream.served, upstream.aborted) == (1, 1)


def test_after_stop_connections_are_refused():
    with FakeUpstream() as upstream, connect(upstream) as client:
        client.sendall(request(ASK | {"stream": False}))
        read_until(client, b"}}")
        thread = upstream._thread
        assert thread.is_alive()
    upstream.stop()
    upstream.release()
    assert not thread.is_alive()
    with pytest.raises(ConnectionRefusedError), connect(upstream):
        pass
    with FakeUpstream(port=upstream.port) as again:
        assert again.base_url == upstream.base_url
        with pytest.raises(OSError, match="in use"):
            FakeUpstream(port=again.port).start()


@pytest.mark.process
def test_run_by_hand():
    command = [sys.executable, "-W", "error", "-m", "chatnest.testing.upstream"]
    options = ["--text", "a b", "--pieces", "5", "--pace", "0.001"]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            url = process.stdout.readline().strip()
            client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
            with (
                client,
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
                ) as stream,
            ):
                pieces = [chunk.choices[0].delta.content for chunk in stream]
        finally:
            process.terminate()
        assert said(process.stderr.read()) == ""
    assert pieces == ["", "a", " b", "a", " b", "a", None]


@pytest.mark.process
def test_import_of_chatnest_leaves_the_kit_out():
    check = "import sys, chatnest; sys.exit('chatnest.testing' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_exports_are_true():
    import chatnest.testing as kit

    names = {name for name, value in vars(kit).items() if not name.startswith("_")}
    modules = {module.name for module in pkgutil.iter_modules(kit.__path__)}
    assert set(kit.__all__) == names - modules


def test_no_piece_waits_for_the_one_before_it_to_be_acknowledged():
    with FakeUpstream()._listen() as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
