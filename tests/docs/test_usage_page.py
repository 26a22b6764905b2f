"""What the page about usage shows is what the commands and the chat say; days aside."""

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatnest.ledger.base import Admitted, Charge, Facts, Limit, Reservation
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.ledger.usage import first_day, hour_of
from chatnest.wire.usage import usage_document
from tests.docs.console import commands_of
from tests.servers.support import said

PAGE = (Path(__file__).parents[2] / "docs/how-to/usage.md").read_text()

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio"), pytest.mark.process]

TURNS = [
    ("key:ann", "acme", "small", "done", 9, (700, 128, 42, 0, 265_700)),
    ("key:ann", "acme", "large", "done", 2, (1_200, 0, 640, 512, 17_600_000)),
    ("key:bob", "acme", "small", "cancelled", 1, (90, 0, 12, 0, 46_500)),
    ("key:cleo", "umbrella", "small", "done", 4, (350, 0, 80, 0, 247_500)),
]


def timeless(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d(T\d\d(:\d\d:\d\dZ)?)?", "DAY", text)


async def spend(ledger: SQLiteLedger) -> None:
    for who, team, model, outcome, times, figures in TURNS:
        read, cached, written, thought, money = figures
        charge = Charge(
            tokens=read + written,
            money=money,
            input_tokens=read,
            output_tokens=written,
            source="provider" if outcome == "done" else "estimated",
            outcome=outcome,
            principal=who,
            profile="balanced",
            model=model,
            facts=Facts(groups={"team": team}, cached_tokens=cached, reasoning_tokens=thought),
        )
        limit = Limit(name="tokens", unit="tokens", window="day", account=who, amount=70_000)
        for number in range(times):
            wish = Reservation(
                id=f"{who}-{model}-{number}", limits=(limit,), output=700, min_output=1
            )
            answer = await ledger.reserve(wish)
            assert isinstance(answer, Admitted)
            await ledger.settle(answer.hold, charge)


async def test_the_commands_say_what_the_page_shows(tmp_path: Path):
    ledger = SQLiteLedger(tmp_path / "chatnest.db")
    await spend(ledger)
    await ledger.keep_currency("USD")
    hour = hour_of(ledger.now())
    await ledger.count_refusals({(hour, "requests"): 31, (hour, "team-month"): 4})
    since = first_day(ledger.now(), 30)
    document: Any = usage_document(await ledger.own_usage("key:ann", since), since, "USD")
    await ledger.aclose()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CHATNEST_")}

    assert len(commands_of(PAGE)) >= 5
    for command, output in commands_of(PAGE):
        program, *arguments = shlex.split(command)
        assert program == "chatnest"
        done = await anyio.run_process(
            [sys.executable, "-m", "chatnest", *arguments], cwd=tmp_path, env=environ, check=False
        )
        assert said(done.stderr.decode()) == ""
        assert timeless(done.stdout.decode()) == timeless(output), command

    (example,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert json.loads(timeless(example)) == json.loads(timeless(json.dumps(document)))
