"""What a token, a request and a refusal cost: ``python -m tests.benchmarks`` (``nox -s bench``).

The serving process has a core of its own; upstream and load share the other. What counts is the
CPU time of the serving process and its children, user and system, not the time on the clock.
Everything is measured in one run, the servers in turn, several rounds; the medians are shown.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.load import WORKLOADS, Workload, run_load
from tests.benchmarks.servers import SERVERS, serving
from tests.benchmarks.upstream import upstream_process

TARGETS = {
    ("paced", "nginx"): 3.0,
    ("burst", "nginx"): 3.0,
    ("paced", "fastapi"): 0.15,
    ("burst", "fastapi"): 0.05,
    ("short", "fastapi"): 0.50,
    ("paced", "express"): 0.45,
    ("burst", "express"): 0.35,
    ("short", "express"): 0.80,
}
"""At most: chatnest's cost over that of the other, of docs/discussion/performance.md."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--servers", default="chatnest,nginx,fastapi,express,bare")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    load = [
        WORKLOADS[name].scaled(0.1 if options.quick else 1) for name in _names(options.workloads)
    ]
    figures = measure(_names(options.servers), load, options.rounds)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def measure(
    servers: list[str], workloads: list[Workload], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Microseconds of CPU for a unit of each workload, by server, a figure for each round."""
    figures: dict[str, dict[str, list[float]]] = {w.name: {} for w in workloads}
    os.sched_setaffinity(0, {0})
    with tempfile.TemporaryDirectory() as folder, upstream_process() as upstream:
        for name in list(servers):
            missing = SERVERS[name].missing()
            if missing:
                print(f"{name}: left out, {missing}", file=sys.stderr)
                servers.remove(name)
        for number in range(rounds):
            for name in servers:
                with serving(name, upstream.port, Path(folder)) as server:
                    run_load(server.port, WORKLOADS["short"].scaled(0.05), upstream.port)
                    for workload in workloads:
                        before = server.cpu_seconds()
                        units = run_load(server.port, workload, upstream.port)
                        spent = (server.cpu_seconds() - before) / units * 1e6
                        figures[workload.name].setdefault(name, []).append(spent)
                        print(
                            f"round {number + 1} {name} {workload.name}: {spent:.1f} us",
                            file=sys.stderr,
                        )
    return figures


def show(figures: dict[str, dict[str, list[float]]]) -> None:
    """A table of medians, their spread, and chatnest's ratio to each of the others."""
    print("| workload | server | median us | spread | chatnest / it | target |")
    print("|---|---|---:|---:|---:|---:|")
    for workload, servers in figures.items():
        ours = statistics.median(servers["chatnest"]) if "chatnest" in servers else None
        for name, found in servers.items():
            median = statistics.median(found)
            spread = f"{min(found):.1f}-{max(found):.1f}"
            ratio = "" if ours is None or name == "chatnest" else f"{ours / median:.2f}"
            target = TARGETS.get((workload, name))
            verdict = "" if target is None else f"{target:.2f}"
            print(f"| {workload} | {name} | {median:.1f} | {spread} | {ratio} | {verdict} |")


if __name__ == "__main__":
    main()
