"""HTTP over ASGI: reading a body within its bounds, sending a JSON or problem response."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeVar

import msgspec
from anyio import move_on_after
from starlette.types import Message, Receive, Scope, Send

from chatnest.asgi.data_urls import SMALL_BODY
from chatnest.errors import BodyTooLarge, ClientGone, UnsupportedMediaType

__all__ = [
    "NO_SNIFFING",
    "SEND_NOW",
    "TAKEN",
    "Document",
    "SendNow",
    "bounded",
    "encode_headers",
    "header",
    "headers_named",
    "is_gone",
    "local_path",
    "read_json_body",
    "respond",
    "respond_json",
    "respond_nothing",
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


async def read_json_body(
    head: Mapping[bytes, bytes],
    receive: Receive,
    *,
    max_bytes: int,
    take: Callable[[int], object] | None = None,
    admit: Callable[[], Awaitable[object]] | None = None,
) -> bytes:
    """The whole body of a JSON request with these header fields. ``take`` gets the size of each
    piece but the last, and may refuse it. ``admit`` may refuse a body that is not all there with
    its first piece: it is called once before the next piece is waited for, or before the first if
    the declared length is above SMALL_BODY.

    Raises UnsupportedMediaType, ClientGone, or BodyTooLarge as soon as the size is known.
    """
    content_type = head.get(b"content-type", b"")
    if content_type != b"application/json" or b"content-encoding" in head:
        _check_media_type(content_type, head.get(b"content-encoding", b""))
    length = head.get(b"content-length", b"")
    declared = int(length) if length.isdigit() and len(length) < 20 else 0  # noqa: PLR2004  # int64
    if declared > max_bytes:
        raise BodyTooLarge(max_bytes)
    if declared > SMALL_BODY and admit is not None:
        await admit()
        admit = None
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
        if admit is not None:
            await admit()
            admit = None
        if take is not None:
            take(len(piece))


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

        Sends nothing for an empty piece. Returns False without calling ``encode`` if the client
        does not read or has disconnected.
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


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A whole response with a body, such as an error's."""

    status: int
    media_type: str
    body: bytes
    headers: Mapping[str, str] = {}


async def respond(scope: Scope, send: Send, document: Document) -> None:
    """Send a document that is never cached. A HEAD request gets only the head."""
    body = document.body
    await send(
        {
            "type": "http.response.start",
            "status": document.status,
            "headers": [
                (b"content-type", document.media_type.encode()),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
                NO_SNIFFING,
                *encode_headers(document.headers),
            ],
        }
    )
    head_only = scope.get("method") == "HEAD"
    await send({"type": "http.response.body", "body": b"" if head_only else body})


async def respond_json(scope: Scope, send: Send, content: object, *, status: int = 200) -> None:
    """Send one JSON document."""
    body = _json.encode(content)
    await respond(scope, send, Document(status=status, media_type="application/json", body=body))


async def respond_nothing(send: Send) -> None:
    """Send a 204, a success without content."""
    headers = [(b"cache-control", b"no-store"), NO_SNIFFING]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
