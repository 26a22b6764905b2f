"""What MemoryRunLog counts is what it takes, within the factor that the docs name."""

import gc
import hashlib
import tracemalloc

import pytest

from chatnest.runs.base import Batch, RunEnd
from chatnest.runs.memory import MemoryRunLog

pytestmark = pytest.mark.anyio
FACTOR = 1.5


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(("runs", "pieces", "size"), [(3_000, 1, 3), (2_000, 10, 3), (40, 500, 30)])
async def test_the_bytes_of_ended_runs_are_those_that_are_taken(runs, pieces, size):
    log = MemoryRunLog()
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(runs):
            digest = hashlib.sha256(b"%d" % number).hexdigest()
            run, key = digest[:32], digest[32:]
            await log.claim(key, owner=f"addr:{number}", fingerprint=digest, run_id=run, lease=6)
            for first in range(1, pieces + 1):
                batch = Batch(first=first, count=1, data=b'["%b"]' % (b"x" * size))
                await log.append({run: batch}, lease=6)
            end = RunEnd(outcome="done", charged=1_000 + number, source="provider")
            await log.finish(run, end)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert log._ended_size / FACTOR <= taken <= log._ended_size * FACTOR
