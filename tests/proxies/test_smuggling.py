"""Nobody gets another's answer, and nobody asks by another's request: behind real proxies that keep
their connections to the server.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.proxies.asked import Echo
from tests.proxies.smuggling import SMUGGLED, Battle
from tests.proxies.support import caddy, haproxy, nginx
from tests.servers.support import Client, Process, uvicorn_thread
from tests.support.ports import free_port
from tests.support.soak import SOAKS, amount
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]

UPSTREAM = "upstream chat { server 127.0.0.1:8000; keepalive 4; }"
MAP = "map $http_upgrade $connection_upgrade { default upgrade; '' close; }"
MAP_KEPT = "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }"
WEBSOCKET = (
    "server { listen 80; location / { proxy_pass http://chat; proxy_http_version 1.1; "
    "proxy_set_header Host localhost; proxy_set_header Upgrade $http_upgrade; "
    "proxy_set_header Connection $connection_upgrade; } }"
)
KEPT = (
    "server { listen 80; location / { proxy_pass http://chat; proxy_http_version 1.1; "
    'proxy_set_header Host localhost; proxy_set_header Connection ""; } }'
)
PLAIN = "server { listen 80; location / { proxy_pass http://127.0.0.1:8000; } }"
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
    http-reuse always
frontend web
    bind :80
    default_backend chat
backend chat
    server one 127.0.0.1:8000
"""
PROXIES = {
    "nginx-websocket": (nginx, f"{UPSTREAM}{MAP_KEPT}{WEBSOCKET}"),
    "nginx-websocket-close": (nginx, f"{UPSTREAM}{MAP}{WEBSOCKET}"),
    "nginx-kept": (nginx, f"{UPSTREAM}{KEPT}"),
    "nginx-plain": (nginx, PLAIN),
    "caddy": (caddy, ":80 {\n\treverse_proxy 127.0.0.1:8000\n}\n"),
    "haproxy": (haproxy, HAPROXY),
}

APP = "tests.proxies.asked:app"
UVICORN = ["-m", "uvicorn", APP, "--no-proxy-headers", "--log-level", "warning", "--port"]
SERVERS: dict[str, Callable[[int], list[str]]] = {
    "serve": lambda port: ["-m", "chatnest", "serve", "--ledger", "memory:", "--port", str(port)],
    "uvicorn-ours": lambda p: [*UVICORN, str(p), "--http", "chatnest.server:Protocol"],
    "uvicorn-h11": lambda p: [*UVICORN, str(p), "--http", "h11"],
    "hypercorn": lambda p: ["-m", "hypercorn", APP, "--bind", f"127.0.0.1:{p}"],
    "granian": lambda p: ["-m", "granian", APP, "--interface", "asgi", "--port", str(p)],
    "gunicorn": lambda p: [
        *("-m", "gunicorn", APP, "--worker-class", "asgi", "--no-control-socket"),
        *("--bind", f"127.0.0.1:{p}"),
    ],
}
ROOMY = {
    "CHATNEST_IDENTITY__HEADER": "x-user",
    "CHATNEST_IDENTITY__TRUSTED_PROXIES": "127.0.0.1",
    "CHATNEST_HARD_CAPS__REQUESTS_PER_MINUTE": "100000",
    "CHATNEST_HARD_CAPS__DAILY_TOKEN_LIMIT": "1000000000",
    "CHATNEST_PROFILES__BALANCED__REQUESTS_PER_MINUTE": "100000",
    "CHATNEST_PROFILES__BALANCED__DAILY_TOKEN_LIMIT": "1000000000",
}


class Server(Process):
    """Servers complain of what attackers send, and that is not what is looked at."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        super().__exit__(kind or AssertionError, *rest)


@contextmanager
def served(server: str, folder: Path, model: int) -> Iterator[int]:
    """A chat under ``server``, whose model is at a port."""
    port, url = free_port(), f"http://127.0.0.1:{model}/v1"
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": url, "MODEL": url, **ROOMY}
    environ["PYTHONPATH"] = str(ROOT)
    with Server(SERVERS[server](port), cwd=folder, **environ):
        wait_for(partial(_answers, port))
        yield port


def _answers(port: int) -> bool:
    try:
        with Client(port) as client:
            client.socket.settimeout(1)
            return client.get("/api/chat/limits", "X-User: first").status == 200
    except OSError:
        return False


def fought(
    server: str, proxy: str, folder: Path, over: Callable[[int], bool]
) -> tuple[Battle, Echo]:
    """A battle, and what the model was asked in it."""
    model = Echo()
    make, text = PROXIES[proxy]
    with (
        uvicorn_thread(model, http="h11", lifespan="off") as upstream,
        served(server, folder, upstream) as port,
        make(text.replace("8000", str(port)), folder) as outside,
    ):
        battle = Battle(outside)
        battle.fight(over)
    return battle, model


def _over() -> Callable[[int], bool]:
    """After some questions, or in a soak after 20 seconds of them."""
    if not SOAKS:
        return lambda asked: asked >= 5
    begun: list[float] = []

    def is_over(_: int) -> bool:
        begun.append(time.monotonic())
        return begun[-1] - begun[0] > 20

    return is_over


SMALL = [
    *(("serve", proxy) for proxy in PROXIES),
    ("uvicorn-ours", "nginx-websocket"),
    ("uvicorn-ours", "haproxy"),
]
LARGE = [(server, proxy) for server in SERVERS for proxy in PROXIES]


@pytest.mark.soak
@pytest.mark.parametrize(("server", "proxy"), LARGE if amount(0, 1) else SMALL)
def test_each_answer_is_its_askers_and_each_question_was_asked(
    server, proxy, tmp_path, record_property
):
    battle, model = fought(server, proxy, tmp_path, _over())
    figures = (
        f"{battle.answers} answers, {len(battle.wrong)} wrong, {len(battle.failures)} failures, "
        f"{battle.refused} refused, {battle.attacks} attacks, "
        f"{model.asked.count(SMUGGLED)} questions that nobody asked"
    )
    record_property("soak", figures)
    assert battle.wrong == [], figures
    assert SMUGGLED not in model.asked, figures
    assert battle.answers > 0, battle.failures[:3]
    assert battle.attacks > 0
