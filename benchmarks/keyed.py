"""What a token of a run costs, beside one of a request without a key, on the same server."""

from collections.abc import Callable
from functools import partial
from uuid import uuid4

from benchmarks.bench import Bench
from benchmarks.load import read_all, run
from benchmarks.servers import Server, Setting
from benchmarks.spent import Spent

__all__ = ["Keyed"]

_TOKENS = 200
_GAP = 20
_STREAMS = 200


class Keyed:
    """``us`` is the CPU time of a token of a run, ``plain_us`` of a token without a key, and
    ``ratio`` their quotient. The two kinds take turns: plain, keyed, keyed, plain.
    """

    name = "keyed"
    what = (
        "`paced`, each request with an `Idempotency-Key` of its own, in turn with requests without "
        "a key on the same server"
    )
    fresh = False
    long = False
    setting = Setting()
    servers = ("chatnest", "chatnest-redis", "chatnest-fastapi", "chatnest-beside")

    def __call__(self, bench: Bench, server: Server) -> dict[str, float]:
        plain, keyed = Spent(server, bench.upstream), Spent(server, bench.upstream)
        order = (plain, keyed) if bench.quick else (plain, keyed, keyed, plain)
        request = server.question(_TOKENS, _GAP)
        for spent in order:
            with spent:
                _read(server, partial(_keyed, server) if spent is keyed else request)
        tokens = _STREAMS * _TOKENS * len(order) // 2
        return {
            "us": keyed.cpu / tokens * 1e6,
            "plain_us": plain.cpu / tokens * 1e6,
            "ratio": keyed.cpu / plain.cpu,
            **keyed.shares(),
        }


def _read(server: Server, request: bytes | Callable[[], bytes]) -> None:
    run(partial(read_all, server.port, request, total=_STREAMS, at_once=_STREAMS, tokens=_TOKENS))


def _keyed(server: Server) -> bytes:
    return server.question(_TOKENS, _GAP, key=uuid4().hex)
