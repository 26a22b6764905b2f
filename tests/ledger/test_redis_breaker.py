"""The breaker of RedisLedger, by itself."""

import pytest

from chatnest.stores.breaker import Breaker


def test_a_breaker_opens_once_and_its_pauses_vary():
    breaker = Breaker(
        first=0.05, interval=0.5, jitter=0.2, dice=iter([0.5, 0.0, 1.0, 0.5]).__next__
    )

    assert not breaker.is_open
    assert [breaker.open(), breaker.open(), breaker.is_open] == [True, False, True]
    assert [breaker.pause() for _ in range(3)] == pytest.approx([0.05, 0.4, 0.6])
    breaker.close()
    assert not breaker.is_open
    assert breaker.open()
    assert breaker.pause() == pytest.approx(0.05)
