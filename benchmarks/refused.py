"""How many requests a second one core can refuse, once a rate is used up."""

from contextlib import suppress
from functools import partial

from benchmarks.bench import Bench
from benchmarks.load import Lost, read_all, run
from benchmarks.servers import Server, Setting
from benchmarks.spent import Spent

__all__ = ["Refused"]


class Refused:
    name = "refused"
    what = "requests after a rate is used up, 50 at once"
    fresh = True
    long = False
    setting = Setting(requests_per_minute=1)
    servers = ("chatnest", "chatnest-redis")

    def __call__(self, bench: Bench, server: Server) -> dict[str, float]:
        total = 5_000 if bench.quick else 30_000
        with suppress(Lost):  # where the rate is used up already
            run(partial(read_all, server.port, server.question(1), total=1, at_once=1, tokens=1))
        refusals = partial(
            read_all, server.port, server.question(1), at_once=50, tokens=0, status=429
        )
        run(partial(refusals, total=1_000))
        with Spent(server, bench.upstream) as spent:
            run(partial(refusals, total=total))
        return {
            "per_second": total / spent.wall,
            "us": spent.cpu / total * 1e6,
            **spent.shares(),
        }
