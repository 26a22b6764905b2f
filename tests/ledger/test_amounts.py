"""Random lives of the rules and of every ledger, beside an oracle that knows the turns alone."""

from collections import Counter

import pytest

from tests.ledger.conftest import Tell
from tests.ledger.oracle import Life
from tests.ledger.server import Server
from tests.ledger.stories import MemoryStory, RedisStory, SQLiteStory
from tests.support.soak import amount

LIVES, STEPS = amount(240, 20_000), amount(50, 100)
SHARDS = amount(2, 80)
EACH = LIVES // SHARDS


@pytest.mark.soak
@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_rules_and_the_ledgers_count_what_the_turns_cost(
    shard: int, redis_server: Server, tell: Tell
) -> None:
    total: Counter[str] = Counter()
    with SQLiteStory.opened() as sqlite, RedisStory.opened(redis_server) as redis:
        for number in range(EACH):
            life = Life(1_000_003 * shard + number)
            life.live(STEPS)
            for ledger in (MemoryStory(), sqlite, redis):
                ledger.tell(life)
            total.update(life.counts)
    tell(f"{EACH} lives of {STEPS} steps, no difference: {dict(total)}")
    rare = total.pop("changed prices"), total.pop("by hand")
    assert min(rare) > EACH // 10
    assert min(total.values()) > EACH
