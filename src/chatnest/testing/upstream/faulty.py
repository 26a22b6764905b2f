"""FaultyDelivery: a constructor for each fault of an upstream. No I/O."""

import json
from dataclasses import dataclass
from typing import Any, Self

from chatnest.testing.upstream.canary import CANARY, openai_error
from chatnest.testing.upstream.delivery import Delivery, Fault

__all__ = ["FaultyDelivery"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyDelivery(Delivery):
    """A delivery with a constructor for each fault. `fields` are those of the class itself.

    `inject` and `body` hold the bytes of Chat Completions; `fault` names the fault for the other
    APIs, which have their own bytes for it.
    """

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
        """Send an error as the API of the request does, with `CANARY`.

        `code` and `kind` are in OpenAI's words. The Messages API has its own for a status.
        """
        headers = {"x-request-id": f"req_{CANARY}", "openai-organization": CANARY}
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        headers |= fields.pop("headers", {})
        body = json.dumps({"error": openai_error(code or status, kind)}).encode()
        fault = Fault("refusal", code)
        return cls(status=status, headers=headers, body=body, fault=fault, **fields)

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
    def cut_at(cls, byte_limit: int, **fields: Any) -> Self:
        """Send FIN after that number of bytes of the event stream, in the middle of an event."""
        return cls(byte_limit=byte_limit, **fields)

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
        delta = b'data: {"choices":[{"delta":\n\n'
        return cls(after=after, fault=Fault("bad_json"), inject=delta, **fields)

    @classmethod
    def bad_utf8(cls, after: int = 0, **fields: Any) -> Self:
        """Send one chunk whose content is not UTF-8, then the rest."""
        delta = b'data: {"choices":[{"index":0,"delta":{"content":"\xff\xfe\xc3\x28"}}]}\n\n'
        return cls(after=after, fault=Fault("bad_utf8"), inject=delta, **fields)

    @classmethod
    def null_chunk(cls, after: int = 0, **fields: Any) -> Self:
        """Send one event with the data ``null``, then the rest."""
        return cls(after=after, fault=Fault("null_event"), inject=b"data: null\n\n", **fields)

    @classmethod
    def wrong_types(cls, after: int = 0, **fields: Any) -> Self:
        """Send one chunk whose fields have the wrong types, then the rest."""
        delta = b'data: {"id":1,"choices":{"0":[]},"usage":"much","model":null}\n\n'
        return cls(after=after, fault=Fault("wrong_types"), inject=delta, **fields)

    @classmethod
    def error_event(
        cls,
        after: int = 0,
        code: str | int | None = "server_error",
        *,
        nested: bool = False,
        **fields: Any,
    ) -> Self:
        """Send an error event and end the stream. llama.cpp's codes are integers.

        It is ``data: {"error": ...}`` in Chat Completions, `error` in the others. The Responses API
        has been seen with the fields of the error at the top, and with `nested` ones. In the
        Messages API the default is an `overloaded_error`.
        """
        event = _data({"error": openai_error(code, "server_error")})
        fault = Fault("error_event", code, nested)
        return cls(after=after, fault=fault, inject=event, ending="unfinished", **fields)

    @classmethod
    def failed(cls, after: int = 0, code: str | int | None = "server_error", **fields: Any) -> Self:
        """Send the end of an answer that has failed, and end the stream.

        It is `response.failed` in the Responses API, with a usage unless that is "auto"; in Chat
        Completions a chunk with the finish reason ``error`` and an error, as OpenRouter sends it;
        in the Messages API the same as `error_event`.
        """
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        event = _data({"choices": [choice], "error": openai_error(code, "server_error")})
        fault = Fault("failed", code)
        return cls(after=after, fault=fault, inject=event, ending="unfinished", **fields)

    @classmethod
    def huge_line(cls, size: float = 20_000_000, after: int = 0, **fields: Any) -> Self:
        """Send one line of `size` bytes, a valid chunk; `math.inf` never ends."""
        return cls(after=after, long_line=size, **fields)


def _data(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
