"""``chatnest ledger``, as a process."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import msgspec
import pytest

from chatnest.cli.ledger import _amount_of
from chatnest.errors import ConfigurationError
from chatnest.ledger import days
from chatnest.ledger.base import Admitted, Charge, Hold, Ledger, Limit, Reservation, wall_clock
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.sqlite.books import RowBooks
from tests.ledger.conftest import redis_server  # noqa: F401  # a fixture
from tests.ledger.server import Server
from tests.servers.support import said
from tests.support.commands import run_command
from tests.support.ports import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio"), pytest.mark.process]

TODAY = ""  # when a test begins, since one day may end between two of them


@pytest.fixture(autouse=True)
def _today(monkeypatch):
    monkeypatch.setitem(globals(), "TODAY", days.day_of(wall_clock(), "UTC"))


class Command:
    """Runs ``chatnest ledger ...`` in a folder of its own."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        names = [name for name in os.environ if name.startswith("CHATNEST_LEDGER")]
        inherited = {k: v for k, v in os.environ.items() if k not in names}
        self.environ = inherited | {"CHATNEST_LEDGER__TIMEOUT": "10"} | environ

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = run_command("ledger", *arguments, cwd=self.folder, environ=self.environ)
        done.stderr = said(done.stderr)
        return done

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        done = self(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]


def budget(limit: int, account: str, name: str = "tokens") -> Limit:
    return Limit(name=name, unit="tokens", window="day", account=account, amount=limit)


async def hold(ledger: Ledger, hold_id: str, *limits: Limit) -> Hold:
    wish = Reservation(id=hold_id, limits=limits, output=100, min_output=100, lease=600_000)
    answer = await ledger.reserve(wish)
    assert isinstance(answer, Admitted)
    return answer.hold


@pytest.fixture(params=["sqlite", "redis"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger: Ledger
    if request.param == "sqlite":
        ledger = SQLiteLedger(tmp_path / "chatnest.db")
    else:
        server = request.getfixturevalue("redis_server")
        ledger = RedisLedger(server.url, prefix=tmp_path.name, timeout=10)
    charge = Charge(
        tokens=70,
        input_tokens=50,
        output_tokens=20,
        source="provider",
        principal="ann",
        profile="balanced",
        model="a-model",
    )
    await ledger.settle(await hold(ledger, "first", budget(9_000, "ann")), charge)
    await hold(ledger, "second", budget(9_000, "ann"))
    yield ledger
    await ledger.aclose()


@pytest.fixture
def command(ledger: Ledger, tmp_path: Path, request: pytest.FixtureRequest) -> Command:
    if isinstance(ledger, SQLiteLedger):
        return Command(tmp_path)
    url = request.getfixturevalue("redis_server").url
    return Command(tmp_path, CHATNEST_LEDGER__URL=url, CHATNEST_LEDGER__PREFIX=tmp_path.name)


async def test_balances_and_holds_are_shown(command: Command):
    shown = command("show")
    assert shown.returncode == 0
    head, row = (line.split() for line in shown.stdout.splitlines())
    assert head[:3] == ["principal", "limit", "day"]
    assert head[3:] == ["used", "held", "settled", "adjusted", "expired", "overrun"]
    assert row == ["ann", "tokens", TODAY, "70", "100", "70", "0", "0", "0"]
    assert command.lines("show", "ann", "--json") == [
        {
            "account": "ann",
            "name": "tokens",
            "day": TODAY,
            "unit": "tokens",
            "settled": 70,
            "held": 100,
            "overrun": 0,
            "expired": 0,
            "adjusted": 0,
            "used": 70,
        }
    ]
    assert command("show", "zoe").stderr == "chatnest: the ledger has no records of 'zoe'\n"
    assert command.lines("show", "zoe", "--json") == []

    holds = command("holds").stdout.splitlines()
    assert holds[1].split()[:2] == ["second", "100"]
    assert holds[1].endswith(" ann")
    (held,) = command.lines("holds", "--json")
    assert (held["id"], held["tokens"]) == ("second", 100)
    assert held["expires_at"].endswith("Z")


async def test_warnings_are_shown(command: Command, ledger: Ledger):
    assert command("warnings").stdout.split() == [
        *("account", "limit", "window", "threshold", "used", "of", "since", "state")
    ]
    limit = msgspec.structs.replace(budget(1_000, "group:team:acme"), warn_at=(50, 500))
    await ledger.settle(await hold(ledger, "third", limit), Charge(tokens=70))
    shown = command("warnings").stdout.splitlines()
    row = [*("group:team:acme", "tokens", TODAY, "5", "%", "70", "1,000"), "pending"]
    assert [*shown[1].split()[:7], shown[1].split()[-1]] == row
    (found,) = command.lines("warnings", "--json")
    assert (found["kind"], found["name"], found["threshold"]) == ("team", "acme", 0.05)
    assert (found["state"], found["at"][-1]) == ("pending", "Z")


async def test_every_settled_turn_is_exported_and_nothing_that_was_said(command: Command):
    command("adjust", "ann", "-20", "--id", "refund-1", "--reason", "our fault")
    turn, adjustment = command.lines("export", "--since", TODAY)

    assert turn.pop("settled_at").startswith(TODAY)
    assert turn.pop("admitted_at").startswith(TODAY)
    assert turn == {
        "type": "turn",
        "id": "first",
        "principal": "ann",
        "profile": "balanced",
        "model": "a-model",
        "input_tokens": 50,
        "output_tokens": 20,
        "tokens": 70,
        "held": 100,
        "money": 0,
        "held_money": 0,
        "facts": {},
        "source": "provider",
        "outcome": "done",
        "lines": [f"tokens:{TODAY}:ann"],
    }
    assert adjustment.pop("at").startswith(TODAY)
    assert adjustment == {
        "type": "adjustment",
        "id": "refund-1",
        "account": "ann",
        "name": "tokens",
        "day": TODAY,
        "amount": -20,
        "reason": "our fault",
    }
    assert command.lines("export", "--since", "2999-01-01T00:00:00+02:00") == []
    wrong = command("export", "--since", "yesterday")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "--since: expected a date or time such as 2026-11-22 or " in wrong.stderr
    assert wrong.stderr.endswith(", got 'yesterday'.\n")


async def test_an_adjustment_is_made_once(command: Command):
    refund = ("adjust", "ann", "-50", "--id", "refund-1", "--reason", "our fault")
    place = f"ann, tokens of {TODAY}: -50 tokens"

    assert command(*refund).stdout == f"{place}; used 20, held 100\n"
    again = command(*refund)
    assert again.returncode == 0
    assert again.stdout.startswith(f"{place}, already made at {TODAY}T")
    assert again.stdout.endswith("Z; nothing was changed; used 20, held 100\n")
    other = command("adjust", "ann", "-51", "--id", "refund-1", "--reason", "our fault")
    assert other.returncode == 2
    assert "'refund-1', the id of another adjustment of 'ann': -50 tokens" in other.stderr
    assert command("verify").stdout == "1 counters, 0 drifts\n"


async def test_who_was_never_here_gets_an_account_when_it_is_said_so(command: Command):
    """Or a name that is misspelt would, and the one that was meant would go without."""
    bonus = ("adjust", "anne", "7", "--id", "b", "--reason", "r", "--day", TODAY)
    refused = command(*bonus)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(
        "chatnest: PRINCIPAL: expected a principal with records, got 'anne'. Nothing was changed."
    )
    assert "--new" in refused.stderr
    assert command(*bonus, "--name", "tokens").returncode == 2
    assert command.lines("show", "anne", "--json") == []

    begun = f"anne, tokens of {TODAY}: +7 tokens"
    assert command(*bonus, "--new").stdout == f"{begun}; used 7, held 0\n"
    for repeated in bonus, (*bonus, "--new"):
        assert command(*repeated).stdout.startswith(f"{begun}, already made at {TODAY}T")
    assert command("verify").stdout == "2 counters, 0 drifts\n"


async def test_of_several_limits_one_is_named(command: Command, ledger: Ledger):
    await hold(ledger, "third", budget(9_000, "ann", "more"))
    refund = ("adjust", "ann", "-5", "--id", "x", "--reason", "our fault")

    unclear = command(*refund)
    assert unclear.returncode == 2
    assert "Pass one of more, tokens, as in --name more." in unclear.stderr
    assert "ann, tokens of" in command(*refund, "--name", "tokens").stdout


def charge_a_thousand(books: RowBooks) -> None:
    books.counter(f"tokens:{TODAY}:ann").settled += 1_000


async def test_a_drift_is_a_line_and_an_exit_code(
    command: Command, ledger: Ledger, request: pytest.FixtureRequest
):
    assert (command("verify").returncode, command("verify").stdout) == (0, "1 counters, 0 drifts\n")
    if isinstance(ledger, RedisLedger):
        server: Server = request.getfixturevalue("redis_server")
        with server.client() as client:
            client.hset(ledger._keys.of("ann", "counters"), f"tokens:{TODAY}", "1070 100 0 0")
    else:
        assert isinstance(ledger, SQLiteLedger)
        await ledger._run(charge_a_thousand)

    verdict = command("verify")
    assert verdict.returncode == 1
    assert verdict.stdout == (
        f"drift: ann, tokens of {TODAY}: settled is 1,070, but the records add up to 70\n"
        "1 counters, 1 drifts\n"
    )


async def test_what_cannot_be_verified_has_a_code_of_its_own(
    tmp_path: Path, request: pytest.FixtureRequest
):
    server: Server = request.getfixturevalue("redis_server")
    prefix = uuid4().hex
    ledger = RedisLedger(server.url, prefix=prefix, timeout=10)
    await ledger.settle(await hold(ledger, "a", budget(9_000, "ann")), Charge(tokens=5))
    await ledger.settle(await hold(ledger, "b", budget(9_000, "ann")), Charge(tokens=5))
    await ledger.aclose()
    with server.client() as client:
        client.xtrim(ledger._keys.of("ann", f"turns:{TODAY}"), maxlen=1, approximate=False)

    verdict = Command(tmp_path)("verify", "--ledger", server.url)
    assert (verdict.returncode, verdict.stdout) == (0, "0 counters, 0 drifts\n")
    verdict = Command(tmp_path, CHATNEST_LEDGER__PREFIX=prefix)("verify", "--ledger", server.url)
    assert verdict.returncode == 3
    assert f"cannot be verified: ann: records of {TODAY} are missing" in verdict.stdout
    assert "1 counters, 0 drifts\n" in verdict.stdout


ACTIONS = [
    ("show",),
    ("holds",),
    ("export", "--since", "2026-01-01"),
    ("adjust", "ann", "5", "--id", "x", "--reason", "r"),
    ("verify",),
]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: str(action[0]))
def test_a_ledger_that_is_away_is_said_and_no_password_is(tmp_path: Path, action: tuple[str, ...]):
    url = f"redis://ann:s3cret@127.0.0.1:{free_port()}/0"
    done = Command(tmp_path)(*action, "--ledger", url)

    assert done.returncode == (3 if action[0] == "verify" else 1)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "is unavailable: connection refused: " in done.stderr
    assert ("nothing was verified" in done.stderr) == (action[0] == "verify")
    assert ("it is safe to repeat the command" in done.stderr) == (action[0] == "adjust")
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:none.db", "expected the file of a ledger, got 'none.db', which is missing"),
        ("sqlite:empty.db", "expected the file of a ledger, got 'empty.db', which is missing"),
        ("sqlite:diary.db", "which is not a SQLite database"),
        ("memory:", "expected a ledger that several processes can read, got memory:."),
        ("redis://ann:s3cret@host:port", "expected the address of a Redis or Valkey server"),
        ("mysql://ann:s3cret@host", "ledger.url: expected memory:"),
    ],
)
@pytest.mark.parametrize("action", [ACTIONS[0], ACTIONS[3]], ids=["show", "adjust"])
def test_what_cannot_be_audited_is_a_sentence(
    tmp_path: Path, action: tuple[str, ...], url: str, sentence: str
):
    (tmp_path / "empty.db").touch()
    (tmp_path / "diary.db").write_text("my diary, " * 1_000)
    done = Command(tmp_path)(*action, "--ledger", url)

    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert "s3cret" not in done.stderr
    assert not (tmp_path / "none.db").exists()
    assert (tmp_path / "empty.db").stat().st_size == 0


async def test_the_ledger_of_a_configuration_is_taken(tmp_path: Path):
    config = tmp_path / "chatnest.toml"
    config.write_text('[ledger]\nurl = "sqlite:here.db"\n[budget]\ntimezone = "Etc/GMT-14"\n')
    ledger = SQLiteLedger(tmp_path / "here.db")
    await hold(ledger, "a", budget(9_000, "line\nbreak"))
    await ledger.aclose()
    command = Command(tmp_path)

    assert (
        command("show", "--config", str(config)).stdout.splitlines()[1].startswith("'line\\nbreak'")
    )
    refund = command(
        *("adjust", "zoe", "-5", "--id", "x", "--reason", "r", "--new"), "--config", str(config)
    )
    assert days.day_of(wall_clock(), "Etc/GMT-14") in refund.stdout


async def test_who_has_read_enough_may_leave(tmp_path: Path):
    ledger = SQLiteLedger(tmp_path / "chatnest.db", synchronous="NORMAL")
    held = [await hold(ledger, f"turn-{n}", budget(10**6, "ann")) for n in range(1_000)]
    for each in held:
        await ledger.settle(each, Charge(tokens=1))
    await ledger.aclose()
    command = f"{sys.executable} -m chatnest ledger export --since {TODAY} | head -n 1"

    done = await anyio.run_process(command, cwd=tmp_path, check=False)
    assert (done.stdout.count(b"\n"), said(done.stderr.decode())) == (1, "")


@pytest.mark.parametrize("amount", ["NaN", "inf", "1e3", "", "0.0000000001", "--5", "1_000", "٣"])
@pytest.mark.parametrize("unit", ["money", "tokens"])
def test_an_amount_is_digits_and_a_point(amount: str, unit: str):
    with pytest.raises(ConfigurationError, match="AMOUNT: expected"):
        _amount_of(amount, unit)


def test_help_brings_nothing_that_costs_time():
    heavy = ("openai", "httptools", "httpx2", "tiktoken", "uvicorn", "sqlite3", "redis")
    program = (
        "import sys\nfrom chatnest.cli import main\n"
        "try: main(['ledger', 'adjust', '--help'])\n"
        f"except SystemExit: print([n for n in {heavy!r} if n in sys.modules])"
    )
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ
    )
    assert done.stdout.endswith("\n[]\n"), done.stdout
