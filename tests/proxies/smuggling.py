"""Attackers that send requests within requests, beside users who each want their own answer."""

import json
import threading
from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any, Final

from tests.servers.support import Client, ask

__all__ = ["SMUGGLED", "Battle"]

SMUGGLED: Final = "smuggled"
"""What nobody asks, but for a request within a request."""

_PATH: Final = "/api/chat"
_WAIT: Final = 0.3
"""Seconds for which an attacker waits for an answer that may never come."""
_PAD: Final = b"\r\n" * 150_000
"""Skipped by a parser wherever its read ends, which is within it: no read is as large."""


def _inner(user: str = "victim") -> bytes:
    body = json.dumps(ask(SMUGGLED)).encode()
    head = f"POST {_PATH} HTTP/1.1\r\nHost: localhost\r\nX-User: {user}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _outer(*fields: str, path: str = "/healthz", method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def _attacks() -> Iterator[list[bytes]]:
    """Each as what is sent, one after the other."""
    inner = _inner()
    eve, kind = "X-User: eve", "Content-Type: application/json"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
    padded = _PAD + inner
    for upgrade in ("h2c", "websocket", "x"):
        fields = ("Connection: Upgrade", f"Upgrade: {upgrade}", eve, kind)
        for path in ("/healthz", _PATH, "/"):
            length = f"Content-Length: {len(padded)}"
            yield [_outer(*fields, length, path=path) + padded]
            yield [_outer(*fields, length, path=path), _PAD, inner]
            short = _PAD[:100_000] + inner  # for proxies that send all before they get an answer
            yield [_outer(*fields, f"Content-Length: {len(short)}", path=path) + short]
        yield [_outer(*fields, "Transfer-Encoding: chunked", path=_PATH), chunks]
        yield [_outer(*fields, f"Content-Length: {len(inner)}", path=_PATH), inner]
    yield [_outer(eve, kind, f"Content-Length: {len(inner)}", path=f"{_PATH}/limits"), inner]
    yield [_outer(eve, "Expect: 100-continue", f"Content-Length: {len(inner)}", path="/"), inner]
    yield [_outer(eve, kind, "Expect: 100-continue", "Content-Length: 999999", path=_PATH), inner]
    yield [_outer(eve, "Expect: x", f"Content-Length: {len(inner)}", path=_PATH), inner]
    yield [_outer(eve, kind, "Content-Length: 5", "Transfer-Encoding: chunked") + chunks]
    yield [_outer(eve, kind, "Transfer-Encoding: chunked, identity") + chunks]
    yield [_outer(eve, kind, "Transfer-Encoding: xchunked") + chunks]
    trailer = b"0\r\nX-User: victim\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    yield [_outer(eve, kind, "Trailer: X-User", "Transfer-Encoding: chunked"), trailer]
    yield [_outer("Connection: Upgrade", "Upgrade: h2c", method="GET") + inner.replace(b"a", b"b")]


class Battle:
    """Six users and four attackers at one port, until each user has asked so often or ``over``."""

    def __init__(self, port: int, *, users: int = 6, attackers: int = 4) -> None:
        self._port = port
        self._users, self._attackers = users, attackers
        self._number = count()
        self._done = threading.Event()
        self.answers = 0
        self.refused = 0
        self.wrong: list[str] = []
        self.failures: list[str] = []
        self.attacks = 0

    def fight(self, over: Callable[[int], bool]) -> None:
        """``over`` is asked with the number of a user's questions so far."""
        users = [
            threading.Thread(target=self._user, args=(number, over))
            for number in range(self._users)
        ]
        attackers = [
            threading.Thread(target=self._attack, args=(number,))
            for number in range(self._attackers)
        ]
        for thread in (*users, *attackers):
            thread.start()
        for thread in users:
            thread.join()
        self._done.set()
        for thread in attackers:
            thread.join()

    def _user(self, number: int, over: Callable[[int], bool]) -> None:
        client: Client | None = None
        asked = 0
        while not over(asked):
            asked += 1
            word = f"word{next(self._number)}of{number}"
            try:
                client = client or Client(self._port)
                client.request("POST", body=ask(word), headers=[f"X-User: user{number}"])
                reply = client.reply()
                reply.read_all()
            except (OSError, EOFError, ValueError) as exc:
                self.failures.append(f"{type(exc).__name__} {exc}"[:200])
                if client is not None:
                    client.socket.close()
                client = None
                continue
            if reply.status != 200:
                self.refused += 1
            elif reply.text != word:
                self.wrong.append(f"{word}: {reply.text}"[:200])
            self.answers += reply.status == 200
            if reply.headers.get("connection") == "close":
                client.socket.close()
                client = None
        if client is not None:
            client.socket.close()

    def _attack(self, number: int) -> None:
        attacks: Any = cycle(list(_attacks()))
        for _ in range(7 * number):  # each begins elsewhere
            next(attacks)
        while not self._done.is_set():
            parts = next(attacks)
            try:
                with Client(self._port) as client:
                    client.socket.settimeout(_WAIT)
                    for part in parts:
                        client.socket.sendall(part)
                        if part is not parts[-1]:
                            self._done.wait(0.01)  # so that it is a read of its own
                    while client.socket.recv(65_536):
                        pass
            except OSError:
                pass
            self.attacks += 1
