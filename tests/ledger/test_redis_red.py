"""The guards of the scripts taken out, one at a time, and test_red.py's checks seen to fail."""

import pytest

from chatnest.stores.redis import Script
from tests.ledger import test_red as red
from tests.ledger.conftest import MakeRedis
from tests.ledger.support import Clock

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]


# What a script says, what it says without its guard, and the check that rests on it.
GUARDS: list[tuple[str, str, str, red.Check]] = [
    (
        "reserve",
        "used + held + need > most then",
        "used + need > most then",
        red.never_more_than_fits,
    ),
    ("reserve", "if refusal then\n", "if false then\n", red.a_refusal_costs_nothing),
    ("reserve", "if known then", "if false then", red.held_once),
    ("reserve", "do expire(account) end", "do end", red.a_crash_frees_its_slot),
    ("settle", "if ended then", "if false then", red.charged_once),
    ("settle", "if part.state == 'X' then", "if false then", red.a_late_settlement_corrects),
    ("release", "if undo == 1 then", "if undo ~= 2 then", red.a_lost_answer_holds_nothing),
]


@pytest.mark.parametrize("taken_out", GUARDS, ids=lambda guard: guard[3].__name__)
async def test_without_its_guard_the_check_fails(
    make_redis: MakeRedis, clock: Clock, taken_out: tuple[str, str, str, red.Check]
):
    script, guard, instead, check = taken_out
    ledger = make_redis(clock=clock)
    text = ledger._server.scripts[script].text
    assert text.count(guard) == 1
    await check(make_redis(clock=clock), clock)

    ledger._server.scripts[script] = Script(text.replace(guard, instead))
    with pytest.raises(AssertionError):
        await check(ledger, clock)
