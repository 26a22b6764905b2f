"""``chatnest serve --workers``: workers that start slowly, end or hang, and their parent."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.support import Process, children, runs
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

SLOW_TO_START = """
import os, pathlib, sys
if "--multiprocessing-fork" in sys.orig_argv:
    pathlib.Path(f"starting.{os.getpid()}").touch()
    open("gate").close()  # a FIFO: waits until somebody has opened the other end
"""
"""What each worker runs before anything else."""


IMPATIENT = """
from chatnest.cli import main
from chatnest.server import workers
assert workers._HANGS_SECONDS
workers._HANGS_SECONDS = 1
main()
"""


class SlowWorkers:
    """A server whose two workers do not begin until they are let."""

    def __init__(self, folder: Path, *command: str) -> None:
        os.mkfifo(folder / "gate")
        (folder / "sitecustomize.py").write_text(SLOW_TO_START)
        arguments = [*command, "serve", "--demo", "--port", "0", "--workers", "2"]
        self.process = Process(arguments, cwd=folder, PYTHONPATH=str(folder))
        self._folder = folder

    @property
    def starting(self) -> set[int]:
        """All workers so far, also those that are past it or have ended."""
        return {int(each.suffix[1:]) for each in self._folder.glob("starting.*")}

    def wait_for(self, number: int) -> None:
        """So many, with those that have ended."""
        wait_for(lambda: len(self.starting) == number)

    @contextmanager
    def let(self) -> Iterator[None]:
        gate = os.open(self._folder / "gate", os.O_RDWR)
        yield
        os.close(gate)


@pytest.fixture
def slow(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SlowWorkers]:
    """Both are starting."""
    slow = SlowWorkers(tmp_path, *getattr(request, "param", ("-m", "chatnest")))
    with slow.process:
        slow.wait_for(2)
        yield slow


impatient = pytest.mark.parametrize("slow", [("-c", IMPATIENT)], ids=["impatient"], indirect=True)


def test_who_is_slow_to_start_is_waited_for(slow):
    """Its parent hears signals meanwhile."""
    for number in (3, 4):  # the fourth is asked for when the parent has looked at the others
        slow.process.signal(signal.SIGTTIN)
        slow.wait_for(number)
    assert slow.starting <= set(children(slow.process.pid))
    with slow.let():
        slow.process.ready()
        assert slow.starting <= set(children(slow.process.pid))
        slow.process.signal(signal.SIGTERM)
        slow.process.wait()
    assert not any("in its place" in line for line in slow.process.lines)


def test_who_ends_before_it_has_begun_is_replaced(slow):
    first, second = slow.starting
    slow.process.signal(signal.SIGTTIN)
    slow.wait_for(3)  # by now it has looked at the two
    with slow.let():
        os.kill(first, signal.SIGKILL)
        slow.process.find(f"worker replaced: worker={first} cause=exit status -9")
        slow.wait_for(4)
        assert runs(second)
        slow.process.signal(signal.SIGTERM)
        slow.process.wait()


@impatient
def test_who_hangs_before_it_has_begun_is_replaced(slow):
    slow.wait_for(4)
    slow.process.find("worker replaced: .* cause=no answer")


@impatient
def test_who_hangs_later_is_replaced(slow):
    """Who is stopped neither speaks nor ends."""
    with slow.let():
        slow.process.ready()
        hangs, *_ = slow.starting & set(children(slow.process.pid))
        os.kill(hangs, signal.SIGSTOP)
        slow.process.find(f"worker replaced: worker={hangs} cause=no answer")
        slow.process.ready()
        slow.process.signal(signal.SIGTERM)
        slow.process.wait()
