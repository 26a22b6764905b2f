"""Run a fake upstream by hand until interrupted."""

import argparse
import contextlib
import dataclasses
import threading
from collections.abc import Callable
from importlib import import_module, util
from typing import Any

from chatnest.testing.upstream.answers import Answer
from chatnest.testing.upstream.server import FakeUpstream


def main() -> None:
    """Print the base URL, then serve the same answer to every request."""
    options = _options()
    factory = None if options.no_uvloop else _uvloop()
    upstream = FakeUpstream(port=options.port, loop_factory=factory)
    upstream.default = _answer(options)
    with upstream, contextlib.suppress(KeyboardInterrupt):
        print(upstream.base_url, flush=True)  # noqa: T201 - the command's output
        threading.Event().wait()


def _answer(options: argparse.Namespace) -> Answer:
    answer = Answer.text(options.text)
    if options.pieces is not None:
        pieces = tuple(answer.pieces[n % len(answer.pieces)] for n in range(options.pieces))
        answer = dataclasses.replace(answer, pieces=pieces)
    return dataclasses.replace(
        answer,
        pace=options.pace,
        first_delay=options.first_delay,
        events_per_write=options.events_per_write,
    )


def _uvloop() -> Callable[[], Any] | None:
    if util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], Any] = import_module("uvloop").new_event_loop
    return factory


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m chatnest.testing.upstream",
        description="A server of models that streams one canned answer, in three APIs.",
    )
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 picks a free one")
    parser.add_argument("--text", default="Hello from a fake upstream.", help="sent word by word")
    parser.add_argument("--pieces", type=int, help="number of pieces; the text repeats")
    parser.add_argument("--pace", type=float, default=0.0, help="seconds between pieces")
    parser.add_argument("--first-delay", type=float, default=0.0, help="seconds before headers")
    parser.add_argument("--events-per-write", type=int, default=1)
    parser.add_argument("--no-uvloop", action="store_true", help="use asyncio's own event loop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
