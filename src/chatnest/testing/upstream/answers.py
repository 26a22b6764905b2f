"""Answer: what the fake upstream says to one request, faults included. No I/O."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

__all__ = ["CANARY", "Answer", "Ending", "Opening"]

CANARY = "org-canary7f3a9c"
"""Stands in every error the fake upstream sends: text that must reach no client and no log."""

Opening = Literal["answer", "silence", "close", "close_on_accept"]
Ending = Literal["finish", "stall", "reset", "cut", "unfinished", "bad_framing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the fake upstream says to one request. The default is a short, whole answer.

    A streamed answer is: headers, a first delta with the role, the `pieces`, a chunk with the
    finish reason, a usage chunk if it was asked for, ``[DONE]``. A request without
    ``"stream": true`` gets the same as one JSON object. The class methods build the faults.
    """

    pieces: tuple[str, ...] = ("Hello", " world", "!")
    """The deltas. `max_tokens` of the request does not shorten them."""
    repeat: float = 1
    """How often the pieces are sent; `math.inf` never ends."""
    pace: float = 0.0
    """Seconds from one piece to the next."""
    first_delay: float = 0.0
    """Seconds before the headers."""
    finish_reason: Literal["stop", "length", "content_filter"] | None = "stop"
    """None: such a chunk is never sent, but ``[DONE]`` is."""
    usage: tuple[int, int] | Literal["auto"] | None = "auto"
    """Prompt and completion tokens; "auto" is (9, number of pieces); None: never sent."""
    usage_on_every_chunk: bool = False
    """Also on each chunk, asked for or not, as vLLM can do; its completion tokens grow."""
    refusal: bool = False
    """The pieces go out as `refusal` deltas, and `content` stays null."""
    null_first_delta: bool = False
    """The first delta has ``"content": null``, as with llama.cpp."""

    after: int = 0
    """How many pieces go out before `inject`, `long_line` and `ending`."""
    inject: bytes = b""
    """Raw bytes put into the event stream."""
    long_line: float = 0
    """Bytes of one more line of data, a valid chunk; `math.inf` never ends."""
    ending: Ending = "finish"
    """What comes then. "finish": the rest, whole. "stall": nothing, until `release()`.
    "reset": RST. "cut": FIN. "unfinished": the body ends as HTTP wants it, but without a finish
    reason and ``[DONE]``. "bad_framing": a chunk whose size is no number, then FIN."""
    opening: Opening = "answer"
    """"silence": no headers until `release()`. "close": FIN instead of an answer.
    "close_on_accept": FIN before the request is read, so that it is not recorded."""

    end_delay: float = 0.0
    """Seconds from the last event to the end of the body, which then comes by itself."""
    crlf: bool = False
    """Lines of the event stream end with CRLF."""
    comments: bool = False
    """A comment goes before each piece."""
    events_per_write: int = 1
    """Events in one write to the socket; each is still an HTTP chunk of its own."""
    split: int = 0
    """Above zero: bytes per HTTP chunk and write, cutting events and characters anywhere."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    """Added to the response's own, or in their place."""
    content_type: str | None = None
    """In place of ``text/event-stream`` or ``application/json``."""
    body: bytes | None = None
    """The whole body, instead of a completion."""
    content_length: int | None = None
    """Declared instead of the true length, and instead of chunks; then FIN if it is too long."""
    raw: bytes | None = None
    """All bytes of the response, headers included; then FIN."""

    @classmethod
    def text(cls, text: str, **fields: Any) -> Self:
        """`text`, a word for a piece."""
        return cls(pieces=tuple(re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text)), **fields)

    @classmethod
    def tokens(cls, count: int, piece: str = " a", **fields: Any) -> Self:
        """`count` equal pieces: more than `max_tokens`, or a million tiny ones."""
        return cls(pieces=(piece,), repeat=count, **fields)

    # Before the first byte

    @classmethod
    def error(
        cls,
        status: int,
        *,
        code: str | int | None = None,
        kind: str | None = "invalid_request_error",
        retry_after: float | str | None = None,
        **fields: Any,
    ) -> Self:
        """An error as OpenAI sends it: JSON with message, type, param and code, and `CANARY`."""
        headers = {"x-request-id": f"req_{CANARY}", "openai-organization": CANARY}
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        headers |= fields.pop("headers", {})
        return cls(status=status, headers=headers, body=_error(code or status, kind), **fields)

    @classmethod
    def rate_limited(cls, retry_after: float | str | None = 1) -> Self:
        """429 that passes by itself."""
        return cls.error(429, code="rate_limit_exceeded", kind="requests", retry_after=retry_after)

    @classmethod
    def insufficient_quota(cls) -> Self:
        """429 that does not pass by itself: the account is out of money."""
        return cls.error(429, code="insufficient_quota", kind="insufficient_quota")

    @classmethod
    def context_length(cls) -> Self:
        """400: the request is longer than the model takes."""
        return cls.error(400, code="context_length_exceeded")

    @classmethod
    def redirect(cls, status: int = 307, location: str = "/v1/elsewhere") -> Self:
        """A redirect; whoever follows it is seen in `requests` with that path."""
        return cls(status=status, headers={"location": location}, body=b"")

    @classmethod
    def html(cls, status: int = 200) -> Self:
        """A page of some proxy where a completion should be."""
        page = f"<!doctype html><title>Welcome</title><p>{CANARY}".encode()
        return cls(status=status, body=page, content_type="text/html; charset=utf-8")

    @classmethod
    def empty_object(cls) -> Self:
        """200 with ``{}``."""
        return cls(body=b"{}")

    @classmethod
    def not_http(cls) -> Self:
        """The greeting of some other protocol."""
        return cls(raw=b"SSH-2.0-OpenSSH_9.2\r\n")

    @classmethod
    def close(cls) -> Self:
        """FIN after the request, without a byte."""
        return cls(opening="close")

    @classmethod
    def close_on_accept(cls) -> Self:
        """FIN as soon as the connection is there; over a reused one, as soon as a request is."""
        return cls(opening="close_on_accept")

    @classmethod
    def silence(cls) -> Self:
        """Headers never come, unless the test calls `release()`."""
        return cls(opening="silence")

    # In the stream, after so many pieces

    @classmethod
    def stall(cls, after: int = 0, **fields: Any) -> Self:
        """Nothing more comes, unless the test calls `release()`."""
        return cls(after=after, ending="stall", **fields)

    @classmethod
    def reset(cls, after: int = 0, **fields: Any) -> Self:
        """RST."""
        return cls(after=after, ending="reset", **fields)

    @classmethod
    def cut(cls, after: int = 0, **fields: Any) -> Self:
        """FIN, with the chunked body unfinished."""
        return cls(after=after, ending="cut", **fields)

    @classmethod
    def unfinished(cls, after: int = 0, **fields: Any) -> Self:
        """The body ends as HTTP wants it, but without finish reason and ``[DONE]``."""
        return cls(after=after, ending="unfinished", **fields)

    @classmethod
    def short_body(cls, after: int = 0, **fields: Any) -> Self:
        """Content-Length promises more than comes."""
        return cls(after=after, ending="cut", content_length=1_000_000, **fields)

    @classmethod
    def bad_framing(cls, after: int = 0, **fields: Any) -> Self:
        """A chunk whose size is no number."""
        return cls(after=after, ending="bad_framing", **fields)

    @classmethod
    def bad_json(cls, after: int = 0, **fields: Any) -> Self:
        """One event whose data is not JSON; then the rest."""
        return cls(after=after, inject=b'data: {"choices":[{"delta":\n\n', **fields)

    @classmethod
    def bad_utf8(cls, after: int = 0, **fields: Any) -> Self:
        """One chunk whose content is not UTF-8; then the rest."""
        delta = b'data: {"choices":[{"index":0,"delta":{"content":"\xff\xfe\xc3\x28"}}]}\n\n'
        return cls(after=after, inject=delta, **fields)

    @classmethod
    def null_chunk(cls, after: int = 0, **fields: Any) -> Self:
        """One event with the data ``null``; then the rest."""
        return cls(after=after, inject=b"data: null\n\n", **fields)

    @classmethod
    def wrong_types(cls, after: int = 0, **fields: Any) -> Self:
        """One chunk whose fields have other types than they should; then the rest."""
        delta = b'data: {"id":1,"choices":{"0":[]},"usage":"much","model":null}\n\n'
        return cls(after=after, inject=delta, **fields)

    @classmethod
    def error_event(
        cls, after: int = 0, code: str | int | None = "server_error", **fields: Any
    ) -> Self:
        """``data: {"error": ...}`` in the stream, and its end. llama.cpp's codes are integers."""
        event = b"data: " + _error(code, "server_error") + b"\n\n"
        return cls(after=after, inject=event, ending="unfinished", **fields)

    @classmethod
    def huge_line(cls, size: float = 20_000_000, after: int = 0, **fields: Any) -> Self:
        """One line of `size` bytes, a valid chunk; `math.inf` never ends."""
        return cls(after=after, long_line=size, **fields)

    @classmethod
    def endless(cls, piece: str = " a", **fields: Any) -> Self:
        """Pieces for as long as the client reads."""
        return cls(pieces=(piece,), repeat=math.inf, **fields)


def _error(code: str | int | None, kind: str | None) -> bytes:
    message = f"Refused for organization {CANARY} with key sk-{CANARY}. See your account."
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps({"error": error}).encode()
