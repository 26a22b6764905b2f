"""Answer: the fake upstream's response to one request, faults included. No I/O."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

__all__ = ["CANARY", "Answer", "Ending", "Opening"]

CANARY = "org-canary7f3a9c"
"""Text in every error of the fake upstream. It must not reach a client or a log."""

Opening = Literal["answer", "silence", "close", "close_on_accept"]
Ending = Literal["finish", "stall", "reset", "cut", "unfinished", "bad_framing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The fake upstream's response to one request. The default is a short, complete answer.

    A streamed answer is: headers, a first delta with the role, the `pieces`, a chunk with the
    finish reason, a usage chunk if the request wants one, ``[DONE]``. A request without
    ``"stream": true`` gets the same as one JSON object. The class methods build the faults.
    """

    pieces: tuple[str, ...] = ("Hello", " world", "!")
    """The deltas. `max_tokens` of the request does not shorten them."""
    repeat: float = 1
    """Number of times the pieces are sent; `math.inf` never ends."""
    pace: float = 0.0
    """Seconds from one piece to the next."""
    first_delay: float = 0.0
    """Seconds before the headers."""
    finish_reason: Literal["stop", "length", "content_filter"] | None = "stop"
    """The finish reason. With None the chunk is not sent, but ``[DONE]`` is."""
    usage: tuple[int, int] | Literal["auto"] | None = "auto"
    """Prompt and completion tokens; "auto" is (9, number of pieces); None is never sent."""
    usage_on_every_chunk: bool = False
    """Send usage with each chunk, requested or not, as vLLM can; completion tokens grow."""
    refusal: bool = False
    """Send the pieces as `refusal` deltas; `content` stays null."""
    null_first_delta: bool = False
    """Send ``"content": null`` in the first delta, as llama.cpp does."""

    events: tuple[bytes, ...] | None = None
    """The raw events of another dialect, instead of the chunks of a completion. Each counts as a
    piece; `repeat`, `after` and `ending` apply to them."""
    after: int = 0
    """Number of pieces sent before `inject`, `long_line` and `ending`."""
    inject: bytes = b""
    """Raw bytes to insert into the event stream."""
    long_line: float = 0
    """Size in bytes of an additional data line, a valid chunk; `math.inf` never ends."""
    ending: Ending = "finish"
    """The end of the answer. "finish": the complete rest. "stall": nothing until `release()`.
    "reset": RST. "cut": FIN. "unfinished": a valid end of the HTTP body without a finish reason
    and ``[DONE]``. "bad_framing": a chunk whose size is not a number, then FIN."""
    opening: Opening = "answer"
    """The start of the answer. "silence": no headers until `release()`. "close": FIN instead of
    an answer. "close_on_accept": FIN before the request is read, so it is not recorded."""

    end_delay: float = 0.0
    """Seconds from the last event to the end of the body, which is then a write of its own."""
    crlf: bool = False
    """End the lines of the event stream with CRLF."""
    comments: bool = False
    """Send a comment before each piece."""
    events_per_write: int = 1
    """Number of events in one write to the socket; each is still its own HTTP chunk."""
    split: int = 0
    """Bytes per HTTP chunk and write, which splits events and characters anywhere; 0 is off."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers to add to the response; they replace its own headers of the same name."""
    content_type: str | None = None
    """The content type, instead of ``text/event-stream`` or ``application/json``."""
    body: bytes | None = None
    """The complete body, instead of a completion."""
    content_length: int | None = None
    """The declared length, instead of the true length or chunks; FIN if it is not the true one."""
    raw: bytes | None = None
    """All bytes of the response, headers included, followed by FIN."""

    @classmethod
    def text(cls, text: str, **fields: Any) -> Self:
        """Send `text` word by word."""
        return cls(pieces=tuple(re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text)), **fields)

    @classmethod
    def tokens(cls, count: int, piece: str = " a", **fields: Any) -> Self:
        """Send `count` equal pieces, for example more than `max_tokens`, or a million tiny ones."""
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
        """Send an error as OpenAI does: JSON with message, type, param and code, and `CANARY`."""
        headers = {"x-request-id": f"req_{CANARY}", "openai-organization": CANARY}
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        headers |= fields.pop("headers", {})
        return cls(status=status, headers=headers, body=_error(code or status, kind), **fields)

    @classmethod
    def rate_limited(cls, retry_after: float | str | None = 1) -> Self:
        """Send a temporary 429: the rate limit."""
        return cls.error(429, code="rate_limit_exceeded", kind="requests", retry_after=retry_after)

    @classmethod
    def insufficient_quota(cls) -> Self:
        """Send a permanent 429: the account's quota is used up."""
        return cls.error(429, code="insufficient_quota", kind="insufficient_quota")

    @classmethod
    def context_length(cls) -> Self:
        """Send a 400: the request is longer than the model's context."""
        return cls.error(400, code="context_length_exceeded")

    @classmethod
    def redirect(cls, status: int = 307, location: str = "/v1/elsewhere") -> Self:
        """Send a redirect. A client that follows it appears in `requests` with that path."""
        return cls(status=status, headers={"location": location}, body=b"")

    @classmethod
    def html(cls, status: int = 200) -> Self:
        """Send an HTML page, as some proxies do, instead of a completion."""
        page = f"<!doctype html><title>Welcome</title><p>{CANARY}".encode()
        return cls(status=status, body=page, content_type="text/html; charset=utf-8")

    @classmethod
    def empty_object(cls) -> Self:
        """Send a 200 with ``{}``."""
        return cls(body=b"{}")

    @classmethod
    def not_http(cls) -> Self:
        """Send the greeting of another protocol."""
        return cls(raw=b"SSH-2.0-OpenSSH_9.2\r\n")

    @classmethod
    def close(cls) -> Self:
        """Send FIN after the request, without a byte."""
        return cls(opening="close")

    @classmethod
    def close_on_accept(cls) -> Self:
        """Send FIN when the connection opens; on a reused connection, when the request arrives."""
        return cls(opening="close_on_accept")

    @classmethod
    def silence(cls) -> Self:
        """Send no headers until the test calls `release()`."""
        return cls(opening="silence")

    # In the stream, after a number of pieces

    @classmethod
    def stall(cls, after: int = 0, **fields: Any) -> Self:
        """Send nothing more until the test calls `release()`."""
        return cls(after=after, ending="stall", **fields)

    @classmethod
    def reset(cls, after: int = 0, **fields: Any) -> Self:
        """Send RST."""
        return cls(after=after, ending="reset", **fields)

    @classmethod
    def cut(cls, after: int = 0, **fields: Any) -> Self:
        """Send FIN, with the chunked body unfinished."""
        return cls(after=after, ending="cut", **fields)

    @classmethod
    def unfinished(cls, after: int = 0, **fields: Any) -> Self:
        """End the HTTP body correctly, but without a finish reason and ``[DONE]``."""
        return cls(after=after, ending="unfinished", **fields)

    @classmethod
    def short_body(cls, after: int = 0, **fields: Any) -> Self:
        """Declare a longer Content-Length than the body."""
        return cls(after=after, ending="cut", content_length=1_000_000, **fields)

    @classmethod
    def bad_framing(cls, after: int = 0, **fields: Any) -> Self:
        """Send a chunk whose size is not a number."""
        return cls(after=after, ending="bad_framing", **fields)

    @classmethod
    def bad_json(cls, after: int = 0, **fields: Any) -> Self:
        """Send one event whose data is not JSON, then the rest."""
        return cls(after=after, inject=b'data: {"choices":[{"delta":\n\n', **fields)

    @classmethod
    def bad_utf8(cls, after: int = 0, **fields: Any) -> Self:
        """Send one chunk whose content is not UTF-8, then the rest."""
        delta = b'data: {"choices":[{"index":0,"delta":{"content":"\xff\xfe\xc3\x28"}}]}\n\n'
        return cls(after=after, inject=delta, **fields)

    @classmethod
    def null_chunk(cls, after: int = 0, **fields: Any) -> Self:
        """Send one event with the data ``null``, then the rest."""
        return cls(after=after, inject=b"data: null\n\n", **fields)

    @classmethod
    def wrong_types(cls, after: int = 0, **fields: Any) -> Self:
        """Send one chunk whose fields have the wrong types, then the rest."""
        delta = b'data: {"id":1,"choices":{"0":[]},"usage":"much","model":null}\n\n'
        return cls(after=after, inject=delta, **fields)

    @classmethod
    def error_event(
        cls, after: int = 0, code: str | int | None = "server_error", **fields: Any
    ) -> Self:
        """Send ``data: {"error": ...}`` and end the stream. llama.cpp's codes are integers."""
        event = b"data: " + _error(code, "server_error") + b"\n\n"
        return cls(after=after, inject=event, ending="unfinished", **fields)

    @classmethod
    def huge_line(cls, size: float = 20_000_000, after: int = 0, **fields: Any) -> Self:
        """Send one line of `size` bytes, a valid chunk; `math.inf` never ends."""
        return cls(after=after, long_line=size, **fields)

    @classmethod
    def endless(cls, piece: str = " a", **fields: Any) -> Self:
        """Send pieces for as long as the client reads."""
        return cls(pieces=(piece,), repeat=math.inf, **fields)


def _error(code: str | int | None, kind: str | None) -> bytes:
    message = f"Refused for organization {CANARY} with key sk-{CANARY}. See your account."
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps({"error": error}).encode()
