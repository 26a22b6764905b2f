"""Exchange: the ASGI messages between an app and a client that a test controls."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import anyio.lowlevel

from chatnest.testing.protocol import ResponseRules

__all__ = ["App", "Exchange", "Message"]

Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Exchange:
    """One request and its response: `receive` and `send` of the app, and the actions of the client.

    With `head`, the response has no body. After a disconnect, `receive` returns it again on each
    call, unless `repeat_disconnect` is False: then the second call blocks.
    """

    def __init__(self, app: App, *, head: bool, repeat_disconnect: bool) -> None:
        self.app = app
        self.messages: list[Message] = []
        """Messages that the app sent and the client read, in order."""
        self.late: list[Message] = []
        """Messages that the app sent after the disconnect. A server would drop them."""
        self.is_finished: bool = False
        """Whether the app has returned or raised."""
        self.is_disconnected: bool = False
        self.blocked_sends: int = 0
        """Number of calls of `send` that are blocked on the client now."""
        self.is_complete: bool = False
        """Whether the client has read the last part of the body."""
        self._rules = ResponseRules(head=head)
        self._incoming: list[Message] = []
        self._repeat_disconnect = repeat_disconnect
        self._disconnect_sent = False
        self._stalled = False
        self._room = 0
        self._send_error: BaseException | None = None
        self._error: Exception | None = None
        self._changed = anyio.Event()

    # The client's actions

    def send_body(self, body: bytes = b"", *, more: bool = False) -> None:
        """Hand a part of the request's body to the app. It is the last part unless `more`."""
        self._incoming.append(_body(body, more=more))
        self._notify()

    def disconnect(self) -> None:
        """Disconnect: `receive` returns `http.disconnect`, and blocked calls of `send` return."""
        self.is_disconnected = True
        self._notify()

    def stall(self, room: int = 0) -> None:
        """Stop reading: `send` blocks once it has taken `room` more bytes of body.

        The message of a blocked `send` is not in `messages` until `resume`.
        """
        self._stalled = True
        self._room = room

    def resume(self) -> None:
        """Start reading again after `stall`."""
        self._stalled = False
        self._notify()

    def fail_send(self, error: BaseException | None) -> None:
        """Let every `send` from now on raise `error`, as some servers do after a disconnect."""
        self._send_error = error

    # The server's side

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await self.app(scope, self._receive, self._send)
            if not self.is_disconnected:
                self._rules.returned()
        except Exception as error:  # noqa: BLE001 - raised again where the test waits
            self._error = error
        finally:
            self.is_finished = True
            self._notify()

    async def _receive(self) -> Message:
        while not self._incoming:
            over = self.is_disconnected or self.is_complete
            if over and (self._repeat_disconnect or not self._disconnect_sent):
                self._disconnect_sent = True
                return {"type": "http.disconnect"}
            await self._changed.wait()
        await anyio.lowlevel.checkpoint()
        return self._incoming.pop(0)

    async def _send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        self._rules.check(message)
        if self._send_error is not None:
            raise self._send_error
        await self._wait_for_room(len(message.get("body", b"")))
        self._take_in(message)
        self._notify()

    def _take_in(self, message: Message) -> None:
        if self.is_disconnected:
            self.late.append(message)
            return
        self.messages.append(message)
        self.is_complete = self._rules.complete and message["type"] == "http.response.body"

    async def _wait_for_room(self, size: int) -> None:
        self._room -= size
        if not self._blocks():
            return
        self.blocked_sends += 1
        self._notify()
        try:
            while self._blocks():
                await self._changed.wait()
        finally:
            self.blocked_sends -= 1

    def _blocks(self) -> bool:
        return self._stalled and self._room < 0 and not self.is_disconnected

    def _broken(self) -> Exception | None:
        return self._rules.violation or self._error

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def _body(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}
