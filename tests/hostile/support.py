"""A chat in front of which the hostile cases are played, and what every answer has to keep to."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.responses import PlainTextResponse

from chatnest import Bounds, ChatNestApp, ChatNestMiddleware, HardCaps, OpenAIProvider
from chatnest.identity.keys import BearerKeys
from chatnest.identity.principals import TrustedHeader
from chatnest.ledger.base import Admitted, Refused, Reservation
from chatnest.testing import FakeUpstream
from tests.hostile.bodies import CANARY
from tests.hostile.cases import CLOSED, Case
from tests.servers.support import KEY, PATIENCE, Client, uvicorn_thread
from tests.streams.support import Books, profile

SLOW_BODY = 1.0
MOST_BYTES = 2_048
GRACE = 0.02
"""Seconds for an answer to what may have no end; nothing depends on it but how many are read."""
LETMEIN = "1c8bfe8f801d79745c4631d09fff36c82aa37fc4cce4fc946683d7b336b63032"


def roomy(**fields: Any) -> dict[str, Any]:
    """Arguments of an application that hardly anything limits but what is sent."""
    most = 10**9
    limits = {"requests_per_minute": most, "daily_token_limit": 10**12, **fields}
    caps = HardCaps(requests_per_minute=None, daily_token_limit=None)
    profiles = [profile(name="balanced", max_concurrent_streams=most, **limits)]
    return {"profiles": profiles, "hard_caps": caps}


class CountingBooks(Books):
    """Books that know how many were let in: who was refused there has cost nothing either."""

    def __init__(self) -> None:
        super().__init__()
        self.admitted = 0

    async def reserve(self, reservation: Reservation) -> Admitted | Refused:
        answer = await super().reserve(reservation)
        self.admitted += isinstance(answer, Admitted)
        return answer


@dataclass
class Target:
    """A server under attack, and what it has done."""

    port: int
    upstream: FakeUpstream
    books: CountingBooks

    def is_well(self) -> None:
        """An honest request is answered, and nothing is held."""
        with Client(self.port) as client:
            reply = client.chat()
            assert reply.read_all().endswith(b"event: done\ndata: \n\n")
            limits = {
                limit["name"]: limit for limit in client.get("/api/chat/limits").json()["limits"]
            }
        assert (limits["tokens"]["held"], limits["streams"]["held"]) == (0, 0)

    @property
    def taken(self) -> tuple[int, int]:
        """Requests that the model saw, and those that were let in."""
        return len(self.upstream.requests), self.books.admitted


@contextmanager
def under_attack(
    upstream: FakeUpstream, *, body_seconds: float = PATIENCE, **options: Any
) -> Iterator[Target]:
    """A real uvicorn with three chats: by address, by a proxy's header, and by keys. A body is
    waited for as long as a busy machine may take for it, unless that is what is tried.
    """
    books = CountingBooks()
    shared = {
        "provider": OpenAIProvider(base_url=upstream.base_url, api_key=KEY),
        "ledger": books,
        "bounds": Bounds(body_seconds=body_seconds, lag_seconds=60),
        **roomy(),
    }
    app: Any = PlainTextResponse("", status_code=404)
    for path, identify in (
        ("/keys", BearerKeys({"ann": LETMEIN})),
        ("/header", TrustedHeader("x-user")),
        ("/api/chat", None),
    ):
        app = ChatNestMiddleware(app, chat=ChatNestApp(identify=identify, **shared), path=path)
    with uvicorn_thread(app, proxy_headers=False, **options) as port:
        yield Target(port, upstream, books)


class Attack:
    """One case on a connection of its own: send it, and then see what came back. What is not
    ``whole`` may leave the server waiting, so the connection is closed behind it.
    """

    def __init__(self, port: int, case: Case, *, whole: bool = True) -> None:
        self.case = case
        self.client = Client(port)
        self.raw = b""
        self._send(case.sent)
        if not whole and not select.select([self.client.socket], [], [], GRACE)[0]:
            with suppress(OSError):
                self.client.socket.shutdown(socket.SHUT_WR)
        if case.leaves:
            self.client.socket.close()

    def trickle(self, index: int) -> None:
        if index < len(self.case.pauses):
            self._send(self.case.pauses[index])

    def _send(self, data: bytes) -> None:
        with suppress(OSError):  # it may be answered and closed before all was sent
            self.client.socket.sendall(data)

    def status(self) -> int:
        """The status of the answer, once it has come; it must be small, and repeat nothing."""
        if self.case.leaves:
            return CLOSED
        self.client.socket.settimeout(PATIENCE)
        try:
            self.raw = self.client.until(b"\r\n\r\n").partition(b"\r\n\r\n")[0]
            status = int(self.raw.split(b" ")[1])
            if not self.case.sent.startswith(b"HEAD"):
                self.raw += self.client.reply().read_all()
        except (EOFError, OSError):
            return CLOSED
        assert CANARY.lower().encode() not in self.raw.lower(), (self.case.name, self.raw)
        if status != 200:
            assert len(self.raw) <= MOST_BYTES, (self.case.name, len(self.raw))
        return status

    def close(self) -> None:
        self.client.socket.close()


def play(target: Target, cases: list[Case]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Those of the cases that were answered otherwise than they should be."""
    before = target.taken
    attacks = [Attack(target.port, case) for case in cases]
    for index in range(max(len(case.pauses) for case in cases)):
        time.sleep(SLOW_BODY / 20)
        for attack in attacks:
            attack.trickle(index)
    wrong, accepted = {}, 0
    for attack in attacks:
        status = attack.status()
        attack.close()
        accepted += status == 200
        if status not in attack.case.status:
            wrong[attack.case.name] = (status, attack.case.status)
    after = target.taken
    if not accepted:
        assert after == before, "what was refused has cost something"
    return wrong
