"""Look-ups have a rate of their own, which no number of addresses makes forget."""

import pytest

from chatnest import Bounds, ChatNestApp
from chatnest.errors import LimitExceeded
from chatnest.lookups import LookUps
from chatnest.providers import DemoProvider
from chatnest.testing import Conversation

RUN = "/runs/" + "0" * 32


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def refused(look_ups: LookUps, who: str) -> LimitExceeded | None:
    try:
        look_ups.count(who)
    except LimitExceeded as exc:
        return exc
    return None


def test_a_principal_has_so_many_a_minute_and_its_refusals_count_nothing():
    clock = Clock()
    look_ups = LookUps(300, clock)

    assert [refused(look_ups, "ann") for _ in range(300)] == [None] * 300
    error = refused(look_ups, "ann")
    assert error is not None
    assert error.fields() == {
        "code": "rate_limited",
        "retryable": True,
        "retry_after": 1,
        "limit": "look_ups",
    }
    assert not error.headers
    assert all(refused(look_ups, "ann") for _ in range(1_000))
    assert refused(look_ups, "ben") is None
    clock.now += 0.2
    assert refused(look_ups, "ann") is None
    assert refused(look_ups, "ann") is not None
    clock.now += 60
    assert [refused(look_ups, "ann") for _ in range(300)] == [None] * 300


def test_addresses_without_end_take_no_memory_without_end():
    clock = Clock()
    look_ups = LookUps(300, clock)
    for n in range(50_000):
        clock.now += 0.002  # 500 a second
        look_ups.count(f"addr:{n}")

        assert len(look_ups) <= 10_000


@pytest.mark.parametrize("others", [1, 5], ids=["each once", "each five times"])
def test_a_full_table_remembers_the_one_that_asks_too_often(others):
    clock = Clock()
    look_ups = LookUps(300, clock)
    for _ in range(300):
        look_ups.count("ann")
    for n in range(40_000):  # all in the same instant, so that none is empty again
        for _ in range(others):
            look_ups.count(f"addr:{n}")

    assert len(look_ups) <= 10_000
    assert refused(look_ups, "ann") is not None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/limits", 200), ("HEAD", "/limits", 200), ("GET", RUN, 404), ("DELETE", RUN, 404)],
)
async def test_every_look_up_is_under_the_rate(method, path, status):
    app = ChatNestApp(provider=DemoProvider(), bounds=Bounds(look_ups_per_minute=2))

    async def look(method: str, path: str, client: str) -> Conversation:
        async with Conversation(app, method=method, path=path, client=(client, 1)) as c:
            await c.finished()
        return c

    replies = [await look(method, path, "2001:db8::1"), await look(method, path, "2001:db8::2")]
    assert [reply.status for reply in replies] == [status] * 2
    over = await look(method, path, "2001:db8::3")  # one subscriber, and one principal
    assert over.status == 429
    assert 0 < int(over.headers["retry-after"]) <= 30
    assert not any("ratelimit" in name for name in [*over.headers, *replies[0].headers])
    assert (await look("GET", "/limits", "2001:db8:0:1::1")).status == 200
