"""Five times the peak at one worker of ``chatnest serve``, half of it from clients that leave.

``python -m soak.overload [SECONDS]`` prints what came of it. Server and load have a core
each; figures are compared within one run.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

import uvloop

from benchmarks.load import question
from benchmarks.servers import cpu_seconds
from benchmarks.upstream import upstream_process
from tests.endurance.support import python_path
from tests.support.ports import free_port

CORES = sorted(os.sched_getaffinity(0))
TOKENS = 20
TIMES = 5
CLIENTS = 48
"""That ask in turn, for the peak: enough to keep a worker busy while the ledger writes."""
LEAVING_SECONDS = 0.12
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIMITS = {
    "REQUESTS_PER_MINUTE": 10_000_000,
    "DAILY_TOKEN_LIMIT": 100_000_000_000,
    "MAX_CONCURRENT_STREAMS": 100_000,
}


class Request(asyncio.Protocol):
    """One request on a connection of its own. ``ended`` is its outcome once there is one."""

    def __init__(self, seen: "Seen", request: bytes) -> None:
        self._seen, self._request = seen, request
        self._asked = perf_counter()
        self._data = b""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        first, self._data = not self._data, self._data + data
        if first:
            self._seen.note(int(data[9:12]), perf_counter() - self._asked)
        status = int(self._data[9:12])
        if status != 200 or b"\r\n0\r\n\r\n" in self._data or b'{"status":"ok"}' in self._data:
            self.end(str(status) if status != 200 or b"event: error" not in self._data else "error")

    def connection_lost(self, exc: Exception | None) -> None:
        self.end("lost")

    def end(self, how: str) -> None:
        if not self.ended.done():
            self.ended.set_result(how)
            self._transport.abort() if how == "left" else self._transport.close()


@dataclass
class Seen:
    """What clients of one kind saw: how requests ended, and seconds to the first byte by status."""

    ended: Counter[str] = field(default_factory=Counter)
    first: dict[int, list[float]] = field(default_factory=dict)

    def note(self, status: int, seconds: float) -> None:
        self.first.setdefault(status, []).append(seconds)

    def late(self, status: int, share: float = 0.99) -> float:
        """Milliseconds within which this share of the answers with ``status`` began."""
        times = sorted(self.first.get(status, [0.0]))
        return round(times[min(len(times) - 1, int(len(times) * share))] * 1000, 1)


class Load:
    """Requests to one server, from many addresses."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port, self._request = port, request
        self._number = 0

    async def ask(self, seen: Seen, leave: float | None = None, request: bytes = b"") -> str:
        self._number += 1
        source = f"127.{1 + self._number // 250 % 100}.0.{1 + self._number % 250}"
        loop = asyncio.get_running_loop()
        try:
            _, one = await loop.create_connection(
                lambda: Request(seen, request or self._request),
                *("127.0.0.1", self._port),
                local_addr=(source, 0),
            )
        except OSError:
            how = "unreachable"
        else:
            if leave is not None:
                loop.call_later(leave, one.end, "left")
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(one.ended), 20)
            one.end("timed out")
            how = one.ended.result()
        seen.ended[how] += 1
        return how

    async def in_turn(self, seen: Seen, clients: int, seconds: float) -> float:
        """Clients that ask again when they have their answer. Returns answers a second."""
        end = perf_counter() + seconds

        async def client() -> None:
            while perf_counter() < end:
                await self.ask(seen)

        await asyncio.gather(*(client() for _ in range(clients)))
        return seen.ended["200"] / seconds

    async def at_rate(self, rate: float, seconds: float, stay: Seen, leave: Seen) -> None:
        """Requests at ``rate`` whatever comes of them; every other client leaves at random."""
        chance = random.Random(20261129)
        tasks: set[asyncio.Task[str]] = set()
        since = perf_counter()
        asked = 0
        while (now := perf_counter() - since) < seconds:
            while asked < now * rate:
                asked += 1
                leaves = chance.uniform(0, LEAVING_SECONDS) if asked % 2 else None
                one = self.ask(stay if leaves is None else leave, leaves)
                task = asyncio.ensure_future(one)
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)

    async def until_ready(self) -> None:
        for _ in range(600):
            if await self.ask(Seen(), request=HEALTH) == "200":
                return
            await asyncio.sleep(0.1)
        raise TimeoutError

    async def own_lag(self, seen: Seen) -> None:
        """Note how late a timer of this process's own is, until cancelled."""
        while True:
            since = perf_counter()
            await asyncio.sleep(0.01)
            seen.note(200, perf_counter() - since - 0.01)

    async def pulse(self, seen: Seen) -> None:
        """Ask for /healthz every 50 ms, until cancelled."""
        while True:
            await self.ask(seen, request=HEALTH)
            await asyncio.sleep(0.05)


@dataclass
class Report:
    """One run; rates a second, times in milliseconds, CPU as milliseconds of an answer."""

    peak: float
    peak_cpu: float
    rate: float
    answers: float
    share_of_peak: float
    shed: int
    shed_p50: float
    shed_p99: float
    shed_cpu_share: float
    health_before_p99: float
    health_p99: float
    health_max: float
    after: float
    server_busy: float
    server_waited: float
    load_lag_p50: float
    load_lag_p99: float
    ended: dict[str, int]
    left: dict[str, int]


def waited_seconds(pid: int) -> float:
    """Seconds that the threads of a process were ready to run, while its core was another's."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e9


@contextmanager
def served(model: int, **environ: str) -> Iterator[tuple[int, int]]:
    """``chatnest serve`` on the last core: its port and process."""
    port = free_port()
    settings = {f"CHATNEST_PROFILES__BALANCED__{key}": str(n) for key, n in LIMITS.items()}
    settings |= {f"CHATNEST_HARD_CAPS__{key}": "null" for key in LIMITS}
    settings |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{model}/v1", "OPENAI_API_KEY": "sk"}
    settings |= {"PYTHONPATH": python_path(), "CHATNEST_SERVER__PORT": str(port), **environ}
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w+b") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "chatnest", "serve"],
            cwd=folder,
            env={**os.environ, **settings},
            stderr=log,
        )
        try:
            os.sched_setaffinity(process.pid, {CORES[-1]})
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


async def measure(port: int, pid: int, seconds: float) -> Report:
    load = Load(port, question(TOKENS))
    await load.until_ready()
    await load.in_turn(Seen(), 8, 1)  # warm
    before, spent = Seen(), cpu_seconds(pid)
    pulse = asyncio.ensure_future(load.pulse(before))
    peak_seen = Seen()
    peak = await load.in_turn(peak_seen, CLIENTS, max(2, seconds / 4))
    peak_cpu = (cpu_seconds(pid) - spent) / peak_seen.ended["200"]
    pulse.cancel()
    stay, leave, health, own = Seen(), Seen(), Seen(), Seen()
    pulse = asyncio.ensure_future(load.pulse(health))
    watch = asyncio.ensure_future(load.own_lag(own))
    spent, waited = cpu_seconds(pid), waited_seconds(pid)
    began = perf_counter()
    await load.at_rate(TIMES * peak, seconds, stay, leave)
    seconds = perf_counter() - began  # with the last ones' answers
    spent, waited = cpu_seconds(pid) - spent, waited_seconds(pid) - waited
    pulse.cancel()
    watch.cancel()
    await asyncio.sleep(2)
    after = await load.in_turn(Seen(), CLIENTS, max(2, seconds / 4))
    answers = stay.ended["200"] + leave.ended["200"]
    rest = spent - answers * peak_cpu
    others = stay.ended.total() + leave.ended.total() - answers
    shed = Seen(first={503: stay.first.get(503, []) + leave.first.get(503, [])})
    return Report(
        peak=round(peak, 1),
        peak_cpu=round(peak_cpu * 1000, 2),
        rate=round((stay.ended.total() + leave.ended.total()) / seconds, 1),
        answers=round(answers / seconds, 1),
        share_of_peak=round(answers / seconds / peak, 2),
        shed=len(shed.first[503]),
        shed_p50=shed.late(503, 0.5),
        shed_p99=shed.late(503),
        shed_cpu_share=round(rest / others / peak_cpu, 3),
        health_before_p99=before.late(200),
        health_p99=health.late(200),
        health_max=health.late(200, 1),
        after=round(after, 1),
        server_busy=round(spent / seconds, 2),
        server_waited=round(waited / seconds, 2),
        load_lag_p50=own.late(200, 0.5),
        load_lag_p99=own.late(200),
        ended=dict(stay.ended),
        left=dict(leave.ended),
    )


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    os.sched_setaffinity(0, {CORES[0]})
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # before all else on the machine
    with upstream_process() as model, served(model.port) as (port, pid):
        print(json.dumps(asdict(uvloop.run(measure(port, pid, seconds))), indent=1))


if __name__ == "__main__":
    main()
