"""A run log that is emptied, deleted or replaced under answers that are being written."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.ledger.server import Server
from tests.runs.support import used
from tests.runs.test_workers import ROOMY
from tests.servers.support import KEY, Client, Process, Reply, ask
from tests.support.soak import amount
from tests.support.waiting import wait_for

pytestmark = pytest.mark.process

Lose = Callable[[], None]

EACH = amount(10, 100)
"""Answers with a key, and as many without."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Server(folder).start()
    yield server
    server.stop()


@pytest.fixture(params=["deleted", "deleted alone", "replaced", "damaged", "FLUSHALL"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Lose]:
    """The address of a ledger, and how the run log beside it is lost."""
    file = tmp_path / "books.db-runs"

    def delete() -> None:
        for name in ("", "-wal", "-shm"):
            file.with_name(file.name + name).unlink(missing_ok=True)

    def delete_alone() -> None:
        file.unlink()

    def replace() -> None:
        if request.param == "replaced":
            with closing(sqlite3.connect(tmp_path / "other")) as other:
                other.execute("CREATE TABLE other (x)")
        else:
            (tmp_path / "other").write_bytes(b"no database" * 1_000)
        shutil.move(tmp_path / "other", file)

    ways = {"deleted": delete, "deleted alone": delete_alone}
    if request.param != "FLUSHALL":
        return "sqlite:books.db", ways.get(request.param, replace)
    redis: Server = request.getfixturevalue("redis")

    def flush() -> None:
        with closing(redis.client()) as client:
            client.flushall()

    return redis.url, flush


def test_answers_end_as_they_would_have(
    tmp_path: Path, upstream: FakeUpstream, store: tuple[str, Lose]
):
    ledger, lose = store
    serve = ["-m", "chatnest", "serve", "--port", "0", "--workers", "2", "--ledger", ledger]
    upstream.default = Answer.stall(1)
    with ExitStack() as stack:
        process = stack.enter_context(
            Process(
                serve,
                cwd=tmp_path,
                CHATNEST_PROVIDER__BASE_URL=upstream.base_url,
                OPENAI_API_KEY=KEY,
                **ROOMY | {"CHATNEST_PROFILES__BALANCED__MAX_CONCURRENT_STREAMS": "500"},
            )
        )
        process.ready()

        def post(number: int | None) -> Reply:
            client = stack.enter_context(Client(process.port))
            headers = [] if number is None else [f"Idempotency-Key: k{number}"]
            client.request("POST", body=ask(), headers=headers)
            reply = client.reply()
            reply.until(b'"Hello"')
            return reply

        first = [post(number) for number in range(EACH)]
        joined = [post(number) for number in range(EACH)]
        plain = [post(None) for _ in range(EACH)]
        lose()
        for reply in first:
            process.find(f"run log lost a run: run={reply.headers['chatnest-run-id']}")
        again = [post(number) for number in range(EACH)]
        upstream.release()
        for reply in [*first, *joined, *plain, *again]:
            reply.read_all()
            assert reply.events[-1] == "done"
        assert {reply.text for reply in [*first, *joined, *again]} == {"Hello world!"}
        assert (
            len({reply.headers["chatnest-run-id"] for reply in [*first, *joined, *again]}) == EACH
        )
        assert len(upstream.requests) == 2 * EACH
        if ledger.startswith("sqlite"):
            assert used(process.port) == 2 * EACH * (8 + 4)


def test_content_is_gone_when_its_time_has_come(tmp_path: Path, upstream: FakeUpstream):
    """From the file and its WAL, without another request; also after a restart."""
    upstream.default = Answer(pieces=tuple(f"secret{number:04}" for number in range(1_000)))
    files = [tmp_path / f"books.db-runs{end}" for end in ("", "-wal", "-shm")]
    serve = ["-m", "chatnest", "serve", "--port", "0", "--workers", "2"]

    def traces() -> int:
        return sum(file.read_bytes().count(b"secret") for file in files if file.exists())

    def serving(keep: int) -> Process:
        return Process(
            [*serve, "--ledger", "sqlite:books.db"],
            cwd=tmp_path,
            CHATNEST_PROVIDER__BASE_URL=upstream.base_url,
            CHATNEST_RUNS__KEEP=str(keep),
            CHATNEST_BOUNDS__LEDGER_SECONDS="10",
            OPENAI_API_KEY=KEY,
            CHATNEST_PROFILES__BALANCED__MAX_OUTPUT_TOKENS="4000",
            CHATNEST_PROFILES__BALANCED__MAX_TOKENS_PER_REQUEST="8000",
        )

    def answer(port: int, key: str) -> None:
        with Client(port) as client:
            client.request("POST", body=ask(), headers=[f"Idempotency-Key: {key}"])
            reply = client.reply()
            reply.read_all()
            assert reply.events[-1] == "done"

    with serving(keep=3) as process:
        process.ready()
        answer(process.port, "a")
        wait_for(lambda: traces() >= 1_000)
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        wait_for(lambda: traces() == 0)
        answer(process.port, "b")
        wait_for(lambda: traces() >= 1_000)
    assert traces()
    with serving(keep=3) as process:
        process.ready()
        wait_for(lambda: traces() == 0)
