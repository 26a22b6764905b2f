"""Real proxies in processes of their own, in front of a chat in a thread, and what is measured."""

import os
import re
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.frameworks import pages
from tests.frameworks.support import START, accepts
from tests.servers.support import PATIENCE, Client, Reply, ask
from tests.support.ports import free_port

GLOBAL = """
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
"""


@contextmanager
def nginx(http: str, folder: Path) -> Iterator[int]:
    """nginx with this in its ``http``; what listens on ``80`` gets a free port, which it gives."""
    binary = _binary("nginx", "/usr/sbin")
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(f"{GLOBAL}{http.replace('listen 80;', f'listen 127.0.0.1:{port};')}}}")
    with _running([binary, "-p", str(folder), "-c", str(configuration)], folder, port):
        yield port


@contextmanager
def caddy(caddyfile: str, folder: Path) -> Iterator[int]:
    """Caddy with this as its file; ``:80`` gets a free port, which it gives."""
    binary = _binary("caddy")
    port = free_port()
    configuration = folder / "Caddyfile"
    options = "{\n\tadmin off\n\tauto_https off\n}\n"
    configuration.write_text(
        options + caddyfile.replace(":80 {", f"http://:{port} {{\n\tbind 127.0.0.1")
    )
    arguments = [binary, "run", "--adapter", "caddyfile", "--config", str(configuration)]
    with _running(arguments, folder, port):
        yield port


@contextmanager
def haproxy(configuration: str, folder: Path) -> Iterator[int]:
    """HAProxy with this as its file; what binds to ``:80`` gets a free port, which it gives."""
    binary = _binary("haproxy", "/usr/sbin")
    port = free_port()
    file = folder / "haproxy.cfg"
    file.write_text(configuration.replace("bind :80\n", f"bind 127.0.0.1:{port}\n"))
    with _running([binary, "-db", "-f", str(file)], folder, port):
        yield port


def _binary(name: str, *more: str) -> str:
    found = shutil.which(name) or next((f for f in more if shutil.which(name, path=f)), None)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found if found.endswith(name) else f"{found}/{name}"


@contextmanager
def _running(arguments: Sequence[str], folder: Path, port: int) -> Iterator[None]:
    with (folder / "proxy.log").open("w") as log:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            stdout=log,
            stderr=log,
            env={"HOME": str(folder)},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((folder / "proxy.log").read_text())
            time.sleep(0.02)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it would wait for what still streams
        process.wait(PATIENCE)


def shown(language: str, number: int = 0) -> str:
    """What the page of proxies shows: one of its blocks in that language."""
    page = (pages.HOW_TO / "proxies.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return str(blocks[number])


def first_word(
    port: int, upstream: FakeUpstream, *headers: str, seconds: float = PATIENCE
) -> float:
    """Milliseconds that a word takes from the model to the client, while nothing follows it. Raises
    TimeoutError where it has not come in so many seconds.
    """
    upstream.script(Answer.stall(1, opening="silence"))
    asked = len(upstream.requests)
    with Client(port) as client:
        client.request("POST", body=ask(), headers=headers)
        upstream.wait(lambda u: len(u.requests) > asked, timeout=PATIENCE)
        said = time.monotonic()
        upstream.release()
        client.socket.settimeout(seconds)
        reply = client.reply()
        assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
        _read_word(reply)
        read = time.monotonic()
        upstream.release()
        reply.read_all()
    return 1000 * (read - said)


def _read_word(reply: Reply) -> None:
    if reply.headers.get("content-encoding") != "gzip":
        assert reply.until(b'data: "Hello"\n\n') == START + b'event: token\ndata: "Hello"\n\n'
        return
    unpack, text, taken = zlib.decompressobj(31), b"", 0
    while b"Hello" not in text:
        data = reply.more()
        text += unpack.decompress(data[taken:])
        taken = len(data)


def stop(port: int, upstream: FakeUpstream, *, seconds: float = PATIENCE) -> float:
    """Milliseconds from the client's leaving to the model's being left. Raises TimeoutError."""
    upstream.script(Answer.stall(1))
    with Client(port) as client:
        client.request("POST", body=ask())
        client.reply().until(b'data: "Hello"\n\n')
    seen, left = upstream.last, time.monotonic()  # one that was left before may end only now
    upstream.wait(lambda _: seen.closed_at is not None, timeout=seconds)
    assert seen.closed_at is not None
    assert seen.state == "aborted"
    return 1000 * (seen.closed_at - left)
