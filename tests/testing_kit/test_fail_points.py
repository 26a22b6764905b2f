"""FailPoints: each point of a ledger's calls, and each way to fail there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Admitted, Charge, Ledger, Limit, Reservation
from chatnest.ledger.memory import MemoryLedger
from chatnest.testing import FailPoints

pytestmark = pytest.mark.anyio

BUDGET = Limit(name="tokens", unit="tokens", window="day", account="ann", amount=1_000)
WISH = Reservation(id="turn-1", limits=(BUDGET,), output=100, min_output=100)


async def held(ledger: Ledger) -> int:
    (state,) = await ledger.usage((BUDGET,))
    return state.held


@pytest.fixture
def ledger() -> FailPoints:
    return FailPoints(MemoryLedger())


async def test_unarmed_it_is_the_ledger(ledger: FailPoints):
    admitted = await ledger.reserve(WISH)
    assert isinstance(admitted, Admitted)
    await ledger.renew(admitted.hold, 1_000)
    await ledger.settle(admitted.hold, Charge(tokens=7))
    await ledger.release(WISH)
    await ledger.check()
    (state,) = await ledger.usage((BUDGET,))
    await ledger.aclose()

    assert (state.used, state.held) == (7, 0)
    assert set(ledger.reached.values()) == {1}
    assert len(ledger.reached) == 12
    assert ledger.fired == []


@pytest.mark.parametrize(
    ("point", "action", "done"),
    [
        ("reserve.before", "raise", 0),
        ("reserve.after", "raise", 100),
        ("reserve.after", "lose", 100),
    ],
)
async def test_before_or_after_it_was_done(ledger: FailPoints, point: str, action: str, done: int):
    ledger.arm(point, action)
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(WISH)
    assert await held(ledger.ledger) == done
    assert ledger.fired == [(point, action)]
    await ledger.reserve(WISH)  # once only


async def test_a_hang_ends_by_cancellation(ledger: FailPoints):
    ledger.arm("check.before", "hang")
    with anyio.move_on_after(0) as scope:
        await ledger.check()
    assert scope.cancelled_caught


async def test_of_several_who_see_a_file_one_fires(tmp_path: Path):
    workers = [FailPoints(MemoryLedger(), folder=tmp_path) for _ in range(4)]
    workers[0].plant(tmp_path, "check.after", "raise")
    failed = 0
    for worker in workers:
        try:
            await worker.check()
        except LedgerUnavailable:
            failed += 1
    assert failed == 1
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize("point", ["settle", "sattle.before", ""])
def test_a_wrong_name_is_told(ledger: FailPoints, point: str):
    with pytest.raises(ValueError, match="point: expected one of"):
        ledger.arm(point, "raise")


def test_a_wrong_action_is_told(ledger: FailPoints, tmp_path: Path):
    with pytest.raises(ValueError, match="action: expected one of"):
        ledger.arm("check.before", "explode")
    with pytest.raises(
        ValueError, match=r"after a call for 'lose', got 'check\.before'\. Arm 'check\.after'"
    ):
        ledger.arm("check.before", "lose")
    Path(tmp_path, "typo").touch()
    with pytest.raises(ValueError, match="point: expected one of"):
        FailPoints(MemoryLedger(), folder=tmp_path)


@pytest.mark.process
def test_a_kill_is_one():
    program = """
import anyio
from chatnest.ledger.memory import MemoryLedger
from chatnest.testing import FailPoints

ledger = FailPoints(MemoryLedger())
ledger.arm("check.after", "kill")
anyio.run(ledger.check)
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        env=os.environ,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""
