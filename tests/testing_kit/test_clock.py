"""ManualClock."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from chatnest.testing import ManualClock


def test_stands_still_until_it_is_moved():
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    assert clock() == clock() == 1_772_323_200_000
    assert clock.advance(seconds=1.5) == clock() == 1_772_323_201_500
    assert clock.now == datetime(2026, 3, 1, 0, 0, 1, 500_000, tzinfo=UTC)


def test_jumps_back_and_takes_any_zone():
    clock = ManualClock()
    instant = datetime(2025, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-5)))
    clock.set(instant)
    assert clock.now == instant
    assert isinstance(clock(), int)


def test_refuses_what_is_not_clear():
    with pytest.raises(ValueError, match="time zone"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake under test
    with pytest.raises(ValueError, match="expected a number >= 0"):
        ManualClock().advance(seconds=-1)
