"""Conversation: one ASGI request, driven by hand on asyncio or trio."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from chatnest.testing.exchange import App, Exchange, Message
from chatnest.testing.protocol import ProtocolViolation
from chatnest.testing.scope import UNSET, http_scope, to_json, with_defaults
from chatnest.testing.sse import EventReader

__all__ = ["Conversation", "ProtocolViolation"]


class Conversation(Exchange):
    """One HTTP request to an ASGI app, with the test in the place of the server.

    `async with Conversation(app, json={...}) as c:` runs the app in a task. The test reads the
    messages that the app sends, hands messages to the app, and disconnects at any time. The end
    of the block disconnects and waits for the app to return.

    `json` or `body` is the request's body. With `send_body=False` the app gets only the parts that
    the test passes to `send_body`. `extras` goes into the scope: "user", "state", "session".
    After a disconnect, `receive` returns it again on each call, as in uvicorn; with
    `repeat_disconnect=False` the second call blocks, as in Hypercorn and Daphne. `send` then does
    nothing, and `late` holds its messages.

    Every wait raises `TimeoutError` after `timeout` seconds. If the app has raised, every wait
    raises that exception; if the app broke the ASGI protocol, every wait raises
    `ProtocolViolation`.
    """

    def __init__(
        self,
        app: App,
        *,
        method: str = "POST",
        path: str = "/api/chat",
        root_path: str = "",
        query: str = "",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        json: Any = UNSET,
        body: bytes = b"",
        send_body: bool = True,
        client: tuple[str, int] | None = ("127.0.0.1", 50000),
        http_version: str = "1.1",
        extras: Mapping[str, Any] | None = None,
        repeat_disconnect: bool = True,
        timeout: float = 20.0,
    ) -> None:
        self.body: bytes = body if json is UNSET else to_json(json)
        self.timeout = timeout
        self.scope: dict[str, Any] = http_scope(
            method=method,
            path=path,
            root_path=root_path,
            query=query,
            headers=with_defaults(headers, json is not UNSET, self.body if send_body else None),
            client=client,
            http_version=http_version,
            extras=extras or {},
        )
        super().__init__(app, head=method == "HEAD", repeat_disconnect=repeat_disconnect)
        if send_body:
            self.send_body(self.body)
        self._reported = False
        self._group: TaskGroup

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._run, self.scope)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.disconnect()
                await self._wait(lambda: self.is_finished, "the app to return after a disconnect")
                if not self._reported:
                    self._raise_if_broken()
        finally:
            self._group.cancel_scope.cancel()
            await self._group.__aexit__(None, None, None)

    # The response

    @property
    def status(self) -> int:
        """The response's status. Raises `LookupError` before it has started."""
        status: int = self._start()["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers; the last of a repeated name wins.

        Raises `LookupError` before the response has started.
        """
        pairs = self._start().get("headers", ())
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}

    @property
    def received(self) -> bytes:
        """The response body received so far."""
        return b"".join(message.get("body", b"") for message in self.messages)

    def problem(self) -> dict[str, Any]:
        """Parse the body so far as a JSON object. Raises `ValueError` if it is not one."""
        document = json.loads(self.received)
        if not isinstance(document, dict):
            raise ValueError(f"not a JSON object: {document!r}")  # noqa: TRY004 - as json.loads
        return document

    # Waiting

    async def started(self) -> None:
        """Wait for the status and headers."""
        await self.until(lambda: self.messages, "the response to start")

    async def finished(self) -> None:
        """Wait until the app has returned."""
        await self.until(lambda: self.is_finished, "the app to return")

    async def blocked(self) -> None:
        """Wait until a `send` is blocked by the stalled client."""
        await self.until(lambda: self.blocked_sends > 0, "a send to block")

    async def read_all(self) -> bytes:
        """Wait for the end of the body and return all of it."""
        await self.until(lambda: self.is_complete, "the end of the body")
        return self.received

    async def events(self) -> AsyncIterator[tuple[str, str]]:
        """Yield each event of the body as (type, data) when it arrives, starting with the first.

        The iterator ends with the body, or once the app has returned.
        """
        reader = EventReader()
        read = 0
        while message := await self._message(read):
            read += 1
            for event in reader.feed(message.get("body", b"")):
                yield event.event, event.data

    async def until(self, predicate: Callable[[], object], what: str = "that") -> None:
        """Wait until `predicate()` is true. It is evaluated after each change.

        Raises `TimeoutError`, the app's own exception, or `ProtocolViolation`. Raises `EOFError`
        if the app has returned and `predicate()` is still false. `what` names the condition in
        these messages.
        """
        await self._wait(lambda: predicate() or self._broken() or self.is_finished, what)
        self._raise_if_broken()
        if not predicate():
            raise EOFError(f"waited for {what}, but the app has returned: {self!r}")

    async def _wait(self, predicate: Callable[[], object], what: str) -> None:
        with anyio.move_on_after(self.timeout) as scope:
            while not predicate():
                await self._changed.wait()
        if scope.cancelled_caught:
            raise TimeoutError(f"waited {self.timeout} s for {what}; so far: {self!r}")

    async def _message(self, number: int) -> Message | None:
        """Wait for message `number`. Return None if the response ended without it."""

        def known() -> bool:
            return len(self.messages) > number or self.is_complete or self.is_finished

        await self.until(known, "the next event")
        return self.messages[number] if len(self.messages) > number else None

    def _start(self) -> Message:
        if not self.messages:
            raise LookupError("the response has not started")
        return self.messages[0]

    def _raise_if_broken(self) -> None:
        error = self._broken()
        if error is not None:
            self._reported = True
            raise error

    def __repr__(self) -> str:
        kinds = [message["type"].removeprefix("http.response.") for message in self.messages[-10:]]
        return (
            f"<{type(self).__name__} {len(self.messages)} messages ...{kinds} "
            f"finished={self.is_finished} disconnected={self.is_disconnected}>"
        )
