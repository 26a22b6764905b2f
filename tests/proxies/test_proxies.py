"""The chat behind real proxies: as the page sets them up, as they come, and spoilt."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from chatnest import ChatNestApp, OpenAIProvider, UserOrAddress
from chatnest.testing import FakeUpstream
from tests.frameworks.support import DONE
from tests.proxies.support import caddy, first_word, nginx, shown, stop
from tests.servers.support import KEY, Client, Process, Reply, ask, uvicorn_thread

IN_VAIN = 1.0
"""Seconds for what never comes."""
GZIP = "gzip on; gzip_types *; gzip_proxied any; gzip_http_version 1.0;"
Proxy = Callable[[str, Path], AbstractContextManager[int]]


@contextmanager
def chat_behind(
    proxy: Proxy, text: str, upstream: FakeUpstream, folder: Path, http: str = "h11"
) -> Iterator[int]:
    """A chat behind ``proxy`` with this configuration, in which its port is 8000."""
    provider = OpenAIProvider(base_url=upstream.base_url, api_key=KEY)
    chat = ChatNestApp(provider=provider, identify=UserOrAddress(["127.0.0.1"]))
    with (
        uvicorn_thread(chat, http=http, proxy_headers=False) as port,
        proxy(text.replace("8000", str(port)), folder) as outside,
    ):
        yield outside


def bare(settings: str = "") -> str:
    return f"server {{ listen 80; {settings} location / {{ proxy_pass http://127.0.0.1:8000; }} }}"


def tokens_of(reply: Reply) -> list[dict[str, Any]]:
    return [limit for limit in reply.json()["limits"] if limit["name"] == "tokens"]


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_what_the_page_shows_streams_and_hangs_up(proxy, upstream, tmp_path, record_property):
    text = shown(proxy.__name__)
    with chat_behind(proxy, text, upstream, tmp_path) as port:
        record_property("first_token_ms", [first_word(port, upstream) for _ in range(5)])
        record_property("stop_ms", [stop(port, upstream) for _ in range(5)])


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_what_the_page_shows_tells_who_is_asking(proxy, upstream, tmp_path):
    """Another address of the loopback stands for somebody far away, who says to be nearer still."""
    forged = "X-Forwarded-For: 203.0.113.7"
    with chat_behind(proxy, shown(proxy.__name__), upstream, tmp_path) as port:
        with Client(port, source="127.0.0.2") as client:
            client.request("POST", body=ask(), headers=(forged,))
            assert client.reply().read_all().endswith(DONE)
        used = {}
        for source in ("127.0.0.2", "127.0.0.3"):
            with Client(port, source=source) as client:
                (tokens,) = tokens_of(client.get("/api/chat/limits", forged))
            used[source] = tokens["used"]
        assert used == {"127.0.0.2": 12, "127.0.0.3": 0}


def test_chatnest_serve_answers_behind_a_proxy_that_it_is_told_of(tmp_path):
    """And only then to pages under the name that the proxy passes on."""
    arguments = ["-m", "chatnest", "serve", "--demo", "--port", "0", "--ledger", "memory:"]
    for told, status in {"": 421, "127.0.0.1": 200}.items():
        environ = {"CHATNEST_IDENTITY__TRUSTED_PROXIES": told} if told else {}
        with Process(arguments, cwd=tmp_path, **environ) as process:
            text = shown("nginx").replace("8000", str(process.ready()))
            text = text.replace("$host", "chat.example.org")  # as a client there says
            with nginx(text, tmp_path) as outside, Client(outside) as client:
                origin = "Origin: http://chat.example.org"
                assert client.get("/api/chat/limits", origin).status == status


def test_the_whole_site_is_served_below_a_prefix(tmp_path):
    arguments = ["-m", "chatnest", "serve", "--demo", "--port", "0", "--ledger", "memory:"]
    with Process(arguments, cwd=tmp_path) as process:
        block = shown("nginx", 1).replace("8000", str(process.ready()))
        text = f"server {{ listen 80; {block} }}"
        with nginx(text, tmp_path) as outside, Client(outside) as client:
            page = client.get("/assistant/")
            assert page.status == 200
            parts = re.findall(r'(?:src|href)="(assets/[^"]+)"', page.body.decode())
            assert parts
            for path in (*parts, "settings.json", "api/chat/limits", "api/chat/limits/"):
                assert client.get(f"/assistant/{path}").status == 200


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_bare_nginx_streams_and_hangs_up(http, version, upstream, tmp_path):
    text = bare(f"proxy_http_version {version}; proxy_buffering on;")
    with chat_behind(nginx, text, upstream, tmp_path, http) as port:
        first_word(port, upstream)
        stop(port, upstream)


def test_nginx_holds_frames_back_where_it_is_told_to_ignore_the_header(upstream, tmp_path):
    text = bare("proxy_http_version 1.0; proxy_ignore_headers X-Accel-Buffering;")
    with chat_behind(nginx, text, upstream, tmp_path) as port, pytest.raises(TimeoutError):
        first_word(port, upstream, seconds=IN_VAIN)


def test_nginx_streams_what_it_compresses(upstream, tmp_path):
    with chat_behind(nginx, bare(GZIP), upstream, tmp_path) as port:
        first_word(port, upstream, "Accept-Encoding: gzip")


@pytest.mark.parametrize(
    ("proxy", "text"),
    [
        (nginx, bare("proxy_ignore_client_abort on;")),
        (caddy, ":80 {\n\treverse_proxy 127.0.0.1:8000 {\n\t\tflush_interval -1\n\t}\n}\n"),
    ],
)
def test_what_the_page_warns_of_keeps_the_model_going(proxy, text, upstream, tmp_path):
    with chat_behind(proxy, text, upstream, tmp_path) as port:
        with pytest.raises(TimeoutError):
            stop(port, upstream, seconds=IN_VAIN)
        upstream.release()


def test_caddy_holds_back_what_it_is_told_to_compress_however_small(upstream, tmp_path):
    text = ":80 {\n\tencode gzip {\n\t\tminimum_length 1\n\t}\n\treverse_proxy 127.0.0.1:8000\n}\n"
    with chat_behind(caddy, text, upstream, tmp_path) as port, pytest.raises(TimeoutError):
        first_word(port, upstream, "Accept-Encoding: gzip", seconds=IN_VAIN)
