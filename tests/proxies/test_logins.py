"""Names by a proxy's login: the configurations of the page, and people who make up a name."""

import base64
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.frameworks import pages
from tests.proxies.support import caddy, nginx
from tests.servers.conftest import real, serve
from tests.servers.support import Client, Process, Reply, ask

__all__ = ["real", "serve"]

PAGE = (pages.HOW_TO / "identity.md").read_text()
PASSWORD = "a password"
FORGED = "X-User-Id: eve"
DONE = b"event: done\ndata: \n\n"
Proxy = Callable[[str, Path], AbstractContextManager[int]]


def shown(language: str, word: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (block,) = (each for each in found if word in each)
    return str(block)


def basic(user: str, password: str = PASSWORD) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class OAuth2Proxy(BaseHTTPRequestHandler):
    """As much of oauth2-proxy as nginx asks: whose session this is, and a place to sign in."""

    def do_GET(self) -> None:
        user = re.search(r"_oauth2_proxy=(\w+)", self.headers.get("Cookie", ""))
        signs_in = self.path.startswith("/oauth2/sign_in")
        self.send_response(200 if signs_in else 202 if user else 401)
        if user and not signs_in:
            self.send_header("X-Auth-Request-Email", f"{user[1]}@example.com")
        body = b"Sign in with your account" if signs_in else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def oauth2_proxy() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), OAuth2Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def started(real: Callable[..., Process], folder: Path) -> int:
    (folder / "chatnest.toml").write_text(shown("toml", "header ="))
    return real("--config", "chatnest.toml").ready()


def get(port: int, path: str, *headers: str) -> Reply:
    with Client(port) as client:
        return client.get(path, *headers)


def used(port: int, *headers: str) -> int:
    limits = get(port, "/api/chat/limits", *headers).json()["limits"]
    return int(next(limit["used"] for limit in limits if limit["name"] == "requests"))


def chat(port: int, *headers: str) -> int:
    """As a page does it, with an Origin."""
    with Client(port) as client:
        client.request("POST", body=ask(), headers=(*headers, "Origin: http://localhost"))
        reply = client.reply()
        if reply.status == 200:
            assert reply.read_all().endswith(DONE)
        return reply.status


@pytest.fixture
def users() -> Iterator[Path]:
    """nginx's file, where its workers, who are nobody, may read it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / "chat.users"
        file.write_text(f"ann:{{PLAIN}}{PASSWORD}\n")
        file.chmod(0o644)
        yield file


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_passwords_of_a_proxy_name_who_is_asking(proxy: Proxy, real, tmp_path, users):
    port = started(real, tmp_path)
    text = shown(proxy.__name__, "auth_basic" if proxy is nginx else "basicauth")
    text = text.replace("/etc/nginx/chat.users", str(users))
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    with proxy(text, tmp_path) as outside:
        for path in ("/", "/api/chat/limits", "/settings.json"):
            assert get(outside, path).status == 401
            assert get(outside, path, FORGED).status == 401
            assert get(outside, path, basic("ann", "wrong"), FORGED).status == 401
        assert chat(outside, FORGED) == 401

        assert b"<title>chatnest" in get(outside, "/", basic("ann")).body
        assert chat(outside, basic("ann")) == 200
        assert chat(outside, basic("ann"), FORGED) == 200
        assert used(outside, basic("ann"), FORGED) == 2
    assert used(port, "X-User-Id: ann") == 2
    assert used(port, FORGED) == 0


def test_a_single_sign_on_names_who_is_asking(real, tmp_path):
    port = started(real, tmp_path)
    ann, bob = ("Cookie: _oauth2_proxy=ann", "Cookie: _oauth2_proxy=bob")
    with oauth2_proxy() as sign_on:
        text = shown("nginx", "auth_request").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        with nginx(text.replace("127.0.0.1:4180", f"127.0.0.1:{sign_on}"), tmp_path) as outside:
            page = get(outside, "/")
            assert b"Sign in with your account" in page.body
            assert get(outside, "/api/chat/limits", FORGED).status == 401
            assert chat(outside, FORGED) == 401

            assert b"<title>chatnest" in get(outside, "/", ann).body
            assert get(outside, "/assets/app.js", ann).status == 200
            assert chat(outside, ann, FORGED) == 200
            assert (used(outside, ann), used(outside, bob, FORGED)) == (1, 0)
    assert used(port, "X-User-Id: ann@example.com") == 1
