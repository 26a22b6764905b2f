"""A window in rows is the same as one in memory, and costs the same however much is in it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatnest.ledger.sqlite import window as _sqlite_window
from chatnest.ledger.sqlite.schema import _WINDOWS
from chatnest.ledger.sqlite.window import RowWindow
from chatnest.ledger.window import ListWindow, Window

LENGTH = 10


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(opened()) as connection:
        yield connection


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(_WINDOWS)
    return connection


def seen(window: Window) -> list[int]:
    return [window[index] for index in range(len(window))]


def filled(connection: sqlite3.Connection, times: range, key: str = "k") -> None:
    window = RowWindow(connection, key)
    for time in times:
        window.append(time)
    window.write(times[-1])


Steps = st.lists(
    st.tuples(
        st.sampled_from([-2 * LENGTH, -3, 0, 0, 0, 1, 1, 2, LENGTH - 1, LENGTH, 3 * LENGTH]),
        st.integers(0, 9),  # so many are admitted
        st.booleans(),  # and the transaction ends
    ),
    max_size=30,
)


@settings(max_examples=300, derandomize=True)
@given(steps=Steps, most=st.integers(1, 4))
def test_it_is_the_same_as_one_in_memory(steps: list[tuple[int, int, bool]], most: int):
    with closing(opened()) as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sqlite_window, "_MOST", most)
        filled(connection, range(7), key="another")
        here, there, now = ListWindow(), RowWindow(connection, "k"), 1_000
        for passed, admitted, ends in steps:
            now += passed
            for window in (here, there):
                window.slide(LENGTH, now)
                for _ in range(admitted):
                    window.append(now)
            assert seen(there) == here
            if ends:
                there.write(now)
                there = RowWindow(connection, "k")
                assert seen(there) == here
        assert seen(RowWindow(connection, "another")) == list(range(7))


@pytest.mark.parametrize("before", [100, 20_000])
def test_one_more_costs_the_same_however_many_there_are(
    connection: sqlite3.Connection, before: int
):
    filled(connection, range(before))
    read_and_written: list[str] = []
    connection.set_trace_callback(read_and_written.append)

    window = RowWindow(connection, "k")
    window.slide(before, before)  # the oldest leaves
    window.append(before)
    assert (len(window), window[0]) == (before, 1)
    window.write(before)
    assert len(read_and_written) <= 3
    assert sum(map(len, read_and_written)) < 4_000


def test_what_is_not_changed_is_not_written(connection: sqlite3.Connection):
    filled(connection, range(500))
    changes = connection.total_changes

    window = RowWindow(connection, "k")
    window.slide(1_000, 500)
    assert len(window) == 500
    window.write(500)
    assert connection.total_changes == changes


def test_parts_that_have_left_are_deleted(connection: sqlite3.Connection):
    filled(connection, range(1_000))
    rows = "SELECT count(*) FROM windows"
    assert connection.execute(rows).fetchone() == (8,)

    window = RowWindow(connection, "k")
    window.slide(100, 1_000)
    assert seen(window) == list(range(901, 1_000))
    window.write(1_000)
    assert connection.execute(rows).fetchone() == (1,)


def test_parts_that_were_forgotten_are_not_missed(connection: sqlite3.Connection):
    filled(connection, range(1_000))
    connection.execute("DELETE FROM windows WHERE part < 3")

    window = RowWindow(connection, "k")
    window.slide(700, 1_000)
    assert seen(window)[-600:] == list(range(400, 1_000))
    window.slide(100, 1_000)
    assert seen(window) == list(range(901, 1_000))


@pytest.mark.parametrize("forgotten", [3, 8])
def test_what_was_forgotten_counts_until_what_follows_it_leaves(
    connection: sqlite3.Connection, forgotten: int
):
    """As after a clock that was set back, since nothing is forgotten that is in a window yet."""
    filled(connection, range(1_100))
    connection.execute("DELETE FROM windows WHERE part < ?", (forgotten,))

    window = RowWindow(connection, "k")
    window.slide(2_000, 1_100)
    kept = forgotten * 128
    assert seen(window) == [0, *[kept] * (kept - 1), *range(kept, 1_100)]
