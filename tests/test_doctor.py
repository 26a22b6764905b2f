"""``chatnest doctor``: what it says of real servers, real files, and of what is configured."""

import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import anyio
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from chatnest.cli import main
from chatnest.diagnostics.checks import Check
from chatnest.ledger.base import wall_clock
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.sqlite import survey as sqlite_survey
from chatnest.stores.reasons import reason_of
from chatnest.testing import FakeUpstream
from tests.ledger.server import PATIENCE, Server, running, running_cluster
from tests.ledger.sqlite_support import write_lock
from tests.ledger.test_redis_away import sentinel
from tests.servers.support import Process, said

KEY = "sk-secret-of-the-operator"
WELL = ("ok", "skip")


class Diagnosis:
    """What a run of the command said."""

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        self.output = output
        lines = [json.loads(line) for line in output.splitlines()]
        self.checks = {line["name"]: Check(**line) for line in lines}

    def __getitem__(self, name: str) -> Check:
        return self.checks[name]

    def of(self, *levels: str) -> set[str]:
        return {name for name, check in self.checks.items() if check.level in levels}


Doctor = Callable[..., Diagnosis]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder, an environment and a limit of open files in which nothing is the matter."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CHATNEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("CHATNEST_SERVER__HOST", "0.0.0.0")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65_536, 65_536))
    monkeypatch.setattr(sqlite_survey, "_file_system", lambda _: "ext4")


@pytest.fixture
def doctor(bare: None, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Runs the command in this process, and has its answer as JSON."""

    def run(*arguments: str) -> Diagnosis:
        with pytest.raises(SystemExit) as caught:
            main(["doctor", "--json", *arguments])
        assert isinstance(caught.value.code, int)
        output, errors = capsys.readouterr()
        assert errors == ""
        assert KEY not in output
        return Diagnosis(caught.value.code, output)

    return run


@pytest.fixture
def of_redis(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """The same, with the patience that a busy machine needs."""
    monkeypatch.setenv("CHATNEST_LEDGER__TIMEOUT", "10")
    monkeypatch.setenv("CHATNEST_BOUNDS__LEDGER_SECONDS", "21")
    monkeypatch.setenv("CHATNEST_BOUNDS__SETTLE_SECONDS", "22")
    monkeypatch.setenv("CHATNEST_SERVER__DRAIN_SECONDS", "1")
    return lambda url, *arguments: doctor("--ledger", url, *arguments)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


def config_set(server: Server, **settings: object) -> None:
    with server.client() as client:
        for name, value in settings.items():
            client.config_set(name.replace("_", "-"), value)


# ---------------------------------------------------------------- Redis


@pytest.mark.process
def test_a_server_that_is_set_up_for_money(of_redis: Doctor, server: Server):
    found = of_redis(server.url)

    assert found.of("fail") == set()
    assert {name for name in found.of("warn") if name.startswith("redis.")} == set()
    assert found["redis.write"].found == f"{server.url} answers and accepts writes"
    assert found["redis.appendfsync"].found == "always"
    assert found["redis.version"].found.startswith(("Valkey", "Redis"))
    assert found["redis.clock"].level == "ok"
    with server.client() as client:
        assert client.keys("*:counters") == client.keys("*:holds") == []


@pytest.mark.process
@pytest.mark.parametrize(
    ("settings", "level", "what"),
    [
        ({"appendonly": "no"}, "warn", "redis.appendonly"),
        ({"appendfsync": "everysec"}, "warn", "redis.appendfsync"),
        ({"appendfsync": "no"}, "warn", "redis.appendfsync"),
        ({"maxmemory_policy": "allkeys-lru"}, "fail", "redis.memory"),
        (
            {"maxmemory_policy": "volatile-ttl", "maxmemory": 100_000_000},
            "fail",
            "redis.memory",
        ),
        ({"maxmemory": 100_000_000}, "ok", "redis.memory"),
        ({"maxmemory": 1}, "fail", "redis.write"),
        ({"min_replicas_to_write": 1}, "fail", "redis.write"),
        ({"requirepass": "hunter2"}, "fail", "redis.write"),
    ],
    ids=str,
)
def test_settings(
    of_redis: Doctor, server: Server, settings: dict[str, object], level: str, what: str
):
    config_set(server, **settings)
    found = of_redis(server.url)

    assert found[what].level == level
    assert bool(found[what].advice) == (level != "ok")
    assert found.code == (1 if level == "fail" else 0)
    assert of_redis(server.url, "--strict").code == (0 if level == "ok" else 1)


@pytest.mark.process
def test_passwords(of_redis: Doctor, server: Server):
    unneeded = of_redis(f"redis://:wr0ng@{server.address}")
    assert "has no password, and the address has one" in unneeded["redis.write"].found
    config_set(server, requirepass="hunter2")

    missing = of_redis(server.url)
    assert "requires a password" in missing["redis.write"].found
    assert missing.of("skip") >= {"redis.scripts", "redis.role", "redis.round_trip"}
    right = of_redis(f"redis://:hunter2@{server.address}")
    assert right["redis.write"].level == "ok"
    for url in (f"redis://:wr0ng@{server.address}", f"redis://ann:wr0ng@{server.address}"):
        wrong = of_redis(url)
        assert "refuses the user or the password" in wrong["redis.write"].found
        for output in (wrong.output, right.output, unneeded.output):
            assert "wr0ng" not in output
            assert "hunter2" not in output


@pytest.mark.process
@pytest.mark.parametrize(
    ("rights", "found"),
    [
        ("~chatnest:* +@read +@connection", "may not use the 'set' command"),
        ("~other:* +@all", "may not use its keys"),
    ],
)
def test_a_user_who_may_not(of_redis: Doctor, server: Server, rights: str, found: str):
    with server.client() as client:
        client.execute_command("ACL SETUSER", "ann", "on", ">pw", *rights.split())

    assert found in of_redis(f"redis://ann:pw@{server.address}")["redis.write"].found


@pytest.mark.process
def test_a_user_with_the_rights_that_are_advised(of_redis: Doctor, server: Server):
    with server.client() as client:
        may = "~chatnest:* +@read +@write +@scripting +@connection +time +info"
        client.execute_command("ACL SETUSER", "ann", "on", ">pw", *may.split())
        client.execute_command("ACL SETUSER", "bob", "on", ">pw", *may.split(), "-evalsha", "-eval")
        client.execute_command("ACL SETUSER", "eve", "on", ">pw", *may.split(), "-info", "-time")
    ann, bob, eve = (
        of_redis(f"redis://{who}:pw@{server.address}") for who in ("ann", "bob", "eve")
    )

    assert ann["redis.write"].level == ann["redis.scripts"].level == "ok"
    assert ann["redis.appendonly"].level == "ok"
    assert (ann["redis.appendfsync"].level, ann.code) == ("skip", 0)
    assert "CONFIG GET is refused" in ann["redis.appendfsync"].found
    assert "'evalsha' command" in bob["redis.scripts"].found
    assert bob["redis.scripts"].level == "fail"
    assert "INFO is refused" in eve["redis.role"].found


@pytest.mark.process
def test_a_replica(of_redis: Doctor, server: Server, tmp_path: Path):
    (tmp_path / "replica").mkdir()
    with running(tmp_path / "replica", "--replicaof", f"127.0.0.1 {server.port}") as replica:
        with replica.client() as client:  # until then it reads what there is, and says just that
            replica.wait_until(lambda: client.info()["master_link_status"] == "up")
        found = of_redis(replica.url)
        primary = of_redis(server.url)
        config_set(server, min_replicas_to_write=1)
        bounded = of_redis(server.url)

    assert "is a replica" in found["redis.write"].found
    assert found["redis.role"].level == "fail"
    assert primary["redis.replicas"].level == "warn"
    assert bounded["redis.replicas"].found == "1, min-replicas-to-write 1"
    assert (found.code, primary.code) == (1, 0)


@pytest.mark.process
def test_clusters(of_redis: Doctor, server: Server, tmp_path: Path):
    (tmp_path / "cluster").mkdir()
    with running_cluster(tmp_path / "cluster") as cluster:
        plain = of_redis(cluster.url)
        right = of_redis(f"redis+cluster://{cluster.address}")
        with cluster.client() as client:
            client.execute_command("CLUSTER DELSLOTS", 7)
        hole = of_redis(f"redis+cluster://{cluster.address}")
    none = of_redis(f"redis+cluster://{server.address}")

    assert plain["redis.cluster"].level == "fail"
    assert "redis+cluster://" in plain["redis.cluster"].advice
    assert right["redis.cluster"].found == "state ok, all of 16,384 slots served"
    assert right["redis.appendonly"].found.startswith(f"{cluster.address}: no")
    assert "slots" in hole["redis.write"].found
    assert "is not a cluster" in none["redis.write"].found


@pytest.mark.process
def test_sentinels(of_redis: Doctor, server: Server, tmp_path: Path):
    (tmp_path / "sentinel").mkdir()
    settings = tmp_path / "sentinel" / "sentinel.conf"
    settings.write_text(f"sentinel monitor main 127.0.0.1 {server.port} 1\n")
    with sentinel(tmp_path / "sentinel") as guard:
        right = of_redis(f"redis+sentinel://{guard.address}/main")
        other = of_redis(f"redis+sentinel://{guard.address}/other")
    away = of_redis(f"redis+sentinel://{guard.address}/main")
    none = of_redis(f"redis+sentinel://{server.address}/main")

    assert right["redis.write"].level == "ok"
    assert "nothing to fail over to" in right["redis.replicas"].advice
    assert "know no primary of that name" in other["redis.write"].found
    assert "no sentinel that answers" in away["redis.write"].found
    assert "is not a sentinel" in none["redis.write"].found


@pytest.mark.process
def test_a_server_that_is_away(of_redis: Doctor, server: Server, tmp_path: Path):
    server.stop()
    for url in (server.url, f"redis+cluster://{server.address}"):
        found = of_redis(url)
        assert "connection refused" in found["redis.write"].found
        assert found.code == 1
    assert (
        "the socket does not exist" in of_redis(f"unix://{tmp_path}/none.sock")["redis.write"].found
    )


@pytest.mark.process
def test_a_frozen_server_does_not_hold_it_up(doctor: Doctor, server: Server):
    with server.frozen():
        for url in (server.url, f"redis+cluster://{server.address}"):
            with ended_within(PATIENCE):
                found = doctor("--ledger", url)
            assert "no answer came" in found["redis.write"].found
            assert found["redis.round_trip"].level == "skip"


@contextmanager
def ended_within(seconds: int) -> Iterator[None]:
    def too_late(*_: object) -> None:
        raise AssertionError("it is still not done")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.process
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_tls(of_redis: Doctor, tmp_path: Path):
    with tls_server(tmp_path) as port:
        untrusted = of_redis(f"rediss://127.0.0.1:{port}")
        plain = of_redis(f"redis://127.0.0.1:{port}")

    assert "certificate is not trusted" in untrusted["redis.write"].found
    assert "closes the connection" in plain["redis.write"].found


@contextmanager
def tcp_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """One connection after the other, in a thread; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with suppress(OSError):  # the listener's own is the end
            while True:
                connection, _ = listener.accept()
                with suppress(OSError), connection:
                    serve(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def tls_server(folder: Path) -> Iterator[int]:
    """Shakes hands, or does not, and closes."""
    files = [str(folder / name) for name in ("key.pem", "cert.pem")]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*make, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])

    def shake(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with tcp_server(shake) as port:
        yield port


@pytest.mark.parametrize(
    ("failure", "found"),
    [
        (socket.gaierror(-2, "Name or service not known"), "host name cannot be resolved"),
        (ssl.SSLError(1, "wrong version number"), "TLS handshake failed"),
        (PermissionError(13, "Permission denied"), "may not use the socket"),
        (OSError(113, "No route to host"), "No route to host"),
        (ValueError("hunter2"), "cause is unknown"),
    ],
)
def test_reasons_that_are_hard_to_bring_about(failure: Exception, found: str):
    assert "redis" in sys.modules
    assert found in str(reason_of(failure))


def test_the_first_cause_says_most():
    lost = RedisConnectionError("Error 113 connecting to h:6379.")
    lost.__context__ = OSError(113, "No route to host")  # as redis-py raises it

    assert reason_of(lost).found == "no connection: No route to host"
    assert "closes the connection" in reason_of(RedisConnectionError("hunter2")).found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("LOADING Redis is loading the dataset in memory", "still reading"),
        ("MISCONF Redis is configured to save RDB snapshots", "cannot write to its disk"),
        ("BUSY Redis is busy running a script", "a script blocks"),
        ("MOVED 12 127.0.0.1:7000", "a node of a cluster"),
        ("ERR max number of clients reached", "its maximum of clients"),
        ("ERR DB index is out of range", "no database of that number"),
        ("ERR unknown command 'AUTH', with args beginning with: 'hunter2' ", "'AUTH'"),
        ("WRONGTYPE Operation against a key", "answers: WRONGTYPE Operation against a key"),
    ],
)
def test_what_a_server_may_answer(of_redis: Doctor, answer: str, found: str):
    with answering(answer) as port:
        diagnosis = of_redis(f"redis://127.0.0.1:{port}")

    assert found in diagnosis["redis.write"].found
    assert "hunter2" not in diagnosis.output


@contextmanager
def answering(error: str) -> Iterator[int]:
    """A server that answers everything with one error."""

    def answer(connection: socket.socket) -> None:
        while connection.recv(65_536):
            connection.sendall(f"-{error}\r\n".encode())

    with tcp_server(answer) as port:
        yield port


# ---------------------------------------------------------------- files and memory


async def _make(path: Path) -> None:
    ledger = SQLiteLedger(path)
    await ledger.check()
    await ledger.aclose()


def test_a_file_that_can_be_used_and_is_left_as_it_is(doctor: Doctor, tmp_path: Path):
    new = doctor()
    assert new["sqlite.file"].found == "chatnest.db can be created"
    assert list(tmp_path.iterdir()) == []
    assert new.of("warn", "fail") == set()
    assert new.code == doctor("--strict").code == 0

    anyio.run(_make, tmp_path / "chatnest.db")
    before = (tmp_path / "chatnest.db").read_bytes()
    assert doctor()["sqlite.file"].found == "chatnest.db can be written"
    assert (tmp_path / "chatnest.db").read_bytes() == before


def test_files_that_cannot_be_used(doctor: Doctor, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CHATNEST_LEDGER__BUSY_TIMEOUT", "0.01")
    anyio.run(_make, tmp_path / "newer.db")
    for name, statement in {
        "newer.db": "PRAGMA user_version = 99",
        "other.db": "CREATE TABLE songs (name TEXT)",
    }.items():
        with closing(sqlite3.connect(tmp_path / name)) as file:
            file.execute(statement)
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at " * 40)
    anyio.run(_make, tmp_path / "locked.db")

    with write_lock(tmp_path / "locked.db"):
        for name, found in {
            "newer.db": "newer chatnest",
            "other.db": "another program",
            "text.db": "not a SQLite database",
            "locked.db": "another process has the file locked",
            "none/chatnest.db": "its directory does not exist",
            ".": "cannot be opened",
        }.items():
            diagnosis = doctor("--ledger", f"sqlite:{name}")
            assert found in diagnosis["sqlite.file"].found
            assert (diagnosis["sqlite.file"].level, diagnosis.code) == ("fail", 1)


def test_what_this_user_may_not_write(doctor: Doctor, tmp_path: Path, monkeypatch):
    anyio.run(_make, tmp_path / "chatnest.db")
    refused = [str(tmp_path), str(tmp_path / "chatnest.db")]
    access = os.access
    for found in ("may not write to its directory", "may not read and write it"):
        # Who runs the tests may be allowed everything.
        monkeypatch.setattr(
            os, "access", lambda path, mode: str(Path(path).absolute()) not in refused[:1]
        )
        assert found in doctor()["sqlite.file"].found
        refused.pop(0)
    (tmp_path / "empty.db").touch()
    refused.append(str(tmp_path / "empty.db"))
    diagnosis = doctor("--ledger", "sqlite:empty.db")
    assert "may not read and write it" in diagnosis["sqlite.file"].found
    monkeypatch.setattr(os, "access", access)


def test_several_workers_and_a_library_that_may_damage_the_file(doctor: Doctor, monkeypatch):
    for safe, level in ((True, "ok"), (False, "warn")):
        monkeypatch.setattr(SQLiteLedger, "wal_is_safe", safe)
        assert doctor("--workers", "4")["sqlite.version"].level == level
        assert doctor("--workers", "1")["sqlite.version"].level == "ok"


def test_memory(doctor: Doctor):
    one, four = (doctor("--ledger", "memory:", "--workers", n) for n in ("1", "4"))

    assert (one["memory.workers"].level, one.code) == ("warn", 0)
    assert (four["memory.workers"].level, four.code) == ("fail", 1)
    assert "4 times every limit" in four["memory.workers"].found
    assert doctor("--ledger", "memory:", "--strict").code == 1


def test_the_file_system_is_that_of_the_longest_mount(tmp_path: Path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/vda / ext4 rw 0 0\n"
        f"server:/x {tmp_path} nfs4 rw 0 0\n"
        f"tmpfs {tmp_path}/a\\040b tmpfs rw 0 0\n"
    )
    monkeypatch.setattr(sqlite_survey, "_MOUNTS", mounts)

    assert sqlite_survey._file_system(tmp_path / "x" / "y") == "nfs4"
    assert sqlite_survey._file_system(tmp_path / "a b") == "tmpfs"
    assert sqlite_survey._file_system(Path("/elsewhere")) == "ext4"
    monkeypatch.setattr(sqlite_survey, "_MOUNTS", tmp_path / "none")
    assert sqlite_survey._file_system(tmp_path) is None


# ---------------------------------------------------------------- the command


def test_no_model_is_asked_and_no_key_is_shown(
    doctor: Doctor, upstream: FakeUpstream, monkeypatch, tmp_path: Path
):
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
    found = doctor()

    assert found["provider.key"].found == "OPENAI_API_KEY is set"
    assert found["provider.base_url"].level == "ok"
    assert found["version.openai"].level == "ok"
    assert list(upstream.requests) == []


def test_a_key_is_missed_for_openai_s_own_address_too(doctor: Doctor, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")

    assert doctor()["provider.key"].level == "fail"


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("key", [f'"{KEY}"', f"'{KEY}'", f"Bearer {KEY}"])
def test_a_key_with_something_around_it_is_refused(key: str, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--ledger", "memory:"])
    output, errors = capsys.readouterr()

    assert (caught.value.code, output) == (2, "")
    assert errors.startswith("chatnest: OPENAI_API_KEY: expected a key")
    assert errors.count("\n") == 1
    assert KEY not in errors


@pytest.mark.parametrize(
    "url",
    [
        "https://gateway.example/v1/chat/completions",
        "https://gateway.example/v1/?api-version=2024-10-21",
    ],
)
def test_an_address_with_a_path_or_a_query_is_understood(url: str, doctor: Doctor, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", url)

    found = doctor()["provider.base_url"]

    assert (found.level, found.found) == ("ok", "https://gateway.example/v1")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:11434", "localhost:1234", "192.168.0.7:8000", "ollama"]
)
def test_a_local_server_with_the_model_of_a_hosted_one(host: str, doctor: Doctor, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}/v1")
    found = doctor()["provider.model"]

    assert found.level == "warn"
    assert "provider.model" in found.advice

    monkeypatch.setenv("CHATNEST_PROVIDER__MODEL", "llama3.2")
    assert doctor()["provider.model"].level == "ok"


def test_without_a_limit_of_open_files(doctor: Doctor, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)

    assert doctor()["machine.open_files"].level == "ok"


def test_each_line_of_json_has_the_same_four_fields(doctor: Doctor):
    for line in doctor().output.splitlines():
        check = json.loads(line)
        assert list(check) == ["name", "level", "found", "advice"]
        assert check["level"] in {"ok", "warn", "fail", "skip"}
        assert all(isinstance(value, str) for value in check.values())


@pytest.mark.usefixtures("bare")
def test_lines_for_people(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("CHATNEST_CHAT__PING_INTERVAL", "99")
    with pytest.raises(SystemExit):
        main(["doctor", "--ledger", "sqlite:no\x1bwhere/x.db"])
    lines = capsys.readouterr().out.splitlines()

    (file_line,) = (line for line in lines if "sqlite.file " in line)
    assert file_line.split(maxsplit=2)[:2] == ["fail", "sqlite.file"]
    assert file_line.endswith(
        "no?where/x.db: its directory does not exist -> create it, or choose another path"
    )
    (ping,) = (line for line in lines if line.split()[1] == "chat.ping_interval")
    assert ping.startswith("warn  chat.ping_interval ")
    counted = {level: sum(line.startswith(level) for line in lines[:-1]) for level in WELL}
    assert lines[-1] == (
        f"{len(lines) - 1} checks: {counted['ok']} ok, 2 warn, 1 fail, {counted['skip']} skip"
    )


@pytest.mark.parametrize(
    ("arguments", "toml"),
    [
        (["--ledger", "mysql://ann:hunter2@h"], ""),
        (["--ledger", "redis://ann:hunter2@"], ""),
        (["--workers", "0"], ""),
        (["--port", "99999"], ""),
        (["--path", "chat"], ""),
        ([], "[chat]\npingg = 1"),
        ([], "[identity]\ntrusted_proxies = ['*']"),
        ([], "[chat]\ndefault_profile = 'none'"),
        ([], "[provider]\nbase_url = 'ftp://h'"),
        (["--config", "none.toml"], ""),
    ],
)
def test_what_serve_refuses_is_refused(bare, capsys, tmp_path: Path, arguments, toml):
    (tmp_path / "chatnest.toml").write_text(toml)
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--config", "chatnest.toml", *arguments])
    output, errors = capsys.readouterr()

    assert (caught.value.code, output) == (2, "")
    assert errors.startswith("chatnest: ")
    assert errors.count("\n") == 1
    assert "hunter2" not in errors


def test_a_demo_needs_no_key_and_has_no_address(doctor: Doctor, monkeypatch: pytest.MonkeyPatch):
    """What is said to serve is said to the doctor in the same words."""
    monkeypatch.delenv("OPENAI_API_KEY")
    flags = ("--ledger", "memory:", "--host", "127.0.0.1", "--port", "1234", "--path", "/talk")
    assert doctor(*flags).of("fail") == {"provider.key"}

    found = doctor("--demo", *flags)
    assert (found.code, found.of("fail")) == (0, set())
    assert found["provider.key"].found == "not needed: --demo serves canned answers"
    assert "provider.base_url" not in found.checks
    assert found["identity"].found == "by client address; listens on 127.0.0.1"


@pytest.mark.process
def test_as_a_process_whose_reader_leaves(tmp_path: Path):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CHATNEST_")}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "chatnest", "doctor", "--ledger", "memory:"],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert said(process.stderr.read().decode()) == ""
        assert process.wait(PATIENCE) == 1  # there is no key


@pytest.mark.process
@pytest.mark.anyio
@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("ahead", [-5_000, 0, 5_000])
async def test_clocks_are_compared(anyio_backend: str, server: Server, ahead: int, monkeypatch):
    ledger = RedisLedger(server.url, timeout=10)
    monkeypatch.setattr("chatnest.ledger.redis.ledger.wall_clock", lambda: wall_clock() - ahead)
    survey = await ledger.survey()
    await ledger.aclose()

    (node,) = survey.nodes
    assert node.skew is not None
    # What it took to ask is left out, so that it is never too much.
    assert abs(node.skew) <= abs(ahead) / 1000 + 0.01
    assert (node.skew > 0, node.skew < 0) == (ahead > 0, ahead < 0)


# ---------------------------------------------------------------- serve says why, too


@pytest.mark.process
def test_serve_says_why_the_ledger_is_away(server: Server, tmp_path: Path):
    config_set(server, requirepass="hunter2")
    arguments = ["-m", "chatnest", "serve", "--demo", "--port", "0"]
    where = {
        "CHATNEST_LEDGER__URL": f"redis://:wr0ng@{server.address}",
        "CHATNEST_LEDGER__TIMEOUT": "10",
    }
    with Process(arguments, cwd=tmp_path, **where) as process:
        line = process.find("warning: RedisLedger.* is unavailable").string
        process.find("Press Ctrl")
        process.signal(signal.SIGTERM)
        process.wait()

    assert "refuses the user or the password: correct the address" in line
    assert "wr0ng" not in "".join(process.lines)
