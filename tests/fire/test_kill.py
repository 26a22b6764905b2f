"""``kill -9`` of one of several workers, in the middle of streams, at each point around the ledger.
There is money for a few requests more, and exactly these are admitted after it.

Two workers here, four in a soak.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from chatnest.testing import Answer, FailPoints, FakeUpstream
from tests.fire.app import HOLD_MONEY, LEASE
from tests.fire.support import DONE, Books, chat, limits, send, serving
from tests.servers.support import Client
from tests.support.soak import amount
from tests.support.waiting import wait_for

OTHERS = amount(1, 3)
"""Workers beside the one that is killed."""

EACH = 3
"""Streams that run at each worker."""

USERS = "ann", "bob", "cid", "dan"

MONEY = (EACH * (1 + OTHERS) + 3 + OTHERS) * HOLD_MONEY
"""What everybody has: for those streams, for one that the dying worker answers, and a few more."""

Tell = Callable[[str, object], None]


def provoke(operation: str, port: int, points: Path, planted: Path, upstream: FakeUpstream) -> None:
    """Have a worker reach the point that was planted."""
    gone = contextlib.suppress(OSError, EOFError)
    if operation == "renew":
        pass  # the running streams do, soon
    elif operation == "release":  # an admission whose client leaves is undone
        hanging = FailPoints.plant(points, "reserve.after", "hang")
        with gone, send(port, "bob"):
            wait_for(lambda: not hanging.exists())
    else:
        if operation == "settle":  # the others have no answer
            upstream.script(Answer())
        with gone:
            chat(port, "bob")
    wait_for(lambda: not planted.exists())


@pytest.mark.soak
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", ["reserve", "renew", "settle", "release"])
def test_the_others_go_on_and_nothing_is_lost(
    tmp_path: Path, upstream: FakeUpstream, where: str, operation: str, when: str
):
    points = tmp_path / "points"
    points.mkdir()
    upstream.default = Answer.stall(1)
    with contextlib.ExitStack() as stack:
        start = [stack.enter_context(_worker(tmp_path, upstream, where, points))]
        start += [stack.enter_context(_worker(tmp_path, upstream, where)) for _ in range(OTHERS)]
        victim, *others = start
        running = [_begin(port) for port in start for _ in range(EACH)]
        planted = FailPoints.plant(points, f"{operation}.{when}", "kill")
        provoke(operation, victim, points, planted, upstream)
        killed = time.monotonic()

        upstream.script(*[Answer()] * OTHERS)
        assert [chat(port, "cid").status for port in others] == [200] * OTHERS
        served = time.monotonic() - killed
        books = Books(where)
        more, left = admitted(others[0], books)
        upstream.release()
        whole = [_ends(client) for client in running]
        wait_for(lambda: not any(limits(others[0], user)["held"] for user in USERS))
        free = time.monotonic() - killed

    print(where[:6], operation, when, f"served after {served:.2f} s, free after {free:.2f} s")
    assert whole == [False] * EACH + [True] * OTHERS * EACH
    assert 0 < more == left, "what the dead worker held is still held, or charged"
    turns = books.turns()
    calls = len(upstream.requests)
    assert calls <= books.check_money(*USERS) <= calls + 1  # killed before its call
    assert all(used <= MONEY for user in USERS for used, _ in books.money(user))
    done = [turn for turn in turns if turn.outcome == "done"]
    assert len(done) >= OTHERS * EACH + OTHERS  # every settlement that was told is there
    assert served < 20, "two seconds, where nothing else runs"
    assert free < LEASE + 20, "a second more than the lease, where nothing else runs"


def admitted(port: int, books: Books) -> tuple[int, int]:
    """How many of a crowd are admitted, and for how many there is money. They run on."""
    (used, held) = books.money("nobody")[2]
    left = (MONEY - used - held) // HOLD_MONEY
    clients = [send(port, "dan") for _ in range(left + 3)]
    statuses = Counter(client.reply().status for client in clients)
    assert set(statuses) == {200, 429}, statuses
    for client in clients:
        client.socket.close()
    return statuses[200], left


def _worker(
    folder: Path, upstream: FakeUpstream, where: str, points: Path | None = None
) -> contextlib.AbstractContextManager[int]:
    environ = {"FIRE_LEASE": str(LEASE)}
    if points is not None:
        environ["FIRE_POINTS"] = str(points)
    return serving(folder, upstream.base_url, where, money=MONEY, **environ)


def _begin(port: int) -> Client:
    client = send(port, "ann")
    client.until(b'"Hello"')
    return client


def _ends(client: Client) -> bool:
    """Whether a stream is told to its end."""
    try:
        client.until(DONE)
    except (OSError, EOFError):
        return False
    finally:
        client.socket.close()
    return True
