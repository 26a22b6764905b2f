"""The servers that are compared, each in its best ordinary setting, on a core of its own."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CORE = 1


@dataclass(frozen=True)
class Server:
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Of the process and all below it, user and system."""
        return sum(_cpu(pid) for pid in _tree(self.pid))


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _tree(int(child)))]


def _cpu(pid: int) -> float:
    """Nanoseconds on a core of each thread: finer than the ticks of ``stat``."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@dataclass(frozen=True)
class Kind:
    """``command`` gives the arguments and the environment, for a port, an upstream and a folder."""

    command: Callable[[int, int, Path], tuple[list[str], dict[str, str]]]
    missing: Callable[[], str]


def _chatnest(port: int, upstream: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    """``chatnest serve`` with all standard policies and the SQLite ledger, limits far away."""
    config = folder / "chatnest.toml"
    config.write_text(
        f"""
[provider]
base_url = "http://127.0.0.1:{upstream}/v1"
[profiles.balanced]
max_output_tokens = 4000
max_tokens_per_request = 16000
daily_token_limit = 1000000000000
requests_per_minute = 1000000
max_concurrent_streams = 100000
[hard_caps]
daily_token_limit = 1000000000000
requests_per_minute = 1000000
max_concurrent_streams = 100000
[ledger]
url = "sqlite:{folder}/books{port}.db"
"""
    )
    command = [sys.executable, "-m", "chatnest", "serve", "--port", str(port)]
    return [*command, "--config", str(config)], {"OPENAI_API_KEY": "k"}


def _uvicorn(name: str) -> Callable[[int, int, Path], tuple[list[str], dict[str, str]]]:
    def command(port: int, upstream: int, _: Path) -> tuple[list[str], dict[str, str]]:
        arguments = ["-m", "uvicorn", f"tests.benchmarks.peers.{name}:app", "--port", str(port)]
        arguments += ["--log-level", "error", "--no-access-log", "--backlog", "4096"]
        return [sys.executable, *arguments], {"BENCH_UPSTREAM": f"http://127.0.0.1:{upstream}/v1"}

    return command


def _nginx(port: int, upstream: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    """``proxy_pass`` without buffers: what a server in C needs for moving the bytes alone."""
    config = folder / f"nginx{port}.conf"
    config.write_text(
        f"""
daemon off; worker_processes 1; pid {folder}/nginx{port}.pid; error_log /dev/null;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream model {{ server 127.0.0.1:{upstream}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://model/v1/chat/completions; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
    )
    return ["nginx", "-c", str(config), "-p", str(folder)], {}


def _express(port: int, upstream: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    modules = folder / "express"
    if not modules.exists():
        modules.mkdir()
        shutil.copy(HERE / "peers" / "express.mjs", modules)
        install = ["npm", "install", "--silent", "--no-fund", "--no-audit", "express@5", "openai@6"]
        subprocess.run(install, cwd=modules, check=True, stdout=subprocess.DEVNULL)
    upstream_url = f"http://127.0.0.1:{upstream}/v1"
    return ["node", str(modules / "express.mjs")], {
        "PORT": str(port),
        "BENCH_UPSTREAM": upstream_url,
        "NODE_ENV": "production",
    }


def _needs_module(*names: str) -> Callable[[], str]:
    def missing() -> str:
        lost = [name for name in names if importlib.util.find_spec(name) is None]
        return f"{', '.join(lost)} is missing" if lost else ""

    return missing


def _needs_program(*names: str) -> Callable[[], str]:
    def missing() -> str:
        lost = [name for name in names if shutil.which(name) is None]
        return f"{', '.join(lost)} is missing" if lost else ""

    return missing


SERVERS = {
    "chatnest": Kind(_chatnest, _needs_module("chatnest")),
    "nginx": Kind(_nginx, _needs_program("nginx")),
    "bare": Kind(_uvicorn("bare"), _needs_module("uvicorn")),
    "fastapi": Kind(_uvicorn("fastapi_typed"), _needs_module("fastapi")),
    "express": Kind(_express, _needs_program("node", "npm")),
}


@contextmanager
def serving(name: str, upstream: int, folder: Path) -> Iterator[Server]:
    """A server on a core of its own, once it takes connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command, environ = SERVERS[name].command(port, upstream, folder)
    process = subprocess.Popen(
        ["taskset", "-c", str(CORE), *command],
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port, process)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, "it has ended"
            assert time.monotonic() < give_up
            time.sleep(0.05)
        else:
            return
