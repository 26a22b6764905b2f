"""HTTP over ASGI: reading a body within its bounds, sending a JSON or problem response."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeVar

import msgspec
from anyio import move_on_after
from starlette.types import Message, Receive, Scope, Send

from chatnest.errors import BodyTooLarge, ChatNestError, ClientGone, UnsupportedMediaType

__all__ = [
    "NO_SNIFFING",
    "SEND_NOW",
    "TAKEN",
    "SendNow",
    "bounded",
    "encode_headers",
    "header",
    "headers_named",
    "is_gone",
    "local_path",
    "problem_document",
    "read_json_body",
    "respond_json",
    "respond_nothing",
    "respond_problem",
    "send_now",
]

SEND_NOW: Final = "chatnest.send_now"
"""Name of an extension in the ASGI scope; see SendNow."""
TAKEN: Final = "chatnest.taken"
"""Name of an extension in the ASGI scope: the Intake that the server called before it created a
task, and whether the whole body had arrived by then.
"""

NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
"""Header of every response. It stops browsers from treating an answer as HTML or a script that a
user made the model write.
"""

_T = TypeVar("_T")
_json: Final = msgspec.json.Encoder()
_MAX_MEDIA_TYPE: Final = 256
"""Maximum bytes of ``Content-Type`` and of ``Content-Encoding``."""
_MAX_DETAIL: Final = 768
"""Maximum bytes of a detail in JSON. A problem document has it twice, in at most 2 KiB."""


def headers_named(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header field, as latin-1 text (RFC 9110, section 5.5)."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def header(scope: Scope, name: bytes) -> str:
    """The first value of a header field, or an empty string."""
    values = headers_named(scope, name)
    return values[0] if values else ""


def local_path(scope: Scope) -> str:
    """The path below the mount point.

    uvicorn's ``--root-path`` puts root_path before the path and other servers do not, so it is
    removed only if it is present.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in {"", "/"}:
        return path[len(root) :] or "/"
    return path


async def read_json_body(head: Mapping[bytes, bytes], receive: Receive, *, max_bytes: int) -> bytes:
    """The whole body of a JSON request with these header fields.

    Raises UnsupportedMediaType, ClientGone, or BodyTooLarge as soon as the size is known.
    """
    content_type = head.get(b"content-type", b"")
    if content_type != b"application/json" or b"content-encoding" in head:
        _check_media_type(content_type, head.get(b"content-encoding", b""))
    length = head.get(b"content-length", b"")
    if length.isdigit() and len(length) < 20 and int(length) > max_bytes:  # noqa: PLR2004  # int64
        raise BodyTooLarge(max_bytes)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > max_bytes:
            raise BodyTooLarge(max_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


_JSON_TYPE: Final = re.compile(
    r"[ \t]*application/json[ \t]*(?:;[ \t]*(?:charset=\"?utf-?8\"?[ \t]*)?)*", re.IGNORECASE
)


def _check_media_type(content_type: bytes, content_encoding: bytes) -> None:
    """Raise UnsupportedMediaType unless the body is plain JSON in UTF-8.

    Some clients end the type with a semicolon, and some proxies join two equal fields.
    """
    if len(content_type) > _MAX_MEDIA_TYPE or len(content_encoding) > _MAX_MEDIA_TYPE:
        raise UnsupportedMediaType
    encoding = content_encoding.decode("latin-1").strip(" \t").lower()
    types = content_type.decode("latin-1").split(",", 2)
    if not all(map(_JSON_TYPE.fullmatch, types)) or encoding not in {"", "identity"}:
        raise UnsupportedMediaType


def bounded(send: Send, seconds: float) -> Send:
    """``send`` with a timeout, for short responses: some servers block forever once the client has
    disconnected.
    """

    async def send_in_time(message: Message) -> None:
        with move_on_after(seconds):
            await send(message)

    return send_in_time


class SendNow(Protocol):
    """Sending without waiting: ``chatnest.send_now`` in the scope's extensions, which ``chatnest
    serve`` provides.
    """

    def belongs_to(self, send: Send) -> bool:
        """Whether ``send`` is the server's own, so that no middleware changes the messages."""
        ...

    def piece(self, encode: Callable[[_T], bytes], content: _T) -> bool:
        """Send ``encode(content)`` as a piece of a body that has begun and continues.

        Returns False without calling ``encode`` if the client does not read or has disconnected.
        """
        ...

    def is_gone(self) -> bool:
        """Whether the client has closed its connection. Asks the kernel, since the event loop may
        not have handled the disconnect yet.
        """
        ...


def is_gone(scope: Scope) -> bool:
    """Whether the client is known to have disconnected. False if the server cannot report it."""
    look: Callable[[], bool] | None
    look = getattr((scope.get("extensions") or {}).get(SEND_NOW), "is_gone", None)
    return look is not None and look()


def send_now(scope: Scope, send: Send) -> SendNow | None:
    """The server's SendNow, or None if the server has none or ``send`` is not the server's own."""
    extension: SendNow | None = (scope.get("extensions") or {}).get(SEND_NOW)
    return extension if extension is not None and extension.belongs_to(send) else None


def encode_headers(fields: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Header fields in the form of ASGI: lower-case bytes."""
    headers = []
    for name, value in fields.items():  # a comprehension would be one more call
        headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))
    return headers


async def respond_json(
    scope: Scope,
    send: Send,
    content: object,
    *,
    status: int = 200,
    media_type: str = "application/json",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send one JSON document that is never cached. A HEAD request gets only the head."""
    body = _json.encode(content)
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", media_type.encode()),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
                NO_SNIFFING,
                *headers,
            ],
        }
    )
    head_only = scope.get("method") == "HEAD"
    await send({"type": "http.response.body", "body": b"" if head_only else body})


async def respond_nothing(send: Send) -> None:
    """Send a 204, a success without content."""
    headers = [(b"cache-control", b"no-store"), NO_SNIFFING]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _within(text: str, most: int) -> str:
    """The beginning of ``text`` that has at most ``most`` bytes in JSON."""
    text = text[:most]
    while len(_json.encode(text)) > most:
        text = text[: len(text) * 9 // 10]
    return text


def problem_document(error: ChatNestError, request_id: str) -> dict[str, object]:
    """An error as a problem document (RFC 9457), with ``error`` for chat-nest's client."""
    detail = _within(error.detail, _MAX_DETAIL)
    return {
        "type": error.problem_type,
        "title": error.title,
        "status": error.status,
        "detail": detail,
        **error.fields(),
        "request_id": request_id,
        "error": detail,
    }


async def respond_problem(
    scope: Scope, send: Send, error: ChatNestError, request_id: str, *, charged: bool = False
) -> None:
    """Send the problem document of an error. ``charged`` is rare before a stream: the model took
    the request and was silent.
    """
    problem = problem_document(error, request_id)
    if charged:
        problem["charged"] = True
    headers = dict(error.headers)
    if "retry_after" in problem:
        headers["Retry-After"] = str(problem["retry_after"])
    await respond_json(
        scope,
        send,
        problem,
        status=error.status,
        media_type="application/problem+json",
        headers=encode_headers(headers),
    )
