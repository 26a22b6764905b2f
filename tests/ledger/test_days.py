"""The day that was asked for last is kept, and never taken for another."""

import random
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from chatnest.ledger import days
from chatnest.ledger.days import day_end, day_of
from tests.ledger.support import DAY, HOUR, MINUTE, SECOND, utc

ZONES = (
    "UTC",
    "Africa/Cairo",  # where days of another length begin at midnight
    "America/Santiago",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # half an hour
    "Europe/Berlin",
    "Pacific/Apia",  # which had no 30 December 2011
)


@pytest.mark.parametrize("zone", ZONES)
def test_whatever_was_asked_before_the_answer_is_the_same(
    zone: str, monkeypatch: pytest.MonkeyPatch
):
    dice = random.Random(zone)
    now = utc("2011-12-20T00:00")
    kept: dict[str, days._Day] = {}
    while now < utc("2013-01-01T00:00"):
        now += dice.choice([-DAY, -HOUR, -1, 0, 1, SECOND, MINUTE, HOUR, 5 * HOUR, DAY, DAY])
        monkeypatch.setattr(days, "_latest", kept)
        answers = day_of(now, zone), day_end(now, zone)
        monkeypatch.setattr(days, "_latest", {})
        assert answers == (day_of(now, zone), day_end(now, zone))


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_ends_where_the_next_begins(zone: str):
    end = day_end(utc("2011-12-20T00:00"), zone)
    for _ in range(400):
        before, after = day_of(end - 1, zone), day_of(end, zone)
        assert (
            before < after == datetime.fromtimestamp(end / 1000, ZoneInfo(zone)).date().isoformat()
        )
        end = day_end(end, zone)
