"""MetricsPage: answers ``GET /metrics`` on its own port, in its own threads."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

from chatnest._util.addresses import is_loopback
from chatnest.errors import ConfigurationError
from chatnest.telemetry.metrics import Metrics

__all__ = ["MetricsPage"]

_SECONDS: Final = 5.0
"""Timeout in seconds of each read and write on a connection."""
_MOST: Final = 8
"""Maximum requests at a time. Prometheus sends one at a time."""
_PATH: Final = "/metrics"


class MetricsPage(ThreadingHTTPServer):
    """Serves the metrics at ``host`` and ``port``; port 0 picks a free one.

    Raises ConfigurationError if it cannot listen there, or without prometheus-client.
    """

    daemon_threads: bool = True

    def __init__(self, host: str, port: int) -> None:
        self.metrics: Metrics | None = None
        self.only_local: bool = is_loopback(host)
        self._places = threading.BoundedSemaphore(_MOST)
        self.rendering: threading.Lock = threading.Lock()
        _exposition()
        try:
            self.address_family: int = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), _Handler)
        except OSError as exc:
            raise ConfigurationError(
                f"server.metrics_port: expected an address to listen on, got {host} port {port}: "
                f"{exc.strerror or exc}. Choose another port or server.metrics_host."
            ) from exc

    @property
    def url(self) -> str:
        """The address of the metrics."""
        host, port = self.socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{_PATH}"

    def show(self, metrics: Metrics) -> None:
        """Start to serve these metrics, in a thread."""
        self.metrics = metrics
        threading.Thread(target=self.serve_forever, daemon=True, name="metrics").start()

    def server_bind(self) -> None:
        """Bind the socket, without HTTPServer's lookup of the host name, which may be slow."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a new thread, unless too many requests are being answered."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Called in the thread of a request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""


class _One(NamedTuple):
    """A collector of one metric."""

    metric: Any

    def collect(self) -> list[Any]:
        return [self.metric]


class _Handler(BaseHTTPRequestHandler):
    server: MetricsPage
    timeout = _SECONDS
    server_version = "chatnest"
    sys_version = ""

    def do_GET(self) -> None:
        """Called by BaseHTTPRequestHandler."""
        if self.server.only_local and not _is_local(self.headers.get("host", "")):
            self._respond(421, "text/plain", b"Use the address of the server, or localhost.\n")
        elif self.path.partition("?")[0] != _PATH:
            self._respond(404, "text/plain", b"The metrics are at /metrics.\n")
        else:
            with self.server.rendering:
                body = b"".join(self._rendered())
            self._respond(200, _exposition().CONTENT_TYPE_LATEST, body)

    def _rendered(self) -> Iterator[bytes]:
        """The metrics one by one. After each of them, other threads may run, such as the event
        loop's.
        """
        encode = _exposition().generate_latest
        for metric in self.server.metrics.collect() if self.server.metrics is not None else ():
            yield encode(_One(metric))
            time.sleep(0)

    def _respond(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-content-type-options", "nosniff")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name
        """Log nothing: a scrape comes every few seconds."""


def _is_local(host: str) -> bool:
    """Whether a Host field names this machine. Any web page can point its own domain at 127.0.0.1
    (DNS rebinding).
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name.strip("[]") in {"localhost", "127.0.0.1", "::1"}


def _exposition() -> Any:
    try:
        # Imported here, since a server without metrics does not need the package.
        from prometheus_client import exposition  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "server.metrics_port: expected the package prometheus-client, got none. Install the "
            "extra `metrics`: pip install '.[metrics]' in a copy of the repository."
        ) from None
    return exposition
