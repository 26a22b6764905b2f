"""MetricsPage: answers ``GET /metrics`` on its own port, in its own threads."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from chatnest._util.addresses import is_loopback
from chatnest.errors import ConfigurationError
from chatnest.telemetry.exposition import Exposition, written_by
from chatnest.telemetry.metrics import Metrics

__all__ = ["MetricsPage"]

_SECONDS: Final = 5.0
"""Timeout in seconds of each read and write on a connection."""
_MOST: Final = 8
"""Maximum requests at a time. Prometheus sends one at a time."""
_PAUSE_SECONDS: Final = 0.0005
"""Seconds between two parts of the metrics, in which a waiting event loop gets the interpreter."""
_PATH: Final = "/metrics"


class MetricsPage(ThreadingHTTPServer):
    """Serves the metrics at ``host`` and ``port``; port 0 picks a free one.

    Raises ConfigurationError if it cannot listen there, or without prometheus-client.
    """

    daemon_threads: bool = True

    def __init__(self, host: str, port: int) -> None:
        self.text: Exposition | None = None
        self.only_local: bool = is_loopback(host)
        self._places = threading.BoundedSemaphore(_MOST)
        self.rendering: threading.Lock = threading.Lock()
        written_by()
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
        self.text = Exposition(metrics)
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
            self._respond(200, written_by().CONTENT_TYPE_LATEST, body)

    def _rendered(self) -> Iterator[bytes]:
        """The metrics in parts. After each of them, other threads may run, such as the event
        loop's.
        """
        for part in self.server.text.parts() if self.server.text is not None else ():
            yield part
            time.sleep(_PAUSE_SECONDS)

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
