"""What the page about audits shows is what the commands say; days and times aside."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import anyio
import pytest

from chatnest.errors import LedgerUnavailable
from chatnest.ledger.base import Admitted, Charge, Limit, Reservation
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.stores.reasons import reason_of
from tests.docs.console import commands_of
from tests.servers.support import said

PAGE = (Path(__file__).parents[2] / "docs/how-to/audit.md").read_text()

pytestmark = [pytest.mark.anyio, pytest.mark.process]


def timeless(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\d(T[\d:.]+Z)?", lambda m: "TIME" if m[1] else "DAY", text)
    return re.sub(r"\b\d+ s\b", "SECONDS", text)


async def turn(
    ledger: SQLiteLedger, who: str, hold_id: str, held: int, charge: Charge | None = None
) -> None:
    limits = (
        Limit(name="tokens", unit="tokens", window="day", account=who, amount=70_000),
        Limit(name="streams", unit="streams", account=who, amount=3),
    )
    answer = await ledger.reserve(
        Reservation(id=hold_id, limits=limits, output=held, min_output=held, lease=99_000)
    )
    assert isinstance(answer, Admitted)
    if charge is not None:
        await ledger.settle(answer.hold, charge)


def charge(who: str, input_tokens: int, output_tokens: int) -> Charge:
    return Charge(
        tokens=input_tokens + output_tokens,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        source="provider",
        principal=who,
        profile="balanced",
        model="gpt-4o-mini",
    )


async def test_the_commands_say_what_the_page_shows(tmp_path: Path):
    ledger = SQLiteLedger(tmp_path / "chatnest.db")
    await turn(ledger, "key:ann", "turn-801", 900, charge("key:ann", 700, 42))
    await turn(ledger, "key:bob", "turn-802", 9_000, charge("key:bob", 9_000, 30))
    await turn(ledger, "key:ann", "turn-803", 512)
    await ledger.aclose()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CHATNEST_")}

    assert len(commands_of(PAGE)) == 6
    for command, output in commands_of(PAGE):
        program, *arguments = shlex.split(command)
        assert program == "chatnest"
        done = await anyio.run_process(
            [sys.executable, "-m", "chatnest", *arguments], cwd=tmp_path, env=environ, check=False
        )
        assert said(done.stderr.decode()) == ""
        assert timeless(done.stdout.decode()) == timeless(output), command


async def chatnest(folder: Path, *arguments: str) -> tuple[str, str]:
    """What it writes to standard output and standard error."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CHATNEST_")}
    done = await anyio.run_process(
        [sys.executable, "-m", "chatnest", *arguments],
        cwd=folder,
        env=environ | {"CHATNEST_BUDGET__TIMEZONE": "Asia/Tokyo"},
        check=False,
    )
    return done.stdout.decode(), said(done.stderr.decode())


def block(beginning: str) -> str:
    """What the page shows after this line, or with it where that is no command."""
    (found,) = re.findall(
        rf"^```[\w-]+\n({re.escape(beginning)}.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    return str(found.partition("\n")[2] if beginning.startswith("$ ") else found)


async def test_another_zone_and_its_change_are_as_the_page_shows(tmp_path: Path):
    ledger = SQLiteLedger(tmp_path / "chatnest.db")
    for who in ("key:ann", "key:bob"):
        await turn(ledger, who, f"turn-of-{who}", 900, charge(who, 700, 42))
    await ledger.aclose()

    _, refused = await chatnest(tmp_path, "serve", "--demo", "--port", "0")
    command = ("ledger", "timezone", "tokens", "Asia/Tokyo")
    changed, _ = await chatnest(tmp_path, *command)

    assert refused == block("chatnest: the environment: budget.timezone")
    # How many there are depends on the time of day.
    assert re.sub(r"\d+ principals", "2 principals", changed) == block(
        f"$ chatnest {' '.join(command)}"
    )


async def test_an_adoption_is_as_the_page_shows(tmp_path: Path):
    ledger = SQLiteLedger(tmp_path / "chatnest.db")
    await turn(ledger, "key:ann", "turn-801", 900, charge("key:ann", 700, 42))
    other = SQLiteLedger(tmp_path / "other.db")
    for who in ("key:ann", "key:bob"):
        await turn(other, who, f"turn-of-{who}", 900, charge(who, 700, 42))
    await other.aclose()
    (tmp_path / "other.db").rename(tmp_path / "chatnest.db")

    with pytest.raises(LedgerUnavailable) as raised:
        await ledger.check()
    adopted, _ = await chatnest(tmp_path, "ledger", "adopt")

    assert json.loads(block("{")) == {
        "status": raised.value.code,
        "reason": str(reason_of(raised.value)),
    }
    without_log = adopted.replace("; the write-ahead log of another file was removed", "")
    assert without_log == block("$ chatnest ledger adopt")
    await ledger.check()
    await ledger.aclose()
