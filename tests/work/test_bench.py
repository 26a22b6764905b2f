"""The benchmark counts every token, sees what is lost, and says whether a target is met."""

from functools import partial

import pytest

from benchmarks.figures import Figures
from benchmarks.load import Lost, Reader, question, read_all, run
from benchmarks.report import costs, verdicts
from benchmarks.rush import rush
from benchmarks.targets import Target
from benchmarks.upstream import HEAD, TOKEN, end, upstream_process


class Transport:
    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1_000, 100_000])
def test_a_reader_counts_each_token_once_however_the_bytes_come(size):
    ended: list[Reader] = []
    reader = Reader(ended.append)
    reader.connection_made(Transport())  # type: ignore[arg-type]
    answer = HEAD + TOKEN * 9 + end(9)

    for _ in range(2):
        reader.ask(b"")
        for start in range(0, len(answer), size):
            assert len(ended) == 0
            reader.data_received(answer[start : start + size])
        assert (len(ended), reader.seen, reader.lost) == (1, 9, None)
        ended.clear()


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", HEAD + TOKEN], ids=["refused", "cut"]
)
def test_a_reader_sees_what_is_lost(data):
    ended: list[Reader] = []
    reader = Reader(ended.append)
    reader.connection_made(Transport())  # type: ignore[arg-type]

    reader.ask(b"")
    reader.data_received(data)
    reader.connection_lost(None)

    assert len(ended) == 1
    assert isinstance(reader.lost, Lost)


@pytest.mark.process
def test_the_model_says_what_it_was_asked_for():
    with upstream_process() as upstream:
        for tokens, gap in ((1, 0), (3_000, 0), (3, 2)):
            ask = question(tokens, gap)
            run(partial(read_all, upstream.port, ask, total=40, at_once=20, tokens=tokens))
        with pytest.raises(Lost):
            run(partial(read_all, upstream.port, question(2), total=2, at_once=1, tokens=3))


@pytest.mark.process
def test_a_rush_has_a_time_for_each_of_its_streams_and_loses_none():
    with upstream_process() as upstream:
        times = run(partial(rush, upstream.port, question(25, 20)))
        with pytest.raises(Lost):
            run(partial(rush, upstream.port, question(24, 20)))

    assert len(times) == 100
    assert min(times) > 0


def figures() -> Figures:
    found = Figures()
    for us in (9.0, 1.0, 3.0):
        found.add("paced", "chatnest", {"us": us})
        found.add("paced", "nginx", {"us": us / 2})
    return found


def test_a_target_is_met_or_not():
    most = Target("paced", "us", 2.0, "nginx", aim=1.5)
    least = Target("paced", "us", 3.1, least=True)

    assert most.verdict(figures()) == "2: met"
    assert least.verdict(figures()) == "3: NOT MET"
    assert Target("short", "us", 1.0).verdict(figures()) == "not measured"


def test_a_table_has_medians_their_spread_and_the_ratio():
    assert "| nginx | **1.50** (0.50-4.50) | 2.00 |" in costs(figures())
    assert "paced us: chatnest / nginx" in verdicts(figures())
