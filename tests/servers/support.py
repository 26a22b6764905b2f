"""What these tests share: servers in threads and processes, and a client that is a plain socket."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Self

import uvicorn

from chatnest.testing import EventReader
from tests.support.waiting import wait_for

KEY = "sk-secret-of-the-operator"
PATIENCE = 60.0
UNHURRIED = {"CHATNEST_BOUNDS__LAG_SECONDS": "60"}
"""No chat is refused since the machine is busy, but where a test is about that."""
"""Seconds for what takes milliseconds."""

_OF_SERVERS = r"file <_io\.(TextIOWrapper name=0|FileIO name=\d+ mode='rb\+')"
LEFT_BEHIND = re.compile(
    "never retrieved|was destroyed|never awaited|Exception ignored"
    rf"|[Uu]nclosed (?!{_OF_SERVERS})"
)
"""What Python, asyncio and aiohttp say of what was left behind, most of it in debug modes alone.
What servers leave open at their end is not chatnest's: uvicorn workers' standard input, gunicorn
a pipe.
"""

COMPLAINTS = re.compile(rf"{LEFT_BEHIND.pattern}|Traceback|Fatal error")
_SLOW = re.compile(r"^Executing <.*> took [0-9.]+ seconds\n", re.MULTILINE)


def said(stderr: str) -> str:
    """Without what asyncio's debug mode says of a machine that is slow."""
    return _SLOW.sub("", stderr)


def ask(content: str = "Hi", **fields: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"messages": [{"role": "user", "content": content}], **fields}


# ---------------------------------------------------------------- servers in threads


@contextmanager
def uvicorn_thread(app: Any, *, send_buffer: int | None = None, **options: Any) -> Iterator[int]:
    """A real uvicorn with ``app`` in a thread; gives its port. ``send_buffer`` is what the kernel
    takes of a connection that nobody reads, in bytes.
    """
    settings: dict[str, Any] = {"log_level": "error", "timeout_graceful_shutdown": 5, **options}
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)  # they inherit it
    server = uvicorn.Server(uvicorn.Config(app, **settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()
        assert not thread.is_alive()


# ---------------------------------------------------------------- a plain client


class Client:
    """An HTTP/1 client that reads what has arrived and no more. Every wait is bounded."""

    def __init__(
        self, port: int, *, receive_buffer: int | None = None, source: str | None = None
    ) -> None:
        self.socket = socket.socket()
        if source is not None:
            self.socket.bind((source, 0))
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self._data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def request(
        self,
        method: str = "GET",
        path: str = "/api/chat",
        *,
        body: dict[str, Any] | None = None,
        headers: Sequence[str] = (),
        version: str = "HTTP/1.1",
    ) -> None:
        """Send a request."""
        lines = [f"{method} {path} {version}", "Host: localhost", *headers]
        content = b""
        if body is not None:
            content = json.dumps(body).encode()
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + content)

    def chat(self, content: str = "Hi", **fields: Any) -> "Reply":
        """Ask, and give the reply as soon as its head is there."""
        self.request("POST", body=ask(content, **fields))
        return self.reply()

    def get(self, path: str, *headers: str) -> "Reply":
        """GET, and read all of the reply."""
        self.request(path=path, headers=headers)
        reply = self.reply()
        reply.read_all()
        return reply

    def reply(self) -> "Reply":
        """The next reply, whose body is still to come."""
        head, _, self._data = self.until(b"\r\n\r\n").partition(b"\r\n\r\n")
        return Reply(self, head)

    def until(self, mark: bytes) -> bytes:
        """Wait until ``mark`` has arrived, and give all that has. Raises EOFError."""
        while mark not in self._data:
            self.more()
        return self._data

    def more(self) -> None:
        """Wait for more bytes. Raises EOFError at the end."""
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError(self._data)
        self._data += data

    def take(self, size: int) -> bytes:
        """Exactly so many bytes."""
        while len(self._data) < size:
            self.more()
        data, self._data = self._data[:size], self._data[size:]
        return data

    def take_line(self) -> bytes:
        self.until(b"\r\n")
        line, _, self._data = self._data.partition(b"\r\n")
        return line

    def take_all(self) -> bytes:
        """All until the connection's end."""
        while True:
            try:
                self.more()
            except EOFError:
                data, self._data = self._data, b""
                return data

    def reset(self) -> None:
        """Leave by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


class Reply:
    """A response's head, and its body as it arrives."""

    def __init__(self, client: Client, head: bytes) -> None:
        status, *fields = head.decode("latin-1").split("\r\n")
        self.version, code, *_ = status.split(" ")
        self.status = int(code)
        pairs = [field.partition(":") for field in fields]
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        self.body = b""
        self._client = client
        self._over = False

    def json(self) -> Any:
        return json.loads(self.read_all())

    def read_all(self) -> bytes:
        """All of the body."""
        while not self._over:
            self._read()
        return self.body

    def until(self, mark: bytes) -> bytes:
        """The body, once ``mark`` is in it. Raises EOFError if it never comes."""
        while mark not in self.body:
            if self._over:
                raise EOFError(self.body)
            self._read()
        return self.body

    def more(self) -> bytes:
        """The body, with what has come since."""
        self._read()
        return self.body

    @property
    def events(self) -> list[str]:
        """The kinds of the events so far, without pings."""
        return [e.event for e in EventReader().feed(self.body) if e.event != "ping"]

    @property
    def text(self) -> str:
        """The answer so far."""
        events = EventReader().feed(self.body)
        return "".join(json.loads(e.data) for e in events if e.event == "token")

    @property
    def error(self) -> dict[str, Any]:
        """The ``error`` event at its end."""
        events = EventReader().feed(self.body)
        assert events[-1].event == "error", self.body
        data: dict[str, Any] = json.loads(events[-1].data)
        return data

    def _read(self) -> None:
        """The next piece, whichever way the body is framed (RFC 9112, section 6.3)."""
        client = self._client
        if self.headers.get("transfer-encoding") == "chunked":
            size = int(client.take_line(), 16)
            self.body += client.take(size)
            client.take_line()
            self._over = size == 0
        elif "content-length" in self.headers:
            self.body += client.take(int(self.headers["content-length"]))
            self._over = True
        else:
            self.body += client.take_all()
            self._over = True


# ---------------------------------------------------------------- servers in processes

_DEMO = """
from chatnest.cli import main
from chatnest.providers.demo import DemoProvider

DemoProvider.__init__.__kwdefaults__["pace"] = 0.001
main()
"""
DEMO = ("-c", _DEMO, "serve", "--demo", "--port", "0", "--ledger", "memory:")
"""``chatnest serve --demo``, faster: at the pace of a model, an answer takes five seconds."""


class Process:
    """A server in a process of its own. What it writes to standard error is kept; at its end there
    must be no ``complaints`` in it.
    """

    complaints = COMPLAINTS
    output: IO[str] | int = subprocess.DEVNULL
    """Where its standard output goes."""

    def __init__(self, arguments: Sequence[str], *, cwd: Path, **environ: str) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CHATNEST_", "OPENAI_"))
        }
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env={**inherited, "PYTHONUNBUFFERED": "1", **UNHURRIED, **environ},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        at = arguments.index("--workers") + 1 if "--workers" in arguments else None
        self._workers = 1 if at is None else int(arguments[at])
        self.lines: list[str] = []
        self._new: SimpleQueue[str | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        if kind is None:  # else that is what the test has to say
            found = [line for line in self.lines if self.complaints.search(line)]
            assert not found, "".join(self.lines)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._new.put(line)
        self._new.put(None)

    def find(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches."""
        while True:
            for line in self.lines:
                if match := re.search(pattern, line):
                    return match
            try:
                new = self._new.get(timeout=3 * PATIENCE)
            except Empty:
                raise TimeoutError(self.lines) from None
            if new is None:
                raise EOFError(f"it has ended: {self.lines}")
            self.lines.append(new)

    @property
    def port(self) -> int:
        return int(self.find(r"page +http://127\.0\.0\.1:(\d+)/")[1])

    def ready(self) -> int:
        """Wait until it answers, each of its workers (on Linux), and give its port."""
        port = self.port
        with Client(port) as client:  # the listener takes connections before the server does
            client.socket.settimeout(3 * PATIENCE)
            assert client.get("/readyz").status == 200
        if self._workers > 1 and sys.platform == "linux":
            wait_for(
                lambda: sum(accepts(each, port) for each in children(self.pid)) >= self._workers
            )
        return port

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        return self._process.poll() is not None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """``kill -9``, it and its workers."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        status = self._process.wait(3 * PATIENCE)
        self._reader.join(PATIENCE)
        while not self._new.empty():
            line = self._new.get()
            if line is not None:
                self.lines.append(line)
        return status


def closed(port: int) -> bool:
    """Whether nobody listens."""
    try:
        with Client(port):
            return False
    except ConnectionRefusedError:
        return True


def accepts(pid: int, port: int) -> bool:
    """Whether a process waits for connections to ``port``, which it does once it has begun."""
    folder = Path(f"/proc/{pid}")
    listening = rf":{port:04X} \S+ 0A (?:\S+ +){{5}}(\d+)"  # proc_pid_net(5)
    try:
        (inode,) = re.findall(listening, (folder / "net/tcp").read_text())
        watched = "".join(each.read_text() for each in (folder / "fdinfo").iterdir())
        files = re.findall(r"^tfd: +(\d+)", watched, re.MULTILINE)  # proc_pid_fdinfo(5): epoll
        return any((folder / "fd" / each).readlink().name == f"socket:[{inode}]" for each in files)
    except FileNotFoundError:
        return False  # it changes while one looks


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def runs(pid: int) -> bool:
    """Whether a process has not ended, be it unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
