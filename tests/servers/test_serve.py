"""``chatnest serve`` as a process: its page, its settings, its signals, its end by force."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chatnest.testing import CANARY, Answer
from tests.servers.support import KEY, Client, ask, children, closed, runs, said
from tests.support.waiting import wait_for

DONE = b"event: done\ndata: \n\n"


def rows(tmp_path: Path, query: str) -> list[tuple[object, ...]]:
    """What the books say, read as anybody could."""
    with closing(sqlite3.connect(f"file:{tmp_path / 'chatnest.db'}?mode=ro", uri=True)) as books:
        return books.execute(query).fetchall()


def limits(port: int, *headers: str) -> dict[str, dict[str, int]]:
    with Client(port) as client:
        document = client.get("/api/chat/limits", *headers).json()
    return {limit["name"]: limit for limit in document["limits"]}


def test_the_demo_serves_a_page_a_chat_and_its_health(serve):
    process = serve("--demo", "--path", "/talk", CHATNEST_CHAT__DEFAULT_PROFILE="constrained")
    port = process.ready()
    with Client(port) as client:
        page = client.get("/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-dns-prefetch-control"] == "off"
        assert "server" not in page.headers
        assets = {name for name in page.body.decode().split('"') if name.startswith("assets/")}
        assert assets
        for asset in assets:
            answer = client.get(f"/{asset}")
            assert answer.status == 200, asset
            assert "content-security-policy" in answer.headers
        assert client.get("/assets/../config.py").status == 404
        assert client.get("/settings.json").json() == {
            "chat_path": "/talk",
            "model": "demo",
            "models": [
                {
                    "name": "demo",
                    "model": "demo",
                    "provider": "demo",
                    "aliases": ["default", "gpt-4o-mini"],
                    "images": True,
                    "context_window": None,
                    "profiles": ["constrained", "balanced", "expanded", "assistant"],
                }
            ],
            "demo": True,
            "default_profile": "constrained",
            "keys": False,
        }
        assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}
        assert client.get("/nothing").status == 404
        left = client.get("/talk/limits").json()
        assert left["profile"] == "constrained"
        client.request("POST", "/talk", body=ask("a table", usageEvent=True))
        reply = client.reply()
        assert reply.read_all().endswith(DONE)
        assert reply.events[-2:] == ["usage", "done"]
        assert "canned answer" in reply.text
        assert client.get("/api/chat").status == 404
    process.find("model +none: --demo serves canned answers")
    process.signal(signal.SIGTERM)
    process.wait()
    assert "Traceback" not in "".join(process.lines)


def test_a_term_lets_streams_finish_within_the_drain(real, upstream, tmp_path):
    upstream.default = Answer.stall(1)
    process = real(CHATNEST_SERVER__DRAIN_SECONDS="20")
    port = process.ready()
    with Client(port) as client, Client(port) as second:
        reply = client.chat()
        reply.until(b'data: "Hello"\n\n')
        second.get("/readyz")
        process.signal(signal.SIGTERM)
        upstream_waits_for_refusal(second)
        upstream.release()
        assert reply.read_all().endswith(DONE)
    process.wait()
    assert rows(tmp_path, "SELECT tokens, outcome, source FROM turns") == [(12, "done", "provider")]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_term_closes_the_port_at_once(real, upstream, workers):
    """Also that of the parent of workers: who connects would wait for nobody."""
    upstream.default = Answer.stall(1)
    process = real("--workers", workers, CHATNEST_SERVER__DRAIN_SECONDS="3600")
    port = process.ready()
    with Client(port) as client:
        reply = client.chat()
        reply.until(b'data: "Hello"\n\n')
        process.signal(signal.SIGTERM)
        wait_for(lambda: closed(port))
        upstream.release()
        assert reply.read_all().endswith(DONE)
    process.wait()
    assert "all else goes on" not in "".join(process.lines)  # nothing is announced, by default


def upstream_waits_for_refusal(client: Client) -> None:
    """Ask until the draining server refuses, or has closed its idle connection."""
    try:
        for _ in range(1_000):
            answer = client.get("/readyz")
            if answer.status == 503:
                assert answer.json() == {"status": "server_shutdown"}
                return
    except (EOFError, ConnectionError):
        return
    raise AssertionError("the server has not noticed the signal")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_tells_streams_and_settles_them_before_the_end(real, upstream, tmp_path, number):
    upstream.default = Answer.stall(2)
    process = real(CHATNEST_SERVER__DRAIN_SECONDS="0.2")
    port = process.ready()
    with Client(port) as client:
        reply = client.chat()
        reply.until(b'data: " world"\n\n')
        assert limits(port)["tokens"]["held"] > 400
        process.signal(number)
        reply.read_all()
        assert reply.error["code"] == "server_shutdown"
        assert reply.error["retryable"] is True
        assert reply.error["charged"] is True
    upstream.wait(lambda u: u.aborted == 1)
    process.wait()
    assert "Traceback" not in "".join(process.lines)
    assert rows(tmp_path, "SELECT held FROM counters WHERE held <> 0") == []
    [(tokens, outcome)] = rows(tmp_path, "SELECT tokens, outcome FROM turns")
    assert (tokens, outcome) == (8 + 2 + 8, "server_shutdown")

    port = real().ready()
    after = limits(port)["tokens"]
    assert (after["used"], after["held"]) == (18, 0)


def test_half_a_body_is_not_waited_for(real, tmp_path):
    """Neither for its ten seconds nor for the drain's: what it would ask for is refused."""
    process = real(CHATNEST_SERVER__DRAIN_SECONDS="60", CHATNEST_BOUNDS__BODY_SECONDS="60")
    port = process.ready()
    with Client(port) as client:
        head = "Content-Type: application/json", "Content-Length: 100"
        client.request("POST", headers=head)
        client.socket.sendall(b'{"messages":')
        with Client(port) as second:  # by now the first is being read
            assert second.get("/readyz").status == 200
        process.signal(signal.SIGTERM)
        refused = client.reply()
        assert (refused.status, refused.json()["code"]) == (503, "server_shutdown")
        assert refused.json()["retryable"] is True
        process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_workers_end_with_a_parent_that_was_killed(real, upstream, tmp_path):
    """They settle what they write, and leave the port to the next."""
    upstream.default = Answer.stall(1)
    process = real("--workers", "2", CHATNEST_SERVER__DRAIN_SECONDS="0.2")
    port = process.ready()
    workers = children(process.pid)
    assert len(workers) >= 2
    try:
        with Client(port) as client:
            reply = client.chat()
            reply.until(b'data: "Hello"\n\n')
            process.signal(signal.SIGKILL)
            reply.read_all()
            assert reply.error["code"] == "server_shutdown"
        wait_for(lambda: not any(runs(worker) for worker in workers))
    finally:
        for worker in filter(runs, workers):
            os.kill(worker, signal.SIGKILL)
    assert rows(tmp_path, "SELECT count(*), sum(held) FROM counters WHERE held <> 0") == [(0, None)]
    with pytest.raises(ConnectionRefusedError):
        Client(port)


def test_what_was_used_is_there_after_a_restart(real, upstream):
    for used in (0, 12, 24):
        process = real()
        port = process.ready()
        assert limits(port)["tokens"]["used"] == used
        with Client(port) as client:
            assert client.chat().read_all().endswith(DONE)
        process.signal(signal.SIGTERM)
        process.wait()


def test_after_a_kill_the_hold_stands_until_its_lease_ends(real, upstream, tmp_path):
    upstream.default = Answer.stall(1)
    process = real()
    port = process.ready()
    with Client(port) as client:
        client.chat().until(b'data: "Hello"\n\n')
        process.kill()
    upstream.wait(lambda u: u.aborted == 1)
    [(state, tokens, until)] = rows(tmp_path, "SELECT state, tokens, until FROM holds")
    assert (state, tokens) == (0, 8 + 400)
    assert isinstance(until, int)
    assert time.time() * 1000 < until <= (time.time() + 30) * 1000
    with closing(sqlite3.connect(tmp_path / "chatnest.db")) as books, books:
        books.execute("UPDATE holds SET until = until + 3600000")  # however long a start takes

    upstream.default = Answer()
    port = real().ready()
    stands = limits(port)
    assert (stands["tokens"]["held"], stands["streams"]["held"]) == (408, 1)
    with Client(port) as client:  # others go on, and its share is not given away
        assert client.chat().read_all().endswith(DONE)
    assert limits(port)["tokens"]["used"] == 12

    # As if the thirty seconds had passed.
    with closing(sqlite3.connect(tmp_path / "chatnest.db")) as books, books:
        books.execute("UPDATE holds SET until = 1 WHERE state = 0")
    over = limits(port)
    assert (over["tokens"]["used"], over["tokens"]["held"]) == (12 + 408, 0)
    assert over["streams"]["held"] == 0


def test_two_workers_share_one_budget(real, upstream, tmp_path):
    process = real(
        "--workers",
        "2",
        CHATNEST_PROFILES__BALANCED__DAILY_TOKEN_LIMIT=str(3 * 408),
        CHATNEST_PROFILES__BALANCED__MIN_OUTPUT_TOKENS="400",
        CHATNEST_PROFILES__BALANCED__MAX_CONCURRENT_STREAMS="100",
        PYTHONDEVMODE="1",  # which complains of what is left open
    )
    upstream.default = Answer.stall(0)
    port = process.ready()
    clients = [Client(port) for _ in range(12)]
    for client in clients:
        client.request("POST", body=ask())
    replies = [client.reply() for client in clients]
    assert sorted(reply.status for reply in replies) == [200] * 3 + [429] * 9
    upstream.release()
    for reply in replies:
        if reply.status == 200:
            assert reply.read_all().endswith(DONE)
        else:
            assert reply.json()["code"] == "budget_exhausted"
    for client in clients:
        client.socket.close()
    assert limits(port)["tokens"]["used"] == 36
    process.signal(signal.SIGTERM)
    process.wait()
    assert rows(tmp_path, "SELECT count(*), sum(tokens) FROM turns") == [(3, 36)]


def test_the_identity_is_the_header_of_a_proxy(real):
    process = real(CHATNEST_IDENTITY__HEADER="X-Auth-User")
    port = process.ready()
    with Client(port) as client:
        for header in (["X-Auth-User: ann"], ["X-Auth-User: bob"], ["X-Auth-User: ann"]):
            client.request("POST", body=ask(), headers=header)
            assert client.reply().read_all().endswith(DONE)
        for headers in ([], ["X-Auth-User: ann", "X-Auth-User: eve"], ["X-Auth-User: "]):
            client.request("POST", body=ask(), headers=headers)
            refused = client.reply()
            assert (refused.status, refused.json()["code"]) == (401, "unauthenticated")
    assert limits(port, "X-Auth-User: ann")["tokens"]["used"] == 24
    assert limits(port, "X-Auth-User: bob")["tokens"]["used"] == 12


def test_a_header_of_somebody_else_is_not_believed(real):
    process = real(
        CHATNEST_IDENTITY__HEADER="X-Auth-User", CHATNEST_IDENTITY__TRUSTED_PROXIES="192.0.2.1"
    )
    with Client(process.ready()) as client:
        client.request("POST", body=ask(), headers=["X-Auth-User: ann"])
        assert client.reply().status == 401


def test_forwarded_addresses_count_from_trusted_proxies_only(real):
    with Client(real().ready()) as client:
        client.request("POST", body=ask(), headers=["X-Forwarded-For: 198.51.100.7"])
        assert client.reply().read_all().endswith(DONE)
        assert client.get("/api/chat/limits").json()["limits"][-1]["used"] == 12


def test_the_configuration_is_a_file(real, tmp_path):
    (tmp_path / "own.toml").write_text(
        '[chat]\nsystem_prompt = "Be brief."\nusage_event = true\n'
        "[profiles.balanced]\nmax_output_tokens = 77\n",
        encoding="utf-8",
    )
    process = real("--config", "own.toml")
    with Client(process.ready()) as client:
        reply = client.chat()
        assert reply.read_all().endswith(DONE)
        assert reply.events[-2:] == ["usage", "done"]
        assert '"tokens";q=70000' in reply.headers["ratelimit-policy"]


def test_nothing_is_taken_for_another_type(serve):
    """Also a response that is not the page's: what a model writes must not become HTML."""
    process = serve("--demo", CHATNEST_SERVER__ALLOW_ORIGINS="https://www.example.com")
    port = process.ready()
    origin = "Origin: https://www.example.com"
    plain = (
        *("/", "/assets/app.js", "/settings.json", "/healthz", "/nothing", "/api/chat"),
        *("/api/chat/limits", "/api/chat/runs/nothing"),
    )
    asked: list[tuple[str, str, tuple[str, ...], dict[str, Any] | None]] = [
        *(("GET", path, (), None) for path in plain),
        ("POST", "/", (), None),
        ("DELETE", f"/api/chat/runs/{'0' * 32}", (), None),
        ("GET", "/", ("Host: evil.example", "Origin: https://evil.example"), None),
        ("OPTIONS", "/api/chat", (origin, "Access-Control-Request-Method: POST"), None),
        ("POST", "/api/chat", (), ask("a table")),
        ("POST", "/api/chat", (), {}),
        ("BAD METHOD", "/", (), None),
    ]
    for method, path, headers, body in asked:
        with Client(port) as client:
            client.request(method, path, headers=headers, body=body)
            reply = client.reply()
            found = reply.headers.get("x-content-type-options")
            assert found == "nosniff", (method, path, reply.status)


def test_only_profiles_that_are_open_are_served_and_the_start_names_them(real, upstream, tmp_path):
    process = real()
    with Client(process.ready()) as client:
        client.request("POST", "/api/chat", body=ask("Hi", profile="expanded"))
        refused = client.reply()
        assert (refused.status, refused.json()["code"]) == (403, "forbidden_profile")
        assert client.get("/api/chat/limits").json()["profiles"] == ["constrained", "balanced"]
        assert not upstream.requests
    process.find("open +constrained: 30,000 tokens a day")
    process.find("open +balanced, the default: 70,000 tokens a day")
    process.find("closed +expanded, assistant ")
    process.signal(signal.SIGTERM)
    process.wait()

    (tmp_path / "own.toml").write_text("[profiles.expanded]\nmax_output_tokens = 99\n")
    process = real("--config", "own.toml")
    with Client(process.ready()) as client:
        client.request("POST", "/api/chat", body=ask("Hi", profile="expanded"))
        assert client.reply().read_all().endswith(DONE)
    process.find("open +expanded: ")
    assert upstream.last.json["max_tokens"] == 99


def test_a_long_conversation_is_no_long_head(real):
    """However much of it arrives in one read, behind its head."""
    turns = [("user", "a"), ("assistant", "b" * 12_000)] * 16 + [("user", "c")]
    body = {"messages": [{"role": role, "content": text} for role, text in turns]}
    with Client(real().ready()) as client:
        for _ in range(3):
            client.request("POST", body=body)
            assert client.reply().read_all().endswith(DONE)


def test_what_the_server_says_has_a_time_and_a_name(real):
    process = real()
    with Client(process.ready()) as client:
        client.socket.sendall(b"\x16\x03\x01, as TLS begins\r\n\r\n")
        assert client.reply().status == 400
    process.find(r"^\S+ \S+ WARNING uvicorn\.error: Invalid HTTP request")
    process.signal(signal.SIGTERM)
    process.wait()


def test_nothing_of_key_or_upstream_is_written(real, upstream):
    upstream.default = Answer.error(401)
    process = real()
    with Client(process.ready()) as client:
        reply = client.chat()
        assert (reply.status, reply.json()["code"]) == (503, "upstream_account")
    process.signal(signal.SIGTERM)
    process.wait()
    written = "".join(process.lines)
    assert "error=upstream_account status=401" in written
    assert CANARY not in written
    assert KEY not in written


def refused(tmp_path: Path, *arguments: str, **environ: str) -> str:
    """The one sentence with which it ends at once."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CHATNEST_", "OPENAI_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "chatnest", "serve", *arguments],
        cwd=tmp_path,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    sentence = said(ended.stderr)
    assert sentence.startswith("chatnest: ")
    assert sentence.count("\n") == 1
    return sentence


def test_without_a_key_it_says_what_to_do(tmp_path):
    sentence = refused(tmp_path)
    assert "OPENAI_API_KEY" in sentence
    assert "--demo" in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        sentence = refused(tmp_path, "--demo", "--port", str(port))
    assert f"port {port}" in sentence


def test_memory_with_two_workers_is_refused(tmp_path):
    sentence = refused(tmp_path, "--demo", "--ledger", "memory:", "--workers", "2")
    assert "2 workers" in sentence


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CHATNEST_CHAT__PING_INTERVALL": "3"}, "chat.ping_interval"),
        ({"CHATNEST_CHAT__PING_INTERVAL": "soon"}, "chat.ping_interval"),
        ({"CHATNEST_CHAT__PING_INTERVAL": "0"}, "ping_interval"),
        ({"CHATNEST_BUDGET__TIMEZONE": "Nowhere"}, "'Nowhere'"),
        ({"CHATNEST_LEDGER__URL": "mysql://x"}, "ledger.url: expected memory:"),
        ({"CHATNEST_LEDGER__URL": "sqlite:no/such/directory/x.db"}, "no/such/directory"),
        ({"CHATNEST_SERVER__PORT": "99999"}, "99999"),
        ({"CHATNEST_SERVER__HOST": "no_such_name.invalid"}, "no_such_name.invalid"),
        ({"CHATNEST_SERVER__WORKERS": "0"}, "server.workers"),
        ({"CHATNEST_CHAT__PATH": "chat/"}, "'chat/'"),
        ({"CHATNEST_PROFILES__BALANCED__TEMPERATURE": "9"}, "temperature"),
        ({"CHATNEST_PROFILES__BALANCED__MAX_OUTPUT_TOKENS": "99999"}, "hard_caps"),
        ({"CHATNEST_CHAT__ALLOWED_PROFILES": "constrained, nobody"}, "'nobody'"),
    ],
)
def test_what_cannot_work_is_said_at_the_start(tmp_path, environ, words):
    assert words in refused(tmp_path, "--demo", **({"CHATNEST_SERVER__PORT": "0"} | environ))


@pytest.mark.parametrize("url", ["mysql://ann:hunter2@x", "redis+what://ann:hunter2@x"])
def test_a_password_in_an_address_is_not_repeated(tmp_path, url):
    assert "hunter2" not in refused(tmp_path, "--demo", "--ledger", url, "--port", "0")


def test_pages_of_other_origins_call_it_where_they_are_named(serve):
    page = "https://www.example.com"
    named = serve("--demo", CHATNEST_SERVER__ALLOW_ORIGINS=page)
    unnamed = serve("--demo", "--ledger", "memory:")
    for process, origin, allowed in [
        (named, page, page),
        (named, "https://evil.example.com", None),
        (named, "null", None),
        (unnamed, page, None),
    ]:
        with Client(process.port) as client:
            answer = client.get("/api/chat/limits", f"Origin: {origin}")
        headers = dict(answer.headers)
        assert headers.get("access-control-allow-origin") == allowed
        assert allowed is None or "origin" in headers["vary"].lower()


def test_no_frame_waits_for_the_one_before_it_to_be_acknowledged():
    """Nagle's algorithm and a client's delayed acknowledgement cost 40 ms a frame."""
    from chatnest.config.sections import Config, ServerSection
    from chatnest.server.serve import _listen

    with (
        _listen(Config(server=ServerSection(port=0))) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_model_whose_thinking_may_use_up_its_limit_is_named_at_the_start(real):
    process = real(CHATNEST_PROVIDER__MODEL="gpt-5-mini")
    process.ready()
    process.find("warning: provider.model: gpt-5-mini reasons before it answers")
