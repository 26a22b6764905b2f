"""FakeUpstream: a server of models on loopback, in a thread of its own."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Self

import anyio
import anyio.to_thread

from chatnest.testing.upstream.answers import Answer
from chatnest.testing.upstream.connection import Connection
from chatnest.testing.upstream.record import Record

__all__ = ["FakeUpstream"]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class FakeUpstream(Record):
    """A server of models on a real loopback socket, scripted request by request.

    It speaks OpenAI's Chat Completions API, its Responses API and Anthropic's Messages API. The
    path of a request chooses: ``/v1/chat/completions``, ``/v1/responses``, ``/v1/messages``.

    The server has its own thread and event loop, so tests on asyncio, on trio and without an event
    loop can use it, and so can servers in other processes. Use it with `with` or `async with`; the
    end of the block closes every connection.

    `path` is the path of the answers, and `url` ends with it. With another path of one of the APIs,
    such as ``/api/v1/messages``, those of the other APIs begin in the same way. A path with another
    end is the only one, and speaks Chat Completions unless its answers have `events`.

    `port` 0 picks a free one. `send_buffer` limits the kernel's send buffer of each connection, in
    bytes (the kernel doubles it), so that `bytes_written` shows how far the client has read;
    otherwise some MB may be unread. The client's receive buffer, 128 KiB or more, counts too.
    `loop_factory` makes the event loop, for example `uvloop.new_event_loop`.

    Raises `OSError` at the start if the port is taken.
    """

    def __init__(
        self,
        *answers: Answer,
        path: str = "/v1/chat/completions",
        port: int = 0,
        send_buffer: int | None = None,
        loop_factory: LoopFactory | None = None,
    ) -> None:
        super().__init__(*answers, path=path)
        self.port: int = port
        self._send_buffer = send_buffer
        self._loop_factory = loop_factory
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event
        self._thread: threading.Thread

    @property
    def base_url(self) -> str:
        """The `base_url` for an OpenAI client. It stays the same after `stop`."""
        return f"{self.origin}/v1"

    @property
    def origin(self) -> str:
        """The `base_url` for an Anthropic client: the scheme, the host and the port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the answers."""
        return f"{self.origin}{self.path}"

    def start(self) -> None:
        """Listen, and return once the server accepts connections. `with` calls this."""
        listener = self._listen()
        ready: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, args=(listener, ready), name="fake-upstream", daemon=True
        )
        self._thread.start()
        ready.get()

    def stop(self) -> None:
        """Close the listener and all connections, and end the thread. `with` calls this.

        Afterwards connections are refused; the recorded requests stay readable.
        """
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def release(self) -> None:
        """Continue every answer that stalls or is silent now."""
        self._in_loop(Connection.release)

    def disconnect(self) -> None:
        """Close all connections, including idle ones. New connections are accepted."""
        self._in_loop(Connection.abort)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def _listen(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listener.getsockname()[1]
        # Connections inherit this. asyncio sets it only on a socket that names its protocol.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        return listener

    def _run(self, listener: socket.socket, ready: SimpleQueue[None]) -> None:
        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            runner.run(self._serve(listener, ready))

    async def _serve(self, listener: socket.socket, ready: SimpleQueue[None]) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await loop.create_server(self._connection, sock=listener, backlog=1024)
        ready.put(None)
        await self._stop.wait()
        self._loop = None
        loop.remove_reader(listener)
        for _ in range(3):  # closing the server now would lose connections it is accepting
            await asyncio.sleep(0)
        server.close()
        while self._connections:
            self._each(Connection.abort)
            await asyncio.sleep(0)

    def _connection(self) -> Connection:
        return Connection(self, self._connections)

    def _in_loop(self, act: Callable[[Connection], None]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._each, act)

    def _each(self, act: Callable[[Connection], None]) -> None:
        for connection in tuple(self._connections):
            act(connection)
