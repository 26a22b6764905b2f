"""A server that can send without waiting, as ``chatnest serve`` can, in a Conversation's place."""

from collections.abc import Callable
from typing import Any

from chatnest import testing
from chatnest.asgi import SEND_NOW

__all__ = ["SendsNow"]


class SendsNow(testing.Conversation):
    """Takes pieces of a body at once while the client reads. ``sent_now`` are those."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sent_now: list[bytes] = []
        self.scope["extensions"] = {SEND_NOW: self}

    def belongs_to(self, send: object) -> bool:
        return send == self._send

    def piece(self, encode: Callable[[Any], bytes], content: Any) -> bool:
        unread = self._stalled and self._room <= 0
        if unread or self.is_disconnected or self._send_error is not None:
            return False
        body = encode(content)
        message = {"type": "http.response.body", "body": body, "more_body": True}
        self._rules.check(message)
        self._room -= len(body)
        self._take_in(message)
        self._tell()
        self.sent_now.append(body)
        return True
