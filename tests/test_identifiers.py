"""Identifiers are UUIDs of version 7: in the order of their times, and otherwise random."""

import time
import uuid

import pytest

from chatnest._util.identifiers import new_request_id


def test_they_are_uuids_of_version_7_in_32_digits():
    before = time.time_ns() // 1_000_000
    made = [new_request_id() for _ in range(1_000)]
    after = time.time_ns() // 1_000_000

    for each in made:
        parsed = uuid.UUID(each)
        assert parsed.hex == each
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert before <= parsed.int >> 80 <= after
    assert len(set(made)) == len(made)


def test_all_other_bits_are_random():
    made = [uuid.UUID(new_request_id()).int for _ in range(1_000)]
    ones = [sum(each >> bit & 1 for each in made) for bit in range(80)]
    fixed = {76, 77, 78, 79, 62, 63}

    assert all(350 < ones[bit] < 650 for bit in range(80) if bit not in fixed)


def test_those_of_one_time_come_before_those_of_the_next(monkeypatch: pytest.MonkeyPatch):
    now = 1_800_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: now * 1_000_000)
    made = []
    for _ in range(100):
        made.append(new_request_id())
        now += 1

    assert made == sorted(made)
