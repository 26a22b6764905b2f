"""A server that does as the test says: the page, its settings, its chat, and no model behind it.

It keeps to the contract between the page and ``chatnest serve``, so that what a test states here
can be stated of the real server as well.
"""

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

import chatnest

PAGE = Path(chatnest.__file__).parent / "server" / "pages" / "chat"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
PROFILES = {"constrained": 150, "balanced": 400, "expanded": 3000}
PATIENCE = 60.0
"""Seconds for what takes milliseconds."""


class Gate:
    """Something that a stream waits for, until the test opens it."""

    def __init__(self) -> None:
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    async def wait(self) -> None:
        await asyncio.to_thread(self._opened.wait, PATIENCE)


class Hang:
    """The stream goes on for ever; only the client can end it."""


class Drop:
    """The connection ends in the middle of the response."""


Step = bytes | Gate | Hang | Drop


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    body: bytes
    content_type: str = "application/problem+json"


def frame(event: str, data: str = "") -> bytes:
    return f"event: {event}\ndata: {data}\n\n".encode()


def token(text: str) -> bytes:
    return frame("token", json.dumps(text, ensure_ascii=False))


class Stub:
    """What the next requests get, and what they were."""

    def __init__(self) -> None:
        self.url = ""
        self._files = {
            path.relative_to(PAGE).as_posix(): path.read_bytes()
            for path in PAGE.rglob("*")
            if path.suffix in TYPES
        }
        self.reset()

    def reset(self) -> None:
        self.settings: dict[str, Any] = {
            "chat_path": "/api/chat",
            "model": "gpt-4o-mini",
            "demo": False,
            "default_profile": "balanced",
            "keys": False,
        }
        self.used = 1200
        self.requests: list[dict[str, Any]] = []
        self.profiles_asked_for: list[str] = []
        self._replies: deque[Refusal | tuple[Step, ...]] = deque()
        self._disconnected = threading.Event()

    # ------------------------------------------------------------ what a test says

    def answer(self, *tokens: str | Gate, usage: Mapping[str, Any] | None = None) -> None:
        last = [frame("usage", json.dumps(usage))] if usage else []
        self.stream(*_frames(tokens), *last, frame("done"))

    def hang(self, *tokens: str) -> None:
        self.stream(*_frames(tokens), Hang())

    def drop(self, *tokens: str | Gate) -> None:
        """The connection breaks."""
        self.stream(*_frames(tokens), Drop())

    def end_early(self, *tokens: str | Gate) -> None:
        """The body ends well, and the answer does not."""
        self.stream(*_frames(tokens))

    def fail(self, *tokens: str, code: str, **fields: Any) -> None:
        error = {"message": "It failed.", "code": code, "retryable": True, "charged": True}
        error |= {"request_id": "r1"} | fields
        self.stream(*_frames(tokens), frame("error", json.dumps(error)))

    def refuse(self, status: int, code: str, **fields: Any) -> None:
        problem = {"type": "about:blank", "title": code, "status": status, "code": code}
        problem |= {"detail": f"Detail of {code}.", "retryable": False, "request_id": "r1"} | fields
        problem["error"] = problem["detail"]
        self._replies.append(Refusal(status, json.dumps(problem).encode()))

    def stream(self, *steps: Step) -> None:
        self._replies.append((frame("start"), *steps))

    def respond(self, status: int, body: bytes, content_type: str) -> None:
        self._replies.append(Refusal(status, body, content_type))

    def saw_disconnect(self) -> bool:
        return self._disconnected.wait(PATIENCE)

    # ------------------------------------------------------------ what the page sees

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if method == "POST" and path == self.settings["chat_path"]:
            await self._chat(receive, send)
        elif path == "/settings.json":
            await _respond_json(send, self.settings)
        elif path == f"{self.settings['chat_path']}/limits":
            await self._limits(scope, send)
        elif path == "/" or path.startswith("/assets/"):
            await self._file(path.removeprefix("/assets/").strip("/") or "index.html", send)
        else:
            await _respond(send, 404, b"", "text/plain")

    async def _file(self, name: str, send: Send) -> None:
        if name not in self._files:
            await _respond(send, 404, b"", "text/plain")
            return
        headers = {"content-security-policy": CSP, "x-content-type-options": "nosniff"}
        await _respond(send, 200, self._files[name], TYPES[Path(name).suffix], headers)

    async def _chat(self, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        self.requests.append(json.loads(body))
        reply = self._replies.popleft() if self._replies else (token("Yes."), frame("done"))
        if isinstance(reply, Refusal):
            await _respond(send, reply.status, reply.body, reply.content_type)
        else:
            await self._stream(reply, receive, send)

    async def _stream(self, steps: tuple[Step, ...], receive: Receive, send: Send) -> None:
        await _start(send, 200, "text/event-stream", {"cache-control": "no-cache, no-transform"})
        for step in steps:
            if isinstance(step, bytes):
                await send({"type": "http.response.body", "body": step, "more_body": True})
            elif isinstance(step, Gate):
                await step.wait()
            elif isinstance(step, Hang):
                while (await receive())["type"] != "http.disconnect":
                    pass
                self._disconnected.set()
                return
            else:
                return  # without the last message: uvicorn closes the connection
        self.used += 450
        await send({"type": "http.response.body", "body": b""})

    async def _limits(self, scope: Scope, send: Send) -> None:
        query = scope["query_string"].decode()
        profile = query.removeprefix("profile=") or self.settings["default_profile"]
        self.profiles_asked_for.append(profile)
        minute, day = len(self.requests), self.used
        wait = 12 if minute else None
        await _respond_json(
            send,
            {
                "profile": profile,
                "profiles": list(PROFILES),
                "max_tokens_per_request": 2048,
                "max_output_tokens": PROFILES[profile],
                "limits": [
                    _limit("requests", 30, minute, 60, wait),
                    _limit("tokens", 70000, day, 86400, 51234),
                    _limit("streams", 4, 0, None, None),
                ],
            },
        )


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    """The stub on a free loopback port, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))  # connections queue from here on
    config = uvicorn.Config(
        stub, lifespan="off", ws="none", log_level="critical", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    stub.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield stub
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()


def _frames(tokens: Iterable[str | Gate]) -> Iterator[Step]:
    return (token(step) if isinstance(step, str) else step for step in tokens)


def _limit(name: str, limit: int, used: int, window: int | None, reset: int | None) -> Any:
    return {
        "name": name,
        "unit": name,
        "limit": limit,
        "used": used,
        "held": 0,
        "remaining": limit - used,
        "window": window,
        "resets_at": None if reset is None else "2026-11-24T00:00:00Z",
        "reset_after": reset,
    }


async def _respond_json(send: Send, value: Any) -> None:
    await _respond(send, 200, json.dumps(value).encode(), "application/json")


async def _respond(
    send: Send,
    status: int,
    body: bytes,
    content_type: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    await _start(send, status, content_type, headers or {})
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: int, content_type: str, headers: Mapping[str, str]) -> None:
    pairs = {"content-type": content_type, **headers}.items()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in pairs],
        }
    )
