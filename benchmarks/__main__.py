"""What a token, a request, a refusal and an open stream cost, beside others: ``nox -s bench``.

Each server has a process of its own on one core; model and load share the other. What counts is
the CPU time of the serving process and its children, not the time on the clock. Everything is
measured in one run, the servers in turn, several rounds; medians are shown, with their spread.
"""

import argparse
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.about import about
from benchmarks.bench import Bench, Workload
from benchmarks.costs import warm
from benchmarks.figures import Figures
from benchmarks.kinds import SERVERS, beside
from benchmarks.litellm import LITELLM
from benchmarks.load import Lost
from benchmarks.page import write
from benchmarks.report import busy, costs, failures, others, verdicts
from benchmarks.servers import LOAD_CORE, Server, serving
from benchmarks.upstream import upstream_process
from benchmarks.workloads import WORKLOADS

_TRIES = 2
_WAITED = 0.02
"""Of the time: when a server waited longer for its core, a measurement is tried again."""

_NICE = -10


def main() -> None:
    options = _options()
    figures = Figures.read(options.figures) if options.figures else _measured(options)
    for text in (costs(figures), others(figures), busy(figures), verdicts(figures)):
        print(text, end="\n\n")
    print(failures(figures))
    if options.json:
        figures.write(options.json)
    if options.write_docs:
        write(figures)


def _measured(options: argparse.Namespace) -> Figures:
    servers = _present(options.servers)
    workloads = [WORKLOADS[name] for name in options.workloads]
    figures = Figures(about={"quick": options.quick, "rounds": options.rounds})
    with _bench(options.quick) as bench:
        for number in range(options.rounds):
            _round(bench, number, servers, workloads, figures)
        figures.about.update(about(bench.folder))
    return figures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="three rounds of less work: a minute or two")
    add("--rounds", type=int, help="how often everything is measured (5, quick 3)")
    add("--servers", type=_names(SERVERS), default=list(SERVERS), metavar="A,B")
    add("--workloads", type=_names(WORKLOADS), default=list(WORKLOADS), metavar="A,B")
    add("--peers", choices=["litellm"], help="a peer that is installed for the run")
    add("--beside", metavar="SRC", help="measure the chatnest of another source folder as well")
    add("--json", type=Path, metavar="FILE", help="where to write the figures")
    add("--figures", type=Path, metavar="FILE", help="do not measure: show these, of --json")
    add("--write-docs", action="store_true", help="write the page of the docs with its chart")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    if options.peers:
        SERVERS[options.peers] = LITELLM
        options.servers.append(options.peers)
    if options.beside:
        SERVERS["chatnest-beside"] = beside(options.beside)
        options.servers.append("chatnest-beside")
    return options


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        found = [name.strip() for name in text.split(",") if name.strip()]
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return found

    return names


def _present(names: list[str]) -> list[str]:
    """Those that this machine can run; the others are named."""
    lost = {name: why for name in names if (why := SERVERS[name].missing())}
    for name, why in lost.items():
        print(f"left out: {name}, since {why}", file=sys.stderr)
    return [name for name in names if name not in lost]


@contextmanager
def _bench(quick: bool) -> Iterator[Bench]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # servers inherit it
    os.sched_setaffinity(0, {LOAD_CORE})
    with _first_in_line(), tempfile.TemporaryDirectory() as folder, upstream_process() as upstream:
        yield Bench(upstream, Path(folder), quick)


@contextmanager
def _first_in_line() -> Iterator[None]:
    """Before whatever else the machine does, where that is allowed. A session may be a group that
    has a priority of its own; it is the shell's too, so it gets its former one back.
    """
    group = Path("/proc/self/autogroup")
    with suppress(OSError):
        os.nice(_NICE)
    with suppress(OSError):
        group.write_text(str(_NICE))
    try:
        yield
    finally:
        with suppress(OSError):
            group.write_text("0")


def _round(
    bench: Bench, number: int, names: list[str], workloads: list[Workload], figures: Figures
) -> None:
    """Costs are measured on servers that run beside each other, the rest on fresh ones. Each round
    begins with another server.
    """
    turn = number % len(names)
    names = [*names[turn:], *names[:turn]]
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for workload in workloads:
            if workload.long and number % 2:
                continue  # every other round will do
            for name in names:
                if name not in (workload.servers or names):
                    continue
                try:
                    found = _measure(bench, workload, name, servers, stack)
                except (Lost, OSError) as exc:  # TimeoutError is one
                    figures.fail(workload.name, name, f"{type(exc).__name__}: {exc}"[:300])
                    found = {}
                figures.add(workload.name, name, found)
                _tell(number, workload.name, name, found)


def _measure(
    bench: Bench, workload: Workload, name: str, servers: dict[str, Server], stack: ExitStack
) -> dict[str, float]:
    """On one of ``servers``, which live as long as ``stack``, or on a fresh one."""
    kind, port = SERVERS[name], bench.upstream.port
    if workload.fresh:
        with serving(name, kind, port, bench.folder, workload.setting) as server:
            return _undisturbed(bench, workload, server)
    if name not in servers:
        servers[name] = stack.enter_context(serving(name, kind, port, bench.folder))
        warm(bench, servers[name])
    return _undisturbed(bench, workload, servers[name])


def _undisturbed(bench: Bench, workload: Workload, server: Server) -> dict[str, float]:
    """Of a few tries the one in which others kept the server from its core least: tokens that wait
    come in heaps, which cost less.
    """
    found = workload(bench, server)
    for _ in range(_TRIES - 1):
        if found.get("waited", 0) > _WAITED and not workload.long:
            found = min(found, workload(bench, server), key=lambda each: each["waited"])
    return found


def _tell(number: int, workload: str, server: str, found: dict[str, float]) -> None:
    text = "  ".join(f"{metric} {value:,.2f}" for metric, value in found.items())
    print(f"round {number + 1}  {workload:8} {server:16} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
