"""The access log: a line for each turn and refusal, with facts alone, that nobody can forge."""

import hmac
import io
import json
import logging
import threading
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from chatnest import BALANCED, ChatNestApp, DemoProvider, Identity, Model
from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Facts
from chatnest.server import access_lines
from chatnest.server.access_lines import AccessLines
from chatnest.telemetry import AccessLog, Ended, Refused
from chatnest.testing import Conversation

pytestmark = pytest.mark.anyio

CANARY = "canary-in-a-text"
QUESTION = {"messages": [{"role": "user", "content": CANARY}]}
ODD = 'ann\n{"outcome":"forged"} \u2028\x85\x7f\x1b[31m é'


@pytest.fixture
def lines():
    """The lines of the access log."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("chatnest.access")
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield found
    log.removeHandler(handler)
    log.level, log.propagate = before


def ended(**changes: Any) -> Ended:
    facts: dict[str, Any] = {
        "id": "1",
        "time": 1_800_000_000.5,
        "principal": "user:ann",
        "groups": {"team": "red"},
        "profile": "balanced",
        "model": "small",
        "seconds": 1.25,
        "outcome": "done",
        "finish_reason": "stop",
        "input_tokens": 10,
        "output_tokens": 20,
        "source": "provider",
        "attempts": 2,
        "first_piece_seconds": 0.25,
        "money": 1_234_500,
        "held": 40,
        "held_money": 2_000_000,
        "facts": Facts(served_model="small-2026-01-01", cached_tokens=4, price="abc"),
    }
    return Ended(**facts | changes)


async def test_a_turn_and_a_refusal_have_a_line_each(lines):
    chat = ChatNestApp(
        models={
            "small": Model(provider=DemoProvider(pace=0), prices={"input": "1", "output": "2"})
        },
        identify=lambda _: Identity("user:ann", {"team": "red"}),
        observers=[AccessLog("json")],
    )
    for body in (QUESTION, {"messages": CANARY, "model": CANARY}, {**QUESTION, "profile": CANARY}):
        async with Conversation(chat, json=body) as c:
            await c.read_all()
            await c.finished()
    await chat.aclose()

    turn, *refused = [json.loads(line) for line in lines]
    assert datetime.fromisoformat(turn["time"]).tzinfo is not None
    wanted = {
        "principal": "user:ann",
        "groups": {"team": "red"},
        "profile": "balanced",
        "model": "small",
        "outcome": "done",
        "status": 200,
        "limit": None,
        "currency": "USD",
        "source": "provider",
        "attempts": 1,
    }
    assert {name: turn[name] for name in wanted} == wanted
    assert turn["output_tokens"] > 100
    assert float(turn["money"]) > 0
    assert turn["held_tokens"] > turn["output_tokens"]
    assert 0 <= turn["first_token_ms"] <= turn["total_ms"]
    assert [(each["status"], each["outcome"]) for each in refused] == [(400, "invalid_request")] * 2
    assert CANARY not in "".join(lines)


async def test_a_refusal_by_a_limit_names_it(lines):
    profile = BALANCED.__class__(**{**_fields(BALANCED), "requests_per_minute": 1})
    chat = ChatNestApp(
        provider=DemoProvider(pace=0), profiles=[profile], observers=[AccessLog("json")]
    )
    for _ in range(2):
        async with Conversation(chat, json=QUESTION) as c:
            await c.read_all()
            await c.finished()
    await chat.aclose()

    _, refused = map(json.loads, lines)
    assert (refused["status"], refused["outcome"], refused["limit"]) == (
        429,
        "rate_limited",
        "requests",
    )
    assert refused["principal"].startswith("addr#")


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_line_is_one_printable_line_whatever_the_names_are(form, lines):
    log = AccessLog(form)
    log.observe(ended(principal=ODD, groups={"team": ODD, "half": "\ud800"}))
    log.observe(
        Refused(id="1", time=1.0, status=429, code="rate_limited", limit=ODD, principal=ODD)
    )

    assert len(lines) == 2
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
    if form == "json":
        assert json.loads(lines[0])["principal"] == ODD
        assert json.loads(lines[0])["groups"]["half"] == "\ud800"


def test_a_text_line_is_short(lines):
    AccessLog("text").observe(ended())

    assert lines == [
        (
            "2027-01-15T08:00:00.500+00:00 200 done principal=user:ann profile=balanced "
            "model=small input_tokens=10 output_tokens=20 money=0.0012345USD first_token_ms=250 "
            "total_ms=1250 request=1 group.team=red"
        )
    ]


def hashed(principal: str) -> str:
    digest = hmac.new(b"k" * 32, principal.encode(), "sha256").hexdigest()
    return f"{principal.partition(':')[0]}#{digest[:16]}"


@pytest.mark.parametrize(
    ("principals", "name", "address"),
    [
        ("names", "user:ann", hashed("addr:192.0.2.1")),
        ("hashed", hashed("user:ann"), hashed("addr:192.0.2.1")),
        ("all", "user:ann", "addr:192.0.2.1"),
    ],
)
def test_an_address_is_hashed_unless_it_is_asked_for(principals, name, address, lines):
    log = AccessLog(principals=principals, key=b"k" * 32)
    log.observe(ended())
    log.observe(ended(principal="addr:192.0.2.1"))
    log.observe(ended(principal="demo/addr:192.0.2.1"))

    shown = [json.loads(line)["principal"] for line in lines]
    assert shown[:2] == [name, address]
    assert ("192.0.2.1" in shown[2]) == (principals == "all")
    assert AccessLog()._show("addr:192.0.2.1") != AccessLog()._show("addr:192.0.2.1")


@pytest.mark.parametrize(
    ("asked", "served", "shown"),
    [
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", True),
        ("llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct-Turbo", True),
        ("deepseek-v3", "accounts/fireworks/models/deepseek-v3p1", True),
        ("auto", "gpt-4o-mini", False),
        ("gpt-4o", "gpt-1aB2cD3eF4gH5iJ6kL7mN8oP", False),
        ("gpt-4o", "gpt http://example.org/", False),
        ("gpt-4o", "gpt\nb", False),
    ],
)
def test_the_model_of_the_upstream_is_shown_if_it_is_of_the_family(asked, served, shown, lines):
    AccessLog().observe(ended(model=asked, facts=Facts(served_model=served)))

    assert json.loads(lines[0])["response_model"] == (served if shown else "other")


def test_a_trace_is_named_if_there_is_one(lines, monkeypatch):
    span = SimpleNamespace(get_span_context=lambda: SimpleNamespace(trace_id=0xABC))
    module = SimpleNamespace(get_current_span=lambda: span)
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.trace", module)
    AccessLog().observe(ended())

    assert json.loads(lines[0])["trace"] == f"{0xABC:032x}"


@pytest.mark.parametrize("settings", [{"form": "xml"}, {"principals": "none"}])
def test_an_unknown_word_is_an_error(settings):
    with pytest.raises(ConfigurationError, match="expected one of"):
        AccessLog(**settings)


class Stuck(io.StringIO):
    """An output whose reader does not read until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = threading.Event()

    def write(self, text: str) -> int:
        assert self.reads.wait(60)
        return super().write(text)


def test_a_reader_that_is_stuck_stops_nobody_and_the_lines_it_misses_are_counted(
    monkeypatch, caplog
):
    monkeypatch.setattr(access_lines, "_MOST", 10)
    output = Stuck()
    lines = AccessLines(output)
    for number in range(100):
        lines.emit(logging.makeLogRecord({"msg": f"line {number}"}))
    output.reads.set()
    lines.close()

    written = output.getvalue().splitlines()
    assert written == [f"line {number}" for number in range(len(written))]
    assert 10 <= len(written) < 30
    assert f"lines={100 - len(written)} dropped" in caplog.text


def test_a_reader_that_is_gone_is_noted_once(caplog):
    output = io.StringIO()
    output.close()
    lines = AccessLines(output)
    for _ in range(3):
        lines.emit(logging.makeLogRecord({"msg": "a line"}))
    lines.close()

    assert caplog.text.count("access log ended") == 1
