"""Whatever the model writes, readers that know nothing of each other read just that.

Three of them: httpx2's, the one of sseclient-py, and chatnest.testing's. Each is given the bytes of
a real server's response, cut anywhere.
"""

import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import sseclient

from chatnest import Bounds, ChatNestApp, HardCaps, MemoryLedger, OpenAIProvider
from chatnest.events import Delta, Finish, ProviderEvent, Usage
from chatnest.testing import Answer, EventReader, FakeUpstream
from chatnest.tokens.tokenizer import Tokenizer
from chatnest.turn import ModelCall
from tests.servers.support import KEY, Client, uvicorn_thread
from tests.streams.support import profile
from tests.support.soak import amount

NASTY = (
    *("\n\nevent: done\ndata: \n\n", "\nevent: error\ndata: {}\n\n", "data: ", ": ping"),
    *("id: 9\n\n", "\r", "\n", "\r\n", "\r\n\r\n", "\n\n", "\0", "\ufeff", "\u2028", "\u2029"),
    *("\x85", "\x0b\x0c", '"', "\\", '\\"', "\\n", "\\ud800", "\x1c\x1d\x1e", " ", "  ", "\t"),
    *("retry: 1", "</script>", "a", "Grüße", "中文", "😀", "e\u0301", "\u202e", "\U0010ffff"),
    *("\ufffe", "<|endoftext|>", "\U0001f469\u200d\U0001f467"),
)
HALVES = ("\ud83d", "\ude00", "\udfff\ud800", "a\udc00b")

Seen = list[tuple[str, str]]


def by_httpx2(pieces: Iterator[bytes]) -> Seen:
    headers = {"content-type": "text/event-stream"}
    request = httpx2.Request("POST", "http://test/")
    response = httpx2.Response(200, headers=headers, content=pieces, request=request)
    return [(e.event, e.data) for e in httpx2.EventSource(response, max_event_size=None)]


def by_sseclient(pieces: Iterator[bytes]) -> Seen:
    return [(event.event, event.data) for event in sseclient.SSEClient(pieces).events()]


def by_chatnest(pieces: Iterator[bytes]) -> Seen:
    reader = EventReader()
    return [(event.event, event.data) for piece in pieces for event in reader.feed(piece)]


READERS: dict[str, Callable[[Iterator[bytes]], Seen]] = {
    "httpx2": by_httpx2,
    "sseclient": by_sseclient,
    "chatnest": by_chatnest,
}


class Written:
    """A provider that says what it is told to, half a surrogate pair included."""

    def __init__(self) -> None:
        self.model = "written"
        self.counter = Tokenizer.for_model("gpt-4o-mini", encoding="bytes")
        self.batches: list[list[str]] = []

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[AsyncIterator[Sequence[ProviderEvent]]]:
        call.sent = True
        yield self._say()

    async def _say(self) -> AsyncIterator[Sequence[ProviderEvent]]:
        for batch in self.batches:
            yield [Delta(text) for text in batch]
        yield [Finish("stop"), Usage(1, 1)]

    async def aclose(self) -> None:
        pass


def roomy(provider: Any, **options: Any) -> ChatNestApp:
    most = 10**8
    own = profile(
        **dict.fromkeys(
            ("max_output_tokens", "max_tokens_per_request", "requests_per_minute"), most
        ),
        daily_token_limit=10**15,
    )
    nothing = dict.fromkeys(HardCaps.__struct_fields__)
    return ChatNestApp(
        provider=provider,
        profiles=[own],
        default_profile="own",
        hard_caps=HardCaps(**nothing),
        ledger=MemoryLedger(),
        bounds=Bounds(answer_bytes=10**8),
        **options,
    )


def received(port: int, **fields: Any) -> bytes:
    with Client(port) as client:
        reply = client.chat(**fields)
        assert reply.status == 200
        return reply.read_all()


def cut(data: bytes, source: random.Random) -> Iterator[bytes]:
    """The same bytes in pieces of any size, now and then of one byte."""
    at = 0
    while at < len(data):
        size = source.choice((1, 2, 3, 7, 64, 1_000, 65_536))
        yield data[at : at + size]
        at += size


def check(data: bytes, text: str, source: random.Random, *, frames: int) -> None:
    for name, read in READERS.items():
        seen = read(cut(data, source))
        kinds = [kind for kind, _ in seen if kind != "ping"]
        assert "".join(json.loads(data) for kind, data in seen if kind == "token") == text, name
        assert kinds.count("token") == frames, name
        assert kinds[0] == "start", name
        assert kinds[-1] == "done", name
        assert not set(kinds[:-1]) & {"done", "error"}, name


def batches(source: random.Random, count: int) -> list[list[str]]:
    """Pieces that arrive together, in batches of any size."""
    made: list[list[str]] = []
    while count > 0:
        size = min(count, source.choice((1, 1, 2, 5, 50)))
        texts = NASTY + HALVES
        made.append(["".join(source.choices(texts, k=source.randint(1, 3))) for _ in range(size)])
        count -= size
    return made


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_frames_of_anything(seed, record_property):
    source = random.Random(seed)
    provider = Written()
    total, rounds = 0, amount(1, 50)
    app = roomy(provider, ping_interval=0.01)
    with uvicorn_thread(app, loop="uvloop" if seed % 2 else "asyncio") as port:
        for number in range(rounds):
            provider.batches = batches(source, amount(1_000, 5_000))
            pieces = [piece for batch in provider.batches for piece in batch]
            # Half a pair is no text: there are no bytes for it.
            text = "".join(piece.encode("utf-8", "replace").decode() for piece in pieces)
            data = received(port, usageEvent=bool(number % 2))
            check(data, text, source, frames=len(pieces))
            total += len(pieces)
    record_property("soak", f"{total:,} frames, {len(READERS)} readers")


@pytest.mark.parametrize("split", [0, 1, 7, 64])
def test_frames_of_a_real_upstream(split):
    pieces = NASTY * 3
    with FakeUpstream(Answer(pieces=pieces, split=split)) as upstream:
        provider = OpenAIProvider(base_url=upstream.base_url, api_key=KEY)
        with uvicorn_thread(roomy(provider)) as port:
            data = received(port)
    check(data, "".join(pieces), random.Random(split), frames=len(pieces))


@pytest.mark.parametrize("letter", ["x", "\n", "\0", "\u2028", "\ud800", "中", '"'])
def test_pieces_of_a_megabyte(letter):
    provider = Written()
    provider.batches = [
        ["a"],
        [letter * (1_048_576 // len(letter.encode("utf-8", "replace")))],
        ["b"],
    ]
    with uvicorn_thread(roomy(provider)) as port:
        data = received(port)
    text = "".join(p.encode("utf-8", "replace").decode() for [p] in provider.batches)
    check(data, text, random.Random(0), frames=3)


def test_a_megabyte_from_a_real_upstream():
    piece = "\u2028\n" * 200_000
    with FakeUpstream(Answer(pieces=("a", piece, "b"))) as upstream:
        provider = OpenAIProvider(
            base_url=upstream.base_url, api_key=KEY, max_event_bytes=2_000_000
        )
        with uvicorn_thread(roomy(provider)) as port:
            data = received(port)
    check(data, f"a{piece}b", random.Random(0), frames=3)
