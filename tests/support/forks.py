"""Commands of Python that start at once: a process that has imported everything forks for each.

A server takes two seconds of CPU to import and to load its ranks; a tutorial starts seven.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from tests.support.waiting import PATIENCE, wait_for

__all__ = ["Fork", "Forks"]


class Fork:
    """A command that runs. ``printed`` is what it has written so far."""

    def __init__(self, forks: "Forks", pid: int, out: Path) -> None:
        self._forks = forks
        self._out = out
        self._status: int | None = None
        self.pid = pid

    @property
    def printed(self) -> str:
        return self._out.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has written a text. Raises AssertionError if it ends without."""
        wait_for(lambda: text in self.printed or self.has_ended())
        assert text in self.printed, self.printed

    def has_ended(self) -> bool:
        if self._status is None:
            self._status = self._forks.ask({"poll": self.pid})
        return self._status is not None

    def stop(self) -> None:
        """Press Ctrl+C, and wait for its end."""
        if not self.has_ended():
            os.kill(self.pid, signal.SIGINT)
        self.wait()

    def wait(self) -> int:
        """Its exit status."""
        wait_for(self.has_ended)
        assert self._status is not None
        return self._status


class Forks:
    """A process that has called ``prepare``, and forks. What is printed is kept below ``place``.

    Functions are named as entry points are, ``module:name``, and take no arguments.
    """

    def __init__(self, place: Path, prepare: str) -> None:
        self._place = place
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forks", prepare],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and so all that it has started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()

    def start(self, main: str, arguments: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Fork:
        """Run a function as the program of a process, with ``sys.argv``."""
        self._count += 1
        out = self._place / f"printed-{self._count}"
        out.touch()
        wish = {"main": main, "argv": [*arguments], "cwd": str(cwd), "env": {**env}}
        return Fork(self, self.ask({**wish, "out": str(out)}), out)

    def ask(self, wish: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _named(name: str) -> Callable[[], object]:
    module, _, function = name.partition(":")
    found: Callable[[], object] = getattr(import_module(module), function)
    return found


def _serve() -> None:
    """Fork for each line of standard input, until its end."""
    _named(sys.argv[1])()
    started: set[int] = set()
    for line in sys.stdin:
        wish = json.loads(line)
        if "poll" in wish:
            pid, status = os.waitpid(wish["poll"], os.WNOHANG)
            started.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif answer := os.fork():
            started.add(answer)
        else:
            _run(wish)
        print(json.dumps(answer), flush=True)
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _run(wish: dict[str, Any]) -> None:
    """Be the command, from here to its end."""
    out = os.open(wish["out"], os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(out, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(wish["cwd"])
    os.environ.clear()
    os.environ.update(wish["env"])
    sys.argv = wish["argv"]
    sys.path[0] = wish["cwd"]
    status = 1
    try:
        _named(wish["main"])()
        status = 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - the command's own, which belongs to what it prints
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
