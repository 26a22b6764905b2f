"""``chatnest usage``: its values, and what it refuses. docs/how-to/usage.md has its output."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatnest.cli import main
from chatnest.cli.output import harmless
from chatnest.cli.usage import _since
from chatnest.ledger.base import Admitted, Charge, Facts
from chatnest.ledger.days import day_of
from chatnest.ledger.sqlite import SQLiteLedger
from tests.ledger.support import NOON, budget, wish


async def fill(path: Path) -> None:
    ledger = SQLiteLedger(path, synchronous="NORMAL")
    await ledger.keep_currency("EUR")
    for who, team in (("=1+1", "acme"), ("\x1b[31mred", "")):
        answer = await ledger.reserve(wish(budget(10**6, who)))
        assert isinstance(answer, Admitted)
        facts = Facts(groups={"team": team} if team else {})
        await ledger.settle(
            answer.hold,
            Charge(tokens=7, money=1_500, principal=who, model="small", facts=facts),
        )
    await ledger.aclose()


def run(capsys: pytest.CaptureFixture[str], path: Path, *arguments: str) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["usage", "--ledger", f"sqlite:{path}", *arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


@pytest.fixture
def filled(path: Path) -> Path:
    anyio.run(fill, path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def test_names_are_harmless_in_every_form(filled: Path, capsys: pytest.CaptureFixture[str]):
    code, table, _ = run(capsys, filled)
    assert code == 0
    assert table.splitlines()[0].endswith("EUR")  # the currency of the books
    assert "'\\x1b[31mred'" in table
    assert "\x1b" not in table

    _, text, _ = run(capsys, filled, "--csv")
    _, first = csv.DictReader(io.StringIO(text))
    assert (first["principal"], first["money"], first["currency"]) == ("'=1+1", "0.0000015", "EUR")
    for start in "=+-@\t\r\n":
        assert harmless(f"{start}x") == f"'{start}x"

    _, lines, _ = run(capsys, filled, "--json", "--by", "principal,team")
    assert [json.loads(line)["team"] for line in lines.splitlines()] == ["", "acme"]


def test_focus_has_a_row_for_each_day_principal_and_model(
    filled: Path, capsys: pytest.CaptureFixture[str]
):
    _, text, _ = run(capsys, filled, "--format", "focus")
    _, first = csv.DictReader(io.StringIO(text))
    assert first["BilledCost"] == first["EffectiveCost"] == "0.0000015"
    assert (first["BillingCurrency"], first["ChargeCategory"]) == ("EUR", "Usage")
    assert (first["SubAccountId"], first["SkuId"]) == ("'=1+1", "small")
    assert first["Tags"] == '{"team":"acme"}'
    assert first["ChargePeriodStart"] < first["ChargePeriodEnd"]
    assert first["BillingPeriodStart"].endswith("-01T00:00:00Z")


def test_nothing_is_said_where_nothing_is(
    path: Path, filled: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(capsys, filled, "--refusals")[2].startswith("chatnest: no limit has refused since ")
    assert run(capsys, filled, "--since", "2999-01-01")[1:] == (
        "",
        "chatnest: the ledger has no usage since 2999-01-01\n",
    )
    assert run(capsys, filled, "--since", "2999-01-01", "--json")[1:] == ("", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--by", "tema"], "--by: expected day, principal"),
        (["--by", "tokens"], "--by: expected day, principal"),
        (["--by", "groups"], "--by: expected day, principal"),
        (["--by", "model", "--format", "focus"], "--by: expected none with --format focus"),
        (["--since", "0d"], "--since: expected a number of days"),
        (["--since", "401d"], "--since: expected a number of days"),
        (["--since", "20260101"], "--since: expected a number of days"),
        (["--since", "lately"], "--since: expected a number of days"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    filled: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
):
    code, out, err = run(capsys, filled, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"chatnest: {said}")


def test_days_are_counted_with_today():
    assert _since("1d", NOON) == day_of(NOON, "UTC") == "2026-06-01"
    assert _since("30d", NOON) == "2026-05-03"
    assert _since("400d", NOON) == "2025-04-28"
    assert _since("2026-05-31", NOON) == "2026-05-31"
