"""Tokenizer: counts tokens with encodings that ship in the package. Never uses the network.

Rules and their sources:

- A count is the length of `tiktoken.Encoding.encode_ordinary`: text that looks like a special
  token counts as text. Ranks, pattern and special tokens are tiktoken's own.
- tiktoken merges bytes, every single byte is a token, and the longest token of either encoding
  has 128 bytes. So `bytes / 128 <= tokens <= bytes` holds for any text (see `Tokenizer.bounds`).
- The chat formula is OpenAI's: 3 tokens per message, the tokens of its role and of its content,
  and 3 that prime the reply (openai/openai-cookbook, How_to_count_tokens_with_tiktoken.ipynb).
- tiktoken's regex panics on a run of about a million whitespace characters. A text longer than
  `MAX_CHARACTERS` is therefore not encoded; its upper bound is its count.
"""

from __future__ import annotations

import os
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar, TypeVarTuple, assert_never

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from chatnest.conversation import (
    Image,
    Message,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from chatnest.tokens.families import percent_of

if TYPE_CHECKING:
    from tiktoken import Encoding

BYTES: Final = "bytes"
"""Name of the encoding for other models: one token for each byte of UTF-8."""

DEFAULT_ENCODING: Final = "o200k_base"
"""The encoding for models that tiktoken does not know. Its counts are estimates for them."""

TOKENS_PER_MESSAGE: Final = 3
"""Tokens of each message, besides those of its text and of its role. Each role is one token in
either encoding.
"""

TOKENS_PER_TOOL_PART: Final = 16
"""Maximum tokens of a tool call or a tool result in a conversation, besides those of its text."""

REPLY_PRIMING_TOKENS: Final = 3
"""Tokens of each request, besides those of its messages."""

MAX_CHARACTERS: Final = 900_000
"""Maximum characters of a text that is encoded. The count of a longer one is its UTF-8 bytes."""

INLINE_BYTES: Final = 8 * 1024
"""Maximum bytes counted in the event loop. More text is counted in a worker thread."""

_LONGEST_TOKEN: Final = 128
"""Maximum bytes of a token, in either encoding."""

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class RanksError(RuntimeError):
    """A rank file in the package was changed or damaged."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"{path}: expected the file of this release, got a damaged one ({problem}). Install "
            "chatnest again."
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Counts text in the tokens of one encoding. Create it with `Tokenizer.for_model`.

    It has no state: encodings are loaded once per process and shared. It runs on asyncio and trio,
    on any number of event loops. A cancelled count returns at once; its thread ends later.

    `encoding_name` is "o200k_base", "cl100k_base" or "bytes"; anything else raises ValueError.
    `exact` is whether this is the model's own encoding. If not, every count is an estimate, and an
    upper bound only with "bytes". `images` returns the maximum tokens of an image. `percent` is the
    number of tokens that are counted for 100 of the encoding, for a model with another tokenizer.
    `tool_tokens` are those that the provider adds to each request with tools, besides the tools'.
    """

    encoding_name: str
    exact: bool
    images: Callable[[Image], int] | None = None
    percent: int = 100
    tool_tokens: int = 0

    reply_tokens: ClassVar[int] = REPLY_PRIMING_TOKENS
    """Tokens of each request, besides those of its messages."""

    def __post_init__(self) -> None:
        if self.encoding_name != BYTES and self.encoding_name not in _ENCODINGS:
            names = ", ".join((*_ENCODINGS, BYTES))
            raise ValueError(f"encoding: expected one of {names}, got {self.encoding_name!r}.")

    @classmethod
    def for_model(cls, model: str, *, encoding: str | None = None) -> Tokenizer:
        """The tokenizer of `model`, by tiktoken's table of names and prefixes.

        A model that is not in the table, or whose encoding is not shipped, gets `o200k_base` and
        `exact=False`, and the factor of its family, if that is known (see `families`). `encoding`
        overrides the table; the result is exact only if the table agrees. `encoding="bytes"` counts
        bytes of UTF-8, which no tokenizer that merges bytes can exceed.
        It is meant for local models with an unknown tokenizer.

        Raises ValueError for an encoding that is not shipped. Imports tiktoken unless `encoding` is
        "bytes", so call it when the application is created, not in a request.
        """
        if encoding == BYTES:
            return cls(BYTES, exact=False)
        known = _encoding_of(model)
        if encoding is None:
            encoding = known if known is not None and known in _ENCODINGS else DEFAULT_ENCODING
        exact = encoding == known
        factor = 100 if exact or encoding != DEFAULT_ENCODING else percent_of(model)
        return cls(encoding, exact=exact, percent=factor)

    @property
    def overcounts(self) -> int:
        """The largest factor, as far as was observed, by which a count exceeds the model's own."""
        if self.exact:
            return 1
        return 8 if self.encoding_name == BYTES else 2

    async def warm(self) -> None:
        """Load the encoding in a worker thread, unless it is loaded already.

        This takes 0.3 to 0.5 s for `o200k_base`. For 0.1 to 0.2 s of that, tiktoken's constructor
        holds the GIL and blocks every thread, so call it at start. Raises RanksError if the rank
        file is damaged.
        """
        shared = _ENCODINGS.get(self.encoding_name)
        if shared is not None and shared.encoding is None:
            await _in_thread(shared.load)

    @staticmethod
    def bounds(text: str) -> tuple[int, int]:
        """The minimum and maximum tokens of `text`, without encoding it.

        The maximum is its bytes of UTF-8, which holds for any tokenizer that merges bytes. The
        minimum is a 128th of them, rounded up, which holds for the shipped encodings.
        """
        size = _utf8_length(text)
        return -(-size // _LONGEST_TOKEN), size

    async def count(self, text: str) -> int:
        """The number of tokens in `text`, which may be any str.

        The count is exact for the encoding up to `MAX_CHARACTERS`, and an upper bound above.
        Surrogates count as in tiktoken: pairs are joined, lone ones become U+FFFD. Raises
        RanksError.
        """
        return (await self._count_all((text,)))[0]

    async def count_messages(self, messages: Sequence[Message]) -> list[int]:
        """The tokens that each message adds to a request, in their order.

        One call of a thread counts all of them. A request has these, and `REPLY_PRIMING_TOKENS`
        once. Raises RanksError.
        """
        in_bytes = self.encoding_name == BYTES
        totals, texts, owners = [], [], []
        for number, message in enumerate(messages):
            total = TOKENS_PER_MESSAGE + (len(message.role) if in_bytes else 1)
            for part in message.parts:
                match part:
                    case Text(text=text) | Refusal(text=text):
                        pass
                    case ToolCall():
                        # The result begins with the name again, and knows only the call's id.
                        text = f"{part.name} {part.name} {part.arguments}"
                        total += TOKENS_PER_TOOL_PART
                    case ToolResult(text=text):
                        total += TOKENS_PER_TOOL_PART
                    case Reasoning(text=text):
                        total += len(part.signature)  # a token of it has at least one byte
                    case Image():
                        total += self._image_tokens(part)
                        continue
                    case _:
                        assert_never(part)
                texts.append(text)
                owners.append(number)
            totals.append(total)
        for number, tokens in zip(owners, await self._count_all(texts), strict=True):
            totals[number] += tokens
        return totals

    def _image_tokens(self, image: Image) -> int:
        if self.images is None:
            return len(image.data)  # never too few; such a model gets no images
        return self.images(image)

    async def _count_all(self, texts: Sequence[str]) -> list[int]:
        shared = _ENCODINGS.get(self.encoding_name)
        if shared is None:
            return [_utf8_length(text) for text in texts]
        if shared.encoding is not None and _are_short(texts):
            counts = list(map(partial(_count_one, shared.encoding), texts))
        else:
            counts = await _in_thread(shared.count, texts)
        if self.percent == 100:  # noqa: PLR2004  # the encoding's own
            return counts
        return [
            min(-(-count * self.percent // 100), _utf8_length(text))
            for count, text in zip(counts, texts, strict=True)
        ]


class _SharedEncoding:
    """An encoding of this process. The first use loads it; after that it does not change."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.encoding: Encoding | None = None
        self._lock = Lock()  # two event loops may load it at the same time

    def load(self) -> Encoding:
        """Load and return the encoding. Blocks, so call it in a thread. Raises RanksError."""
        with self._lock:
            if self.encoding is None:
                self.encoding = _read_encoding(self.name)
            return self.encoding

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens in each text. Blocks like `load`."""
        encoding = self.load()
        return [_count_one(encoding, text) for text in texts]


# The only state of this module. An encoding takes 40 to 80 MB and 0.3 s to load, so all tokenizers,
# applications and event loops of a process share it. It is set once.
_ENCODINGS: Final = MappingProxyType(
    {name: _SharedEncoding(name) for name in ("o200k_base", "cl100k_base")}
)

# One limiter per event loop, separate from anyio's default one: counting keeps a core busy, and
# must not take the forty threads that wait for files and databases.
_limiters: Final = RunVar[CapacityLimiter]("chatnest.tokens.tokenizer.limiter")


async def _in_thread(work: Callable[[*_Args], _T], *args: *_Args) -> _T:
    limiter = _limiters.get(None)
    if limiter is None:
        limiter = CapacityLimiter(os.cpu_count() or 1)
        _limiters.set(limiter)
    return await to_thread.run_sync(work, *args, abandon_on_cancel=True, limiter=limiter)


def _encoding_of(model: str) -> str | None:
    from tiktoken.model import encoding_name_for_model  # noqa: PLC0415  # only if it is needed

    try:
        return encoding_name_for_model(model)
    except KeyError:
        return None


def _read_encoding(name: str) -> Encoding:
    import json  # noqa: PLC0415  # all of these are used once at most
    import lzma  # noqa: PLC0415
    from hashlib import sha256  # noqa: PLC0415
    from importlib.resources import files  # noqa: PLC0415

    from tiktoken import Encoding  # noqa: PLC0415

    folder = files("chatnest.tokens") / "ranks"
    spec = json.loads((folder / "encodings.json").read_bytes())[name]
    path = folder / f"{name}.tiktoken.xz"
    try:
        data = lzma.decompress(path.read_bytes())
    except lzma.LZMAError as exc:
        raise RanksError(str(path), str(exc)) from exc
    if (found := sha256(data).hexdigest()) != spec["sha256"]:
        raise RanksError(str(path), f"SHA-256 {found}, expected {spec['sha256']}")
    ranks = _parse_ranks(data)
    encoding = Encoding(
        name, pat_str=spec["pat_str"], mergeable_ranks=ranks, special_tokens=spec["special_tokens"]
    )
    ranks.clear()  # tiktoken has copied them, and keeps this dict only for pickling
    return encoding


def _parse_ranks(data: bytes) -> dict[bytes, int]:
    """The ranks by token. The loop is in Python, so that other threads get the GIL in between."""
    lines = (line.split() for line in data.splitlines())
    return {a2b_base64(token): int(rank) for token, rank in lines}


def _count_one(encoding: Encoding, text: str) -> int:
    if len(text) > MAX_CHARACTERS:
        return _utf8_length(text)
    try:
        return len(encoding.encode_ordinary(text))
    except BaseException as exc:
        # A panic in Rust raises a BaseException whose class cannot be imported.
        if type(exc).__name__ != "PanicException":
            raise
        return _utf8_length(text)


def _are_short(texts: Sequence[str]) -> bool:
    """Whether the texts have at most INLINE_BYTES together, without encoding longer ones."""
    return sum(map(len, texts)) <= INLINE_BYTES and _utf8_length("".join(texts)) <= INLINE_BYTES


def _utf8_length(text: str) -> int:
    """The number of bytes that tiktoken counts: UTF-8, after its repair of surrogates."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return len(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode())
