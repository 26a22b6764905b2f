"""A server that is measured: a process on a core of its own, and the time that it takes."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import question

CORE = 1
LOAD_CORE = 0


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    pid: int
    path: str = "/api/chat"

    def question(self, tokens: int, gap: int | str = 0, *, key: str | None = None) -> bytes:
        """A request for so many tokens, ``gap`` milliseconds apart; see the upstream's plan."""
        return question(tokens, gap, self.path, key=key)

    def cpu_seconds(self) -> float:
        """Of the process and all below it, user and system."""
        return sum(cpu_seconds(pid) for pid in tree(self.pid))

    def waited_seconds(self) -> float:
        """Ready to run, while its core was somebody else's. Several threads wait beside each
        other.
        """
        tasks = (task for pid in tree(self.pid) for task in Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e9


def tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in tree(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Of one process, with its threads, those that have ended too: the clock that
    clock_getcpuclockid(3) gives, in nanoseconds, where /proc counts in ticks.
    """
    return time.clock_gettime((~pid << 3) | 2)


@dataclass(frozen=True)
class Setting:
    """What a server of ours is told beside the usual."""

    ping: float = 15.0
    requests_per_minute: int = 1_000_000


USUAL = Setting()


@dataclass(frozen=True)
class Place:
    """Where a server is to be: its port, the model's, a folder of its own for files; ``beside`` is
    the address of what it needs.
    """

    port: int
    upstream: int
    folder: Path
    beside: str
    setting: Setting

    @property
    def model_url(self) -> str:
        return f"http://127.0.0.1:{self.upstream}/v1"


Command = tuple[list[str], dict[str, str]]


@contextmanager
def _nothing(_: Path) -> Iterator[str]:
    yield ""


@dataclass(frozen=True)
class Kind:
    """``command`` gives arguments and environment. ``missing`` says what the machine lacks.
    ``setting`` is for the reader: what it was told. ``needs`` runs beside it, on the load's core.
    """

    command: Callable[[Place], Command]
    missing: Callable[[], str]
    setting: str
    needs: Callable[[Path], AbstractContextManager[str]] = _nothing
    path: str = "/api/chat"


@contextmanager
def serving(
    name: str, kind: Kind, upstream: int, folder: Path, setting: Setting = USUAL
) -> Iterator[Server]:
    """A server on a core of its own, once it takes connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    own = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
    with kind.needs(own) as address:
        place = Place(port, upstream, own, address, setting)
        command, environ = kind.command(place)
        log = place.folder / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["taskset", "-c", str(CORE), *command],
                env={**os.environ, **environ},
                stdout=file,
                stderr=file,
            )
        try:
            _wait(port, process, log)
            yield Server(name, port, process.pid, kind.path)
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up = time.monotonic() + 180
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"it does not serve: {log.read_text()[-2_000:]}") from None
            time.sleep(0.05)
        else:
            return
