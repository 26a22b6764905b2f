"""What a token and a request cost: CPU time of the serving process, on streams of three kinds."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from benchmarks.bench import Bench
from benchmarks.load import read_all, run
from benchmarks.servers import Server, Setting
from benchmarks.spent import Spent

__all__ = ["COSTS", "Cost", "warm"]

_LEAST_SECONDS = 0.4  # of CPU, in which a figure is measured


@dataclass(frozen=True)
class Cost:
    """``streams`` at a time until there were ``total``, of ``tokens`` each, ``gap`` milliseconds
    apart. A quick run has ``quick`` instead of ``total``. The cost is for each token or request.
    """

    name: str
    what: str
    total: int
    quick: int
    streams: int
    tokens: int
    gap: int = 0
    unit: str = "token"
    fresh: ClassVar[bool] = False
    long: ClassVar[bool] = False
    setting: ClassVar[Setting] = Setting()
    servers: ClassVar[tuple[str, ...]] = ()

    def __call__(self, bench: Bench, server: Server) -> dict[str, float]:
        """Microseconds of CPU for a unit. Again and again, where a server is that fast."""
        total = self.quick if bench.quick else self.total
        load = partial(
            read_all,
            server.port,
            server.question(self.tokens, self.gap),
            total=total,
            at_once=min(self.streams, total),
            tokens=self.tokens,
        )
        spent = Spent(server, bench.upstream)
        units = 0
        while spent.cpu < _LEAST_SECONDS:
            with spent:
                run(load)
            units += total * (self.tokens if self.unit == "token" else 1)
        return {"us": spent.cpu / units * 1e6, **spent.shares()}


COSTS = (
    Cost("paced", "200 streams at once, 200 tokens each, one every 20 ms", 200, 200, 200, 200, 20),
    Cost("burst", "50 streams at once, 2,000 tokens each, without gaps", 50, 15, 50, 2_000),
    Cost(
        "short",
        "2,000 requests of one token, 50 at once, over connections that are kept",
        2_000,
        800,
        50,
        1,
        unit="request",
    ),
)


def warm(bench: Bench, server: Server) -> None:
    """What is done once only is done: imports, connections, a compiler's first looks."""
    requests = 600 if bench.quick else 2_000
    run(partial(read_all, server.port, server.question(1), total=requests, at_once=50, tokens=1))
    run(partial(read_all, server.port, server.question(500), total=10, at_once=5, tokens=500))
    run(partial(read_all, server.port, server.question(25, 20), total=100, at_once=100, tokens=25))
