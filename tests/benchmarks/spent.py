"""Spent: what processes and cores were busy with while something was measured."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.benchmarks.servers import CORE, Server, cpu_seconds
from tests.benchmarks.upstream import Upstream

_TICK = 0.01  # seconds, of /proc/stat


@dataclass
class Spent:
    """Seconds within the ``with`` block. ``others`` is what strangers used of the server's core."""

    server: Server
    upstream: Upstream
    cpu: float = 0.0
    load: float = 0.0
    wall: float = 0.0
    others: float = 0.0
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
        cpu, load, wall, core = (b - a for a, b in zip(self._before, now, strict=True))
        self.cpu += cpu
        self.load += load
        self.wall += wall
        self.others += max(0.0, core - cpu)

    def _now(self) -> tuple[float, ...]:
        load = time.process_time() + cpu_seconds(self.upstream.pid)
        return self.server.cpu_seconds(), load, time.perf_counter(), _core_seconds(CORE)

    def shares(self) -> dict[str, float]:
        """How busy the cores were: the server's with it and with others, the other with load."""
        return {
            "server_core": self.cpu / self.wall,
            "strangers": self.others / self.wall,
            "load_core": self.load / self.wall,
        }


def _core_seconds(core: int) -> float:
    """Seconds in which a core was not idle, those that the hypervisor took included."""
    lines = Path("/proc/stat").read_text().splitlines()
    fields = next(line.split() for line in lines if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, fields[1:])
    return (user + nice + system + irq + softirq + steal) * _TICK
