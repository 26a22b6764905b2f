"""Metrics: every series from the beginning, none that a client makes, and the sums of the books."""

import subprocess
import sys
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from chatnest import BALANCED, ChatNestApp, DemoProvider, Model
from chatnest import errors as our_errors
from chatnest.errors import ChatNestError
from chatnest.ledger.base import Admitted, Facts, Hold, Limit, LimitState
from chatnest.ledger.memory import MemoryLedger
from chatnest.policies import LimitRule, standard_policies
from chatnest.telemetry import Refused
from chatnest.telemetry.metrics import Metrics
from chatnest.telemetry.series import OUTCOMES, REFUSALS, Known
from chatnest.testing import Conversation
from chatnest.turn import Attempt
from tests.metrics.test_access_log import ended
from tests.streams.support import Books

pytestmark = pytest.mark.anyio

QUESTION = {"messages": [{"role": "user", "content": "Hello"}]}
KNOWN = Known(
    models=("small", "large"),
    upstreams=("gpt-small", "gpt-large"),
    profiles=("balanced",),
    limits=("requests", "tokens"),
    currency="EUR",
)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(collector: Any) -> Samples:
    text = generate_latest(collector).decode()
    return {
        (each.name, frozenset(each.labels.items())): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of the series with these labels."""
    return sum(
        number
        for (each, pairs), number in found.items()
        if each == f"chatnest_{name}" and set(labels.items()) <= pairs
    )


def priced_chat(ledger: MemoryLedger, **options: Any) -> ChatNestApp:
    model = Model(provider=DemoProvider(pace=0), prices={"input": "1", "output": "2"})
    return ChatNestApp(models={"small": model}, ledger=ledger, **options)


async def ask(chat: ChatNestApp, body: object = QUESTION, user: str = "") -> None:
    headers = {"x-user": user} if user else {}
    async with Conversation(chat, json=body, headers=headers) as c:
        await c.read_all()
        await c.finished()


async def test_a_registry_takes_the_metrics_and_sums_are_those_of_the_books():
    ledger = Books()
    profile = type(BALANCED)(
        **{n: getattr(BALANCED, n) for n in BALANCED.__struct_fields__} | {"requests_per_minute": 3}
    )
    rule = LimitRule(name="quota", unit="requests", amount=1, window="day", mode="shadow")
    chat = priced_chat(ledger, profiles=[profile], policies=standard_policies(limits=[rule]))
    registry = CollectorRegistry()
    registry.register(chat.metrics)
    before = samples(registry)
    for _ in range(4):
        await ask(chat)
    await ask(chat, {"messages": 3})
    found = samples(registry)
    records = ledger.charges
    await chat.aclose()

    assert found.keys() == before.keys()
    assert value(found, "turns_total", outcome="done", model="small") == 3 == len(records)
    assert value(found, "refusals_total", limit="requests", enforced="true") == 1
    assert value(found, "refusals_total", limit="quota", enforced="false") == 2
    assert value(found, "rejections_total", code="invalid_request") == 1
    assert value(found, "tokens_total") == sum(each.tokens for each in records)
    assert round(value(found, "spend_total") * 10**9) == sum(each.money for each in records) > 0
    for name in ("first_token", "stream", "output_token"):
        assert value(found, f"{name}_seconds_count") == 3
    assert value(found, "ledger_seconds_count", operation="reserve") == 4
    assert value(found, "ledger_seconds_count", operation="settle") == 3
    assert value(found, "attempts_total", outcome="done") == 3
    assert (value(found, "streams"), value(found, "held_tokens")) == (0, 0)
    assert value(found, "ledger_up") == 1


async def test_an_open_answer_is_a_stream_with_its_hold():
    chat = ChatNestApp(provider=DemoProvider(pace=0.05))
    metrics = chat.metrics
    async with Conversation(chat, json=QUESTION) as c:
        await c.until(lambda: b"event: token" in c.received)
        during = samples(metrics)
    after = samples(metrics)
    await chat.aclose()

    assert value(during, "streams") == 1
    assert value(during, "held_tokens") > 0
    assert (value(after, "streams"), value(after, "held_tokens")) == (0, 0)
    assert value(after, "turns_total", outcome="client_gone") == 1


def test_no_principal_and_no_name_of_a_client_makes_a_series():
    metrics = Metrics(KNOWN)
    before = samples(metrics)
    limit = Limit(name="tokens", unit="tokens", account="", amount=100, window="day")
    for number in range(10_000):
        name = f"name-{number}"
        call = Attempt(model=name, started=0, seconds=1, outcome=name, status=200)
        hold = Hold(id=name, tokens=40, lines=())
        metrics.admitted(Admitted(hold=hold, states=(), now=0, over=(name,)))
        metrics.observe(
            ended(principal=name, model=name, profile=name, outcome=name, calls=(call,))
        )
        metrics.observe(Refused(id=name, time=0, status=429, code=name, limit=name))
        metrics.observe(Refused(id=name, time=0, status=400, code=name))
    for number in range(100_000):
        states = (LimitState(limit=limit, used=50, held=0, resets_at=None),)
        hold = Hold(id="", tokens=0, lines=())
        account = f"user:{number}"
        if number % 50 == 0:
            states = (
                LimitState(
                    limit=type(limit)(
                        name="tokens", unit="tokens", account=account, amount=100, window="day"
                    ),
                    used=90,
                    held=0,
                    resets_at=None,
                ),
            )
        metrics.admitted(Admitted(hold=hold, states=states, now=0))
    metrics.note(waiting=0, now=0)
    found = samples(metrics)

    assert found.keys() == before.keys()
    assert value(found, "turns_total", model="other", profile="other", outcome="other") == 10_000
    assert value(found, "attempts_total", upstream="other", outcome="other") == 10_000
    assert value(found, "refusals_total", limit="other") == 20_000
    assert value(found, "rejections_total", code="other") == 10_000
    assert value(found, "limit_used_ratio", limit="tokens") == 0.9
    assert value(found, "limit_accounts", limit="tokens", above="0.8") < 1_000


def test_the_classes_of_tokens_have_none_in_common():
    metrics = Metrics(KNOWN)
    facts = Facts(cached_tokens=4, cache_written_tokens=3, reasoning_tokens=15)
    metrics.observe(ended(facts=facts))
    metrics.observe(ended(facts=Facts(cached_tokens=99, reasoning_tokens=99), source="estimated"))
    metrics.observe(ended(input_tokens=60, source="none"))
    found = samples(metrics)

    assert {
        name: value(found, "tokens_total", **{"class": name, "source": "provider"})
        for name in ("input", "cached", "cache_written", "output", "reasoning")
    } == {"input": 3, "cached": 4, "cache_written": 3, "output": 5, "reasoning": 15}
    assert value(found, "tokens_total") == 60
    assert value(found, "unpriced_turns_total") == 2
    assert value(found, "overrun_tokens_total") == 0
    assert value(found, "spend_total", currency="EUR") == 2 * 0.0012345


def test_what_exceeds_the_hold_is_an_overrun():
    metrics = Metrics(KNOWN)
    metrics.observe(ended(input_tokens=30, output_tokens=25, held=40))

    assert value(samples(metrics), "overrun_tokens_total") == 15


def test_every_code_of_an_error_has_a_series():
    def codes(error: type[ChatNestError]) -> set[str]:
        own = [each for each in error.__subclasses__() if each.__module__ == error.__module__]
        return {error.code}.union(*map(codes, own))

    without = {"configuration_error", "bad_request"}  # no request gets these
    no_chat = {"not_found", "method_not_allowed", "misdirected_request", "head_too_large"}
    of_runs = {"replay_unavailable", "run_lost"}
    assert codes(ChatNestError) - without - no_chat - of_runs == {*OUTCOMES, *REFUSALS} - {"done"}


async def test_a_ledger_that_is_away_shows():
    class Away(MemoryLedger):
        async def reserve(self, reservation: Any) -> Any:
            raise our_errors.LedgerUnavailable

    chat = priced_chat(Away())
    metrics = chat.metrics
    await ask(chat)
    found = samples(metrics)
    await chat.aclose()

    assert value(found, "ledger_up") == 0
    assert value(found, "ledger_failures_total", operation="reserve") == 1
    assert value(found, "rejections_total", code="ledger_unavailable") == 1
    assert value(found, "outbox_waiting") == 0


async def test_the_fullest_accounts_are_read_again():
    """An account that has got tokens back, such as by an adjustment, is seen without a request."""
    ledger = MemoryLedger()
    chat = priced_chat(ledger)
    metrics = chat.metrics
    await ask(chat)
    metrics.note(waiting=0, now=ledger.now())
    held = value(samples(metrics), "limit_used_ratio", limit="tokens")
    metrics.read(await ledger.usage(metrics.fullest(ledger.now())))
    metrics.note(waiting=2, now=ledger.now())
    found = samples(metrics)
    await chat.aclose()

    assert 0 < value(found, "limit_used_ratio", limit="tokens") < held
    assert value(found, "outbox_waiting") == 2


WORKER = """
import pickle, sys, time
from multiprocessing import get_context

def work(cells, count, ends):
    row = cells.mine
    for _ in range(count):
        row[0] += 1
    row[cells._streams] = 3
    if not ends:
        time.sleep(600)

if __name__ == "__main__":
    from chatnest.server.shared_cells import SharedCells
    from chatnest.telemetry.series import Known, Layout, families_of
    from chatnest.telemetry.metrics import Metrics
    known = Known(models=("m",), upstreams=("m",), profiles=("p",), limits=("l",), currency="USD")
    layout = Layout(families_of(known))
    cells = SharedCells(layout, workers=2)
    metrics = Metrics(known, cells)
    spawn = get_context("spawn")
    def figures():
        found = {s.name: s.value for m in metrics.collect() for s in m.samples if s.value}
        return [float(found.get(f"chatnest_{n}", 0)) for n in
                ("turns_total", "streams", "workers", "expired_holds_total")]
    for _ in range(3):
        process = spawn.Process(target=work, args=(cells, 1_000, False))
        process.start()
        while figures()[0] % 1_000 or not figures()[1]:
            time.sleep(0.01)
        print(figures(), flush=True)
        process.kill()
        process.join()
        print(figures(), flush=True)
    print(sum(1 for row in cells._rows if any(row)), flush=True)
"""


@pytest.mark.process
def test_a_killed_worker_takes_no_count_with_it_and_its_row_is_used_again(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(WORKER)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=300, check=False
    )

    assert done.stdout.splitlines() == [
        *("[1000.0, 3.0, 1.0, 0.0]", "[1000.0, 0.0, 0.0, 3.0]"),
        *("[2000.0, 3.0, 1.0, 3.0]", "[2000.0, 0.0, 0.0, 6.0]"),
        *("[3000.0, 3.0, 1.0, 6.0]", "[3000.0, 0.0, 0.0, 9.0]"),
        "1",
    ], done.stderr
