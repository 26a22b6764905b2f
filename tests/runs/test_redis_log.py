"""What only Redis does: a key and its run are two places, of which one may be gone."""

from uuid import uuid4

import anyio
import pytest

from chatnest.ledger.redis import RedisLedger
from chatnest.runs.redis import RedisRunLog
from tests.runs.test_run_log import OTHER, RUN, begin

_DELETE = "return redis.call('DEL', KEYS[1], KEYS[2])"


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_a_key_whose_run_is_gone_is_free(redis_server):
    """As after half of a drop, or an eviction."""
    books = RedisLedger(redis_server.url, prefix=uuid4().hex, timeout=10)
    log = RedisRunLog(books)
    try:
        assert (await begin(log)).mine
        await books.script(_DELETE, log._places(RUN), ())

        with anyio.fail_after(20):
            again = await begin(log, OTHER)
        assert (again.mine, again.run_id) == (True, OTHER)
        assert not (await begin(log, "c" * 32)).mine
    finally:
        await books.aclose()
