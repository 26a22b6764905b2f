"""LeakProbe: counts the resources a process holds, and compares two counts."""

import math
import os
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio

from chatnest.app import ChatNestApp
from chatnest.ledger.base import Ledger, Limit

__all__ = ["LeakProbe", "Snapshot"]

_LINUX: Final = sys.platform == "linux"
_PAUSE: Final = 0.02
_SHOWN: Final = 5
"""Maximum new resources of one kind that a table names."""
_STATES: Final = (
    *("?", "established", "syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "time-wait"),
    *("close", "close-wait", "last-ack", "listen", "closing"),
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The resources at one moment: a count for each kind that may leak, "rss" in bytes.

    `names` describes the counted resources where possible: tasks, files, peers of sockets.
    """

    counts: Mapping[str, int]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def more_than(
        self, before: "Snapshot", slack: Mapping[str, float] | None = None
    ) -> dict[str, int]:
        """Return the increase of each kind beyond `slack`; empty if nothing leaked.

        Memory counts only if `slack` has an "rss" in bytes.
        """
        allowed = {"rss": math.inf, **(slack or {})}
        more = {what: now - before.counts.get(what, 0) for what, now in self.counts.items()}
        return {what: by for what, by in more.items() if by > allowed.get(what, 0)}

    def table(self, before: "Snapshot") -> str:
        """Compare both as lines of text: kind, before, now, difference, names of new resources."""
        rows = [("", "before", "now", "more", "")]
        for what, now in self.counts.items():
            then = before.counts.get(what, 0)
            new = Counter(self.names.get(what, ())) - Counter(before.names.get(what, ()))
            rows.append((what, str(then), str(now), f"{now - then:+}", _listed(new.elements())))
        width = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            f"{row[0]:<{width[0]}}  "
            + "  ".join(f"{cell:>{size}}" for cell, size in zip(row[1:4], width[1:], strict=True))
            + (f"  {row[4]}" if row[4] else "")
            for row in rows
        )


class LeakProbe:
    """Counts resources that may leak, so that a test can assert that nothing did::

        probe = LeakProbe(chats=[chat], ledger=ledger, limits=limits)
        before = await probe.measure()
        ...
        await probe.settled(before, within=3.0)

    Without `pid`, the probe measures its own process: "tasks" of the running event loop (asyncio
    or trio), "threads", and for the apps in `chats` their "streams" and "upstream slots", the
    connections that an OpenAIProvider uses for an answer on this event loop. On Linux it adds
    "fds" (open files, pipes and the like), "sockets" (not counted in "fds") and "rss". With the
    `pid` of another process it measures "fds", "sockets", "threads" and "rss"; this needs Linux
    and permission to read that process.

    With `ledger` and `limits`, the probe adds the amount held under each limit, as
    "held NAME of ACCOUNT".

    Run the code under test once before the first `measure`: pools keep connections open, and
    threads stay. Raises `ValueError` for a `pid` on a system other than Linux, or with `chats`.
    """

    def __init__(
        self,
        pid: int | None = None,
        *,
        chats: Iterable[ChatNestApp] = (),
        ledger: Ledger | None = None,
        limits: Iterable[Limit] = (),
    ) -> None:
        self.pid = pid
        self._chats = tuple(chats)
        self._ledger = ledger
        self._limits = tuple(limits)
        if pid is not None and not _LINUX:
            raise ValueError(f"pid: expected None on a system other than Linux, got {pid}")
        if pid is not None and self._chats:
            raise ValueError(f"pid: expected None with chats, got {pid}. Probe their own process.")
        if (ledger is None) != (not self._limits):
            raise ValueError("ledger, limits: expected both, or neither")

    async def measure(self) -> Snapshot:
        """Count once.

        Raises `ProcessLookupError` if the process does not exist, `PermissionError` if this user
        may not read it, `LedgerUnavailable` if the ledger does not answer, and `LookupError` if
        the probe cannot read the connection pool of a provider.
        """
        # The ledger comes first: it may open a connection that later measurements find open.
        held = await self._held()
        found: dict[str, int | tuple[str, ...]] = {}
        if self.pid is None:
            found["tasks"] = tuple(_task_names())
        found |= _process(self.pid) if _LINUX else {"threads": _thread_names()}
        if self._chats:
            found["streams"] = sum(len(chat._streams) for chat in self._chats)  # noqa: SLF001
            found["upstream slots"] = sum(_slots(chat.provider) for chat in self._chats)
        found |= held
        names = {what: value for what, value in found.items() if isinstance(value, tuple)}
        counts = {what: len(v) if isinstance(v, tuple) else v for what, v in found.items()}
        return Snapshot(counts=counts, names=names)

    async def settled(
        self, before: Snapshot, *, within: float = 3.0, slack: Mapping[str, float] | None = None
    ) -> Snapshot:
        """Wait until no count is above `before`, and return the snapshot of that moment.

        `slack` is the tolerated increase by kind, such as `{"rss": 8 * 2**20, "threads": 1}`;
        memory counts only if `slack` names it. Raises `AssertionError` with a table of the
        increases after `within` seconds, and the exceptions of `measure`.
        """
        now: Snapshot | None = None
        with anyio.move_on_after(within):
            while True:
                now = await self.measure()
                if not now.more_than(before, slack):
                    return now
                await anyio.sleep(_PAUSE)
        if now is None:
            raise AssertionError(f"no measurement finished within {within} s")
        more = ", ".join(f"{by} {what}" for what, by in now.more_than(before, slack).items())
        raise AssertionError(f"leaked after {within} s: {more}\n{now.table(before)}")

    async def _held(self) -> dict[str, int]:
        if self._ledger is None:
            return {}
        states = await self._ledger.usage(self._limits)
        return {f"held {s.limit.name} of {s.limit.account}": s.held for s in states}


def _listed(names: Iterable[str]) -> str:
    counted = [f"{name} ({n} times)" if n > 1 else name for name, n in Counter(names).items()]
    rest = len(counted) - _SHOWN
    return ", ".join(counted[:_SHOWN]) + (f", and {rest} others" if rest > 0 else "")


# ---------------------------------------------------------------- this process


def _task_names() -> Iterator[str]:
    for task in anyio.get_running_tasks():
        inner = getattr(task.coro, "__qualname__", "")
        plain = task.name is None or task.name.startswith("Task-")
        yield inner if plain and inner else str(task.name)


def _thread_names() -> tuple[str, ...]:
    return tuple(thread.name for thread in threading.enumerate())


def _slots(provider: object) -> int:
    """Return the number of connections in use in the pool of this event loop's client.

    The libraries have no public API for it. A changed private attribute raises instead of
    reporting 0.
    """
    clients: Any = getattr(provider, "_clients", None)
    server: Any = getattr(provider, "_server", None)
    own: Any = getattr(server, "_own_client", None)
    if clients is None and own is None:
        return 0  # the provider has no pool
    try:
        kept = clients.get(None)
        client = own if own is not None else None if kept is None else kept.client
        if client is None:
            return 0  # the provider has not sent a request yet
        transport = client._client._transport  # noqa: SLF001
        if hasattr(transport, "_session"):
            connector = transport._session.connector  # noqa: SLF001
            return 0 if connector is None else len(connector._acquired)  # noqa: SLF001
        return sum(not connection.is_idle() for connection in transport._pool.connections)  # noqa: SLF001
    except AttributeError as exc:
        raise LookupError(f"the connection pool of {provider!r} cannot be read: {exc}") from exc


# ---------------------------------------------------------------- any process, on Linux


def _process(pid: int | None) -> dict[str, int | tuple[str, ...]]:
    root = Path("/proc", "self" if pid is None else str(pid))
    try:
        fds = tuple(_links(root / "fd"))
        peers = _peers(root)
        threads = tuple(_first_lines(root / "task", "comm"))
        pages = int((root / "statm").read_text().split()[1])
    except FileNotFoundError as exc:
        raise ProcessLookupError(f"process {pid} does not exist (any more)") from exc
    sockets = tuple(peers.get(link, "a socket") for link in fds if link.startswith("socket:"))
    return {
        "fds": tuple(link for link in fds if not link.startswith("socket:")),
        "sockets": sockets,
        "threads": threads if pid is not None else _thread_names_of(threads),
        "rss": pages * os.sysconf("SC_PAGE_SIZE"),
    }


def _thread_names_of(native: tuple[str, ...]) -> tuple[str, ...]:
    """Return Python's thread names if they cover all threads, else the `native` names."""
    names = _thread_names()
    return names if len(names) == len(native) else native


def _links(folder: Path) -> Iterator[str]:
    for each in folder.iterdir():
        try:
            yield str(each.readlink())
        except FileNotFoundError:  # closed since the listing, as the folder's own descriptor is
            continue


def _first_lines(folder: Path, name: str) -> Iterator[str]:
    for each in folder.iterdir():
        try:
            yield (each / name).read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue


def _peers(root: Path) -> dict[str, str]:
    """Return descriptions of TCP sockets (addresses and state), keyed by their /proc links."""
    peers = {}
    for table in ("tcp", "tcp6"):
        try:
            _, *lines = (root / "net" / table).read_text().splitlines()
        except OSError:  # the namespace lacks this table, or denies access to it
            continue
        for line in lines:
            _, ours, theirs, state, *rest = line.split()
            words = f"{_address(ours)} to {_address(theirs)} {_STATES[int(state, 16)]}"
            peers[f"socket:[{rest[5]}]"] = words
    return peers


def _address(text: str) -> str:
    host, _, port = text.partition(":")
    words = bytes.fromhex(host)
    family = socket.AF_INET if len(words) == 4 else socket.AF_INET6  # noqa: PLR2004  # RFC 791
    # Each 32-bit word is in the machine's byte order.
    ordered = struct.pack(f">{len(words) // 4}I", *struct.unpack(f"={len(words) // 4}I", words))
    return f"{socket.inet_ntop(family, ordered)}:{int(port, 16)}"
