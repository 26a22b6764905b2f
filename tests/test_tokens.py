"""Tokens are counted as tiktoken counts them, offline, and never in the way of the event loop."""

import json
import lzma
import math
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import get_args

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import tiktoken.load
import tiktoken.model
from blockbuster import blockbuster_ctx
from hypothesis import example, given
from hypothesis import strategies as st
from tiktoken_ext import openai_public  # type: ignore[import-untyped]

from chatnest.conversation import Message, Role, Text
from chatnest.tokens import tokenizer as tokens
from chatnest.tokens.tokenizer import (
    INLINE_BYTES,
    MAX_CHARACTERS,
    REPLY_PRIMING_TOKENS,
    TOKENS_PER_MESSAGE,
    RanksError,
    Tokenizer,
)

pytestmark = pytest.mark.anyio  # anyio's own fixture runs each on asyncio and trio

SHIPPED = ("o200k_base", "cl100k_base")
RANKS = files("chatnest.tokens") / "ranks"
LONG_WAIT = 20  # seconds; only a failing test waits that long

TEXTS = (
    "",
    "hello world",
    "I'll say it's 12345 o'clock, WON'T I?\r\n\r\n\tYes.  \n",
    "<|endoftext|> and <|endofprompt|> are text <|fim_prefix|>",
    "敏捷的棕色狐狸跳过了懒狗。 素早い茶色の狐。 빠른 갈색 여우",
    "👩‍👩‍👧‍👦 🇺🇳 🏴󠁧󠁢󠁳󠁣󠁴󠁿 e\u0301\u0301\u0301",
    "lone \ud800 and \udc00, a pair \ud83d\ude00",
    "\ud83d",
    " " * 5_000,
    "\n \n" * 2_000,
    "\u3000" * 1_000 + "x",
    "a" * 20_000,
    "".join(map(chr, range(0x4E00, 0x9000))),
    "\x00\ufeff\u202e\U0010ffff",
)

any_text = st.lists(
    st.text(st.characters(exclude_categories=()), max_size=40)
    | st.sampled_from(["漢字", "😀", "\ud83d", "\ude00", "<|endoftext|>", "'s", "The ", "\r\n"])
    | st.builds(str.__mul__, st.sampled_from([" ", "\n", "\u3000", "a", "!"]), st.integers(0, 300)),
    max_size=12,
).map("".join)


def rank_file(name: str) -> bytes:
    return lzma.decompress((RANKS / f"{name}.tiktoken.xz").read_bytes())


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tiktoken.Encoding]]:
    """The encodings as tiktoken itself makes and checks them; only its download is replaced."""

    def read_file(url: str) -> bytes:
        return rank_file(url.rpartition("/")[2].removesuffix(".tiktoken"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(tiktoken.load, "read_file", read_file)
        made = {name: openai_public.ENCODING_CONSTRUCTORS[name]() for name in SHIPPED}
        yield {name: tiktoken.Encoding(**parts) for name, parts in made.items()}


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has counted nothing yet."""
    fresh = {name: tokens._SharedEncoding(name) for name in SHIPPED}
    monkeypatch.setattr(tokens, "_ENCODINGS", MappingProxyType(fresh))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail("the network was asked")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(params=SHIPPED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class GatedEncoding:
    """An encoding that counts only once somebody has opened the gate."""

    def __init__(self) -> None:
        self.entered, self.gate, self.finished = (threading.Event() for _ in range(3))

    def encode_ordinary(self, text: str) -> list[int]:
        self.entered.set()
        opened = self.gate.wait(LONG_WAIT)
        self.finished.set()
        return [1] if opened else []


async def until(event: threading.Event) -> None:
    assert await anyio.to_thread.run_sync(event.wait, LONG_WAIT)


# The rank files


def test_what_ships_is_what_tiktoken_pins(name, theirs, monkeypatch):
    pinned: dict[str, str | None] = {}

    def note(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
        pinned[url.rpartition("/")[2]] = expected_hash
        return {}

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", note)
    made = openai_public.ENCODING_CONSTRUCTORS[name]()
    spec = json.loads((RANKS / "encodings.json").read_bytes())[name]
    assert spec == {
        "name": made["name"],
        "pat_str": made["pat_str"],
        "special_tokens": made["special_tokens"],
        "sha256": pinned[f"{name}.tiktoken"],
    }
    assert sha256(rank_file(name)).hexdigest() == spec["sha256"]


def test_the_list_of_encodings_is_the_one_in_the_code():
    assert set(json.loads((RANKS / "encodings.json").read_bytes())) == set(tokens._ENCODINGS)
    assert set(tokens._ENCODINGS) == set(SHIPPED)


def test_ranks_are_parsed_as_tiktoken_parses_them(name, theirs):
    ranks = tokens._parse_ranks(rank_file(name))
    assert ranks == theirs[name]._mergeable_ranks


def test_bounds_rest_on_what_the_ranks_have(name):
    ranks = tokens._parse_ranks(rank_file(name))
    assert max(map(len, ranks)) == tokens._LONGEST_TOKEN == 128
    assert all(bytes([byte]) in ranks for byte in range(256))


@pytest.mark.parametrize(
    "data",
    [lzma.compress(b"IQ== 0\n"), b"not xz", b""],
    ids=["another file", "not xz", "empty"],
)
async def test_a_damaged_rank_file_is_named(data, unloaded, monkeypatch, tmp_path):
    ranks = tmp_path / "ranks"
    ranks.mkdir()
    (ranks / "encodings.json").write_bytes((RANKS / "encodings.json").read_bytes())
    (ranks / "o200k_base.tiktoken.xz").write_bytes(data)
    tokenizer = Tokenizer.for_model("gpt-4o")
    with monkeypatch.context() as patch:
        patch.setattr("importlib.resources.files", lambda package: tmp_path)
        with pytest.raises(
            RanksError, match=r"o200k_base\.tiktoken\.xz: .* a damaged one"
        ) as caught:
            await tokenizer.count("hello world")
        assert Path(caught.value.path).name == "o200k_base.tiktoken.xz"
        with pytest.raises(RanksError):
            await tokenizer.warm()
    assert await tokenizer.count("hello world") == 2, "a failed load must not stick"


# Which encoding


@pytest.mark.parametrize(
    ("model", "encoding", "exact"),
    [
        ("gpt-4o-mini", "o200k_base", True),
        ("gpt-4o-2024-05-13", "o200k_base", True),
        ("gpt-5-mini", "o200k_base", True),
        ("o3", "o200k_base", True),
        ("gpt-4", "cl100k_base", True),
        ("gpt-3.5-turbo-0125", "cl100k_base", True),
        ("ft:gpt-4o:somebody::1", "o200k_base", True),
        ("text-davinci-003", "o200k_base", False),  # p50k_base does not ship
        ("gpt-oss-20b", "o200k_base", False),  # nor does o200k_harmony
        ("llama-3.3-70b", "o200k_base", False),
        ("", "o200k_base", False),
    ],
)
def test_the_encoding_of_a_model(model, encoding, exact):
    assert Tokenizer.for_model(model) == Tokenizer(encoding, exact=exact)


def test_every_model_of_tiktoken_is_exact_if_its_encoding_ships():
    for model, encoding in tiktoken.model.MODEL_TO_ENCODING.items():
        tokenizer = Tokenizer.for_model(model)
        assert tokenizer.exact == (encoding in SHIPPED)
        assert tokenizer.encoding_name == (encoding if tokenizer.exact else "o200k_base")


def test_an_encoding_can_be_given():
    assert Tokenizer.for_model("gpt-4", encoding="cl100k_base").exact
    assert not Tokenizer.for_model("gpt-4", encoding="o200k_base").exact
    assert not Tokenizer.for_model("our-deployment", encoding="cl100k_base").exact
    assert not Tokenizer.for_model("gpt-4", encoding="bytes").exact


@pytest.mark.parametrize("encoding", ["p50k_base", "", "O200K_BASE"])
def test_an_encoding_that_does_not_ship_is_refused(encoding):
    with pytest.raises(ValueError, match="expected one of o200k_base, cl100k_base, bytes"):
        Tokenizer.for_model("gpt-4", encoding=encoding)


@pytest.mark.process
def test_importing_it_does_not_import_tiktoken():
    code = """if True:
        import sys, chatnest.tokens.tokenizer
        chatnest.tokens.tokenizer.Tokenizer.for_model("a local one", encoding="bytes")
        sys.exit("tiktoken" in sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


# Counts


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
async def test_a_count_is_tiktokens(text, name, theirs):
    expected = len(theirs[name].encode_ordinary(text))
    assert await Tokenizer(name, exact=True).count(text) == expected


async def test_hello_world(theirs):
    assert await Tokenizer.for_model("gpt-4o").count("hello world") == 2
    assert len(theirs["o200k_base"].encode_ordinary("hello world")) == 2


@pytest.mark.parametrize("name", SHIPPED)
def test_a_role_is_one_token(name, theirs):
    assert {len(theirs[name].encode_ordinary(role)) for role in get_args(Role)} == {1}


@given(text=any_text)
@example(text="".join(TEXTS))
async def test_any_text_is_counted_within_its_bounds(text, theirs):
    lower, upper = Tokenizer.bounds(text)
    for name in SHIPPED:
        count = await Tokenizer(name, exact=True).count(text)
        assert lower <= count <= upper
        assert count == len(theirs[name].encode_ordinary(text))
    assert await Tokenizer("bytes", exact=False).count(text) == upper
    assert (lower == 0) == (upper == 0) == (text == "")


@pytest.mark.parametrize("text", [text for text in TEXTS if text.split()], ids=ascii)
async def test_a_text_that_grows_by_words_does_not_cost_less(text, name):
    tokenizer = Tokenizer(name, exact=True)
    words = (text + " the end").split()
    counts = [await tokenizer.count(" ".join(words[:size])) for size in range(len(words) + 1)]
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0)),
        ("a", (1, 1)),
        ("a" * 128, (1, 128)),
        ("a" * 129, (2, 129)),
        ("é", (1, 2)),
        ("漢" * 100, (3, 300)),
        ("\ud800", (1, 3)),  # as U+FFFD
        ("\ud83d\ude00", (1, 4)),  # as one emoji
    ],
    ids=ascii,
)
async def test_bounds_need_no_encoding(text, expected, unloaded):
    assert Tokenizer.bounds(text) == expected
    assert await Tokenizer("bytes", exact=False).count(text) == expected[1]
    assert all(shared.encoding is None for shared in tokens._ENCODINGS.values())


async def test_a_bytes_tokenizer_has_nothing_to_warm(unloaded):
    await Tokenizer("bytes", exact=False).warm()
    assert all(shared.encoding is None for shared in tokens._ENCODINGS.values())


@pytest.mark.parametrize("unit", [" ", "\n", "\u3000", "a"], ids=ascii)
async def test_a_text_over_the_limit_counts_its_bytes(unit, name):
    size = 1_000_000 * len(unit.encode())
    assert await Tokenizer(name, exact=True).count(unit * 1_000_000) == size


@pytest.mark.loops("asyncio")  # seconds of work, the same on each loop
async def test_a_text_at_the_limit_is_still_encoded(name, theirs):
    for text in (" " * MAX_CHARACTERS, " " * (MAX_CHARACTERS - 1) + "x"):
        count = await Tokenizer(name, exact=True).count(text)
        assert count == len(theirs[name].encode_ordinary(text)) < 10_000


async def test_a_panic_of_tiktoken_becomes_the_upper_bound(theirs, monkeypatch, capfd):
    spaces = " " * 1_200_000
    with pytest.raises(BaseException, match=r"(?i)backtrack|unwrap") as caught:
        theirs["o200k_base"].encode_ordinary(spaces)
    assert not isinstance(caught.value, Exception)
    monkeypatch.setattr(tokens, "MAX_CHARACTERS", len(spaces))
    tokenizer = Tokenizer.for_model("gpt-4o")
    assert await tokenizer.count(spaces) == len(spaces)
    assert await tokenizer.count("hello world") == 2, "the encoding survives"


def test_what_is_not_a_panic_is_not_swallowed():
    class Interrupted(BaseException):
        def encode_ordinary(self, text: str) -> list[int]:
            raise self

    with pytest.raises(Interrupted):
        tokens._count_one(Interrupted(), "text")  # type: ignore[arg-type]


# Messages


async def test_messages_follow_the_chat_formula(name):
    tokenizer = Tokenizer(name, exact=True)
    messages = [
        Message.of("system", "Be brief."),
        Message.of("user", "漢字 😀"),
        Message.of("assistant", ""),
        Message.of("user", "x" * 9_000),
    ]
    each = [
        3 + await tokenizer.count(message.role) + await tokenizer.count(message.text)
        for message in messages
    ]
    assert await tokenizer.count_messages(messages) == each
    assert (TOKENS_PER_MESSAGE, REPLY_PRIMING_TOKENS) == (3, 3)


async def test_each_part_of_a_message_counts(name):
    tokenizer = Tokenizer(name, exact=True)
    one, more = Text("hello world"), Text("漢字 😀")
    messages = [Message("user", (one, more)), Message("user", ())]
    texts = await tokenizer.count(one.text) + await tokenizer.count(more.text)
    role = await tokenizer.count("user")
    assert await tokenizer.count_messages(messages) == [3 + role + texts, 3 + role]


async def test_no_messages_cost_nothing():
    assert await Tokenizer.for_model("gpt-4o").count_messages([]) == []
    assert Tokenizer.for_model("gpt-4o").reply_tokens == REPLY_PRIMING_TOKENS


async def test_the_worked_example_of_the_formula():
    # "user" and "assistant" are one token each in both encodings, "hello world" is two.
    tokenizer = Tokenizer.for_model("gpt-4o-mini")
    messages = [Message.of("user", "hello world"), Message.of("assistant", "hello world")]
    assert await tokenizer.count_messages(messages) == [3 + 1 + 2, 3 + 1 + 2]


# Without the network, and out of the event loop's way


async def test_everything_works_without_a_network(unloaded, offline, name):
    tokenizer = Tokenizer(name, exact=True)
    await tokenizer.warm()
    assert await tokenizer.count("hello world") == 2
    assert await tokenizer.count("hello world " * 5_000) > 10_000


async def test_an_encoding_is_loaded_once(unloaded, monkeypatch):
    read, names = tokens._read_encoding, []

    def counted(name: str) -> tiktoken.Encoding:
        names.append(name)
        return read(name)

    monkeypatch.setattr(tokens, "_read_encoding", counted)
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(Tokenizer.for_model("gpt-4o").count, "hello world")
            group.start_soon(Tokenizer.for_model("gpt-4").warm)
    await Tokenizer.for_model("o3").warm()
    assert sorted(names) == sorted(SHIPPED)


async def test_loading_leaves_the_event_loop_free(unloaded, monkeypatch):
    read, gate, opened = tokens._read_encoding, threading.Event(), []

    def gated(name: str) -> tiktoken.Encoding:
        opened.append(gate.wait(LONG_WAIT))
        return read(name)

    monkeypatch.setattr(tokens, "_read_encoding", gated)
    async with anyio.create_task_group() as group:
        group.start_soon(Tokenizer.for_model("gpt-4o").warm)
        await anyio.wait_all_tasks_blocked()
        gate.set()  # never reached if this loop were the one that waits
    assert opened == [True]


@pytest.mark.parametrize(
    "messages",
    [
        [Message.of("user", "word " * 40_000)],
        [Message.of("user", "word " * 200)] * 9,  # each short, together long
        [Message.of("user", "漢" * (INLINE_BYTES // 3 + 1))],  # few characters, many bytes
    ],
    ids=["one of 200 KB", "many", "CJK"],
)
async def test_long_counts_leave_the_event_loop_free(messages, unloaded):
    shared, gated = tokens._ENCODINGS["o200k_base"], GatedEncoding()
    shared.encoding = gated  # type: ignore[assignment]
    counts: list[int] = []

    async def count() -> None:
        counts.extend(await Tokenizer.for_model("gpt-4o").count_messages(messages))

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await until(gated.entered)
        gated.gate.set()
    assert counts == [3 + 1 + 1] * len(messages)


async def test_short_counts_take_no_thread(monkeypatch):
    tokenizer = Tokenizer.for_model("gpt-4o")
    await tokenizer.warm()

    async def refuse(*args: object) -> None:
        pytest.fail("a thread was asked")

    monkeypatch.setattr(tokens, "_in_thread", refuse)
    await tokenizer.warm()
    await tokenizer.count("a" * INLINE_BYTES)
    await tokenizer.count("é" * (INLINE_BYTES // 2))
    assert await tokenizer.count("hello world") == 2


@pytest.mark.loops("asyncio")  # blockbuster knows no other
async def test_nothing_blocking_is_called_in_the_event_loop(unloaded, anyio_backend):
    with blockbuster_ctx():
        tokenizer = Tokenizer.for_model("gpt-4o")
        assert await tokenizer.count("hello world") == 2
        assert await tokenizer.count("hello world " * 20_000) > 40_000


async def test_a_cancelled_count_returns_at_once(unloaded):
    shared, gated = tokens._ENCODINGS["o200k_base"], GatedEncoding()
    shared.encoding = gated  # type: ignore[assignment]
    async with anyio.create_task_group() as group:
        group.start_soon(Tokenizer.for_model("gpt-4o").count, "word " * 40_000)
        await until(gated.entered)
        group.cancel_scope.cancel()
    assert not gated.finished.is_set()
    gated.gate.set()
    await until(gated.finished)


async def test_a_cancelled_load_is_still_a_load(unloaded):
    async with anyio.create_task_group() as group:
        group.start_soon(Tokenizer.for_model("gpt-4").warm)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert await Tokenizer.for_model("gpt-4").count("hello world") == 2


async def test_no_more_threads_than_cores(unloaded, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(tokens, "_limiters", anyio.lowlevel.RunVar("of this test"))
    shared, gated = tokens._ENCODINGS["o200k_base"], GatedEncoding()
    shared.encoding = gated  # type: ignore[assignment]
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(Tokenizer.for_model("gpt-4o").count, "word " * 40_000)
        await anyio.wait_all_tasks_blocked()
        limiter = tokens._limiters.get()
        assert limiter.borrowed_tokens == 2
        assert limiter.statistics().tasks_waiting == 3
        gated.gate.set()


def test_two_event_loops_in_two_threads_share_one_load(monkeypatch, anyio_backend_name):
    both_want_it, reads = threading.Event(), []

    class Wanted(tokens._SharedEncoding):
        wanted = 0

        def load(self) -> tiktoken.Encoding:
            self.wanted += 1
            if self.wanted == 2:
                both_want_it.set()
            return super().load()

    read = tokens._read_encoding

    def once_both_want_it(name: str) -> tiktoken.Encoding:
        reads.append(both_want_it.wait(LONG_WAIT))
        return read(name)

    shared = Wanted("o200k_base")
    monkeypatch.setattr(tokens, "_ENCODINGS", MappingProxyType({"o200k_base": shared}))
    monkeypatch.setattr(tokens, "_read_encoding", once_both_want_it)
    counts: list[int] = []

    async def count() -> None:
        tokenizer = Tokenizer.for_model("gpt-4o")
        counts.append(await tokenizer.count("hello world"))
        counts.append(await tokenizer.count("hello world " * 5_000))

    def run() -> None:
        anyio.run(count, backend=anyio_backend_name)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_WAIT)
    assert reads == [True]
    assert sorted(counts) == [2, 2, 10_001, 10_001]


def test_a_tokenizer_serves_one_event_loop_after_another(unloaded, anyio_backend_name):
    tokenizer = Tokenizer.for_model("gpt-4o")
    for _ in range(2):
        long = "hello world " * 5_000
        assert anyio.run(tokenizer.count, long, backend=anyio_backend_name) == 10_001


@pytest.mark.parametrize(
    ("model", "percent"),
    [
        ("gpt-4o-mini", 100),
        ("llama-3.1-8b", 100),
        ("claude-sonnet-4-5", 130),
        ("claude-3-5-haiku-20241022", 130),
        ("anthropic.claude-opus-4-6-v1:0", 130),
        ("anthropic/claude-opus-4.7", 170),
        ("claude-opus-4-8@20260601", 170),
        ("claude-sonnet-5", 170),
        ("claude-mythos-preview", 170),
        ("google/gemini-3-pro", 120),
    ],
)
def test_a_family_with_another_tokenizer_has_a_factor(model, percent):
    assert Tokenizer.for_model(model).percent == percent
    assert Tokenizer.for_model(model, encoding="bytes").percent == 100


@pytest.mark.anyio
async def test_a_factor_counts_more_and_never_more_than_bytes():
    plain, claude = Tokenizer.for_model("gpt-4o"), Tokenizer.for_model("claude-sonnet-4-5")
    for text in ("", "a", "Hello there, how are you today?", "\U0001f600" * 9):
        count = await plain.count(text)
        expected = min(math.ceil(count * 1.3), len(text.encode()))
        assert await claude.count(text) == expected
        assert claude.bounds(text)[0] <= expected <= claude.bounds(text)[1]
