"""Spent: what processes were busy with while something was measured."""

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from benchmarks.servers import Server, cpu_seconds
from benchmarks.upstream import Upstream

__all__ = ["Spent"]


@dataclass
class Spent:
    """Seconds within the ``with`` block; of several blocks, their sum. ``waited`` is for how long
    the server would have run but had to leave its core to others.
    """

    server: Server
    upstream: Upstream
    cpu: float = 0.0
    waited: float = 0.0
    load: float = 0.0
    wall: float = 0.0
    _before: tuple[float, ...] = field(default=(), repr=False)

    def __enter__(self) -> Self:
        self._before = self._now()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        now = self._now()
        cpu, waited, load, wall = (b - a for a, b in zip(self._before, now, strict=True))
        self.cpu += cpu
        self.waited += max(0.0, waited)  # a thread that has ended takes its share along
        self.load += load
        self.wall += wall

    def _now(self) -> tuple[float, ...]:
        load = time.process_time() + cpu_seconds(self.upstream.pid)
        server = self.server
        return server.cpu_seconds(), server.waited_seconds(), load, time.perf_counter()

    def shares(self) -> dict[str, float]:
        """Of the time on the clock: the server on its core, waiting for it, and the load."""
        return {
            "server_core": self.cpu / self.wall,
            "waited": self.waited / self.wall,
            "load_core": self.load / self.wall,
        }
