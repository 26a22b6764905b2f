"""``chatnest serve`` as a process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatnest.testing import FakeUpstream
from tests.servers.support import KEY, Process

Serve = Callable[..., Process]
PATIENT = {"CHATNEST_BOUNDS__LEDGER_SECONDS": "20", "CHATNEST_LEDGER__BUSY_TIMEOUT": "10"}
"""With a disk that is busy: no test here is about a ledger that is away."""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts ``chatnest serve``, and ends it."""
    processes = []

    def start(*arguments: str, **environ: str) -> Process:
        command = ["-m", "chatnest", "serve", "--port", "0", *arguments]
        process = Process(command, cwd=tmp_path, **PATIENT | environ)
        processes.append(process)
        return process

    yield start
    for process in processes:
        with process:
            pass


@pytest.fixture
def real(serve: Serve, upstream: FakeUpstream) -> Serve:
    """Starts ``chatnest serve`` in front of the fake upstream."""

    def start(*arguments: str, **environ: str) -> Process:
        own = {"CHATNEST_PROVIDER__BASE_URL": upstream.base_url, "OPENAI_API_KEY": KEY}
        return serve(*arguments, **own, **environ)

    return start
