"""A real Prometheus: four workers under load and through a kill -9, the rules and the dashboard."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import anyio
import pytest

from chatnest.config.build import open_ledger
from chatnest.config.sections import LedgerSection
from chatnest.ledger.audit import TurnRecord
from tests.metrics.test_metrics import value
from tests.servers.support import Client, Process, children
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, wait_for

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not os.environ.get("CI") and shutil.which("promtool") is None,
        reason="there is no prometheus: apt-get install prometheus",
    ),
]

HERE = Path(__file__).parent
CANARY = "canary-in-a-question"
CONFIG = """\
[server]
metrics_port = {metrics}
access_log = "json"

[identity]
header = "x-user"

[models.small]
price = {{input = "0.25", output = "2.00"}}

[profiles.balanced]
max_output_tokens = 40
requests_per_minute = 3

[[limits]]
name = "house"
per = "global"
unit = "money"
amount = "100.00"
window = "day"

[[limits]]
name = "trial"
unit = "requests"
amount = 1
window = "day"
mode = "shadow"
"""


def written(*arguments: str) -> str:
    command = [sys.executable, "-m", "chatnest", "metrics", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def promtool(folder: Path, *arguments: str, given: str = "") -> str:
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_each_alert_fires_when_it_should(tmp_path):
    rules = written("rules")
    (tmp_path / "rules.yml").write_text(rules)
    tests = (HERE / "alerts.yml").read_text()
    (tmp_path / "alerts.yml").write_text(tests)

    assert "SUCCESS" in promtool(tmp_path, "check", "rules", "rules.yml")
    assert "SUCCESS" in promtool(tmp_path, "test", "rules", "alerts.yml")
    fired = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", tests))
    assert fired == set(re.findall(r"alert: (\w+)", rules))


# ---------------------------------------------------------------- the dashboard


def panels() -> list[dict[str, Any]]:
    return [each for each in json.loads(written("dashboard"))["panels"] if each["type"] != "row"]


def test_the_dashboard_has_what_grafana_needs():
    board = json.loads(written("dashboard"))
    assert board["schemaVersion"] >= 36
    assert {"title", "uid", "time", "templating", "panels", "refresh"} <= board.keys()
    names = {each["name"] for each in board["templating"]["list"]}
    ids = [each["id"] for each in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for each in board["panels"]:
        place = each["gridPos"]
        assert place.keys() == {"h", "w", "x", "y"}
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, each["title"]
        taken |= cells
    for each in panels():
        assert each["type"] in {"timeseries", "stat", "bargauge"}
        assert each["datasource"]["type"] == "prometheus"
        assert each["fieldConfig"].keys() == {"defaults", "overrides"}
        assert each["options"]
        letters = [target["refId"] for target in each["targets"]]
        assert len(letters) == len(set(letters)) > 0
        for target in each["targets"]:
            used = set(re.findall(r"\$(?:\{(\w+)\}|(\w+))", target["expr"]))
            assert {a or b for a, b in used} <= {*names, "__rate_interval"}


# ---------------------------------------------------------------- the server and Prometheus


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[int]:
    """A Prometheus that scrapes a port every half second, and its own port."""
    port = free_port()
    (folder / "rules.yml").write_text(written("rules"))
    (folder / "prometheus.yml").write_text(
        json.dumps(  # which is YAML
            {
                "global": {"scrape_interval": "500ms", "evaluation_interval": "1s"},
                "rule_files": ["rules.yml"],
                "scrape_configs": [
                    {
                        "job_name": "chatnest",
                        "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
                    }
                ],
            }
        )
    )
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process,
    ):
        try:
            wait_for(lambda: query(port, "chatnest_workers == 4"))
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE)


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read().decode()  # type: ignore[no-any-return]


def query(port: int, text: str) -> list[dict[str, Any]]:
    try:
        found = fetched(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(text)}")
    except OSError:
        return []
    return json.loads(found)["data"]["result"]  # type: ignore[no-any-return]


class Shown:
    """The page of the metrics, as a collector of prometheus-client would be."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/metrics"

    def __call__(self, name: str, **labels: str) -> float:
        return value(samples_of(fetched(self.url)), name, **labels)


def samples_of(text: str) -> Any:
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (each.name, frozenset(each.labels.items())): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def send(port: int, user: str) -> Client:
    client = Client(port)
    client.socket.settimeout(PATIENCE)
    body = {"messages": [{"role": "user", "content": CANARY}]}
    client.request("POST", body=body, headers=[f"X-User: {user}"])
    return client


def ask(port: int, user: str) -> int:
    """One whole exchange: its status, or 0 if the answer was cut."""
    with send(port, user) as client:
        try:
            reply = client.reply()
            reply.read_all()
        except (OSError, EOFError):
            return 0
        return reply.status if reply.status != 200 or b"event: done" in reply.body else 0


def workers(pid: int) -> list[int]:
    return [
        each
        for each in children(pid)
        if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()
    ]


def records(url: str) -> list[TurnRecord]:
    async def read() -> list[TurnRecord]:
        ledger: Any = open_ledger(LedgerSection(url=url))
        try:
            return [e async for e in ledger.audit().records(0) if isinstance(e, TurnRecord)]
        finally:
            await ledger.aclose()

    return [each for each in anyio.run(read) if each.outcome != "expired"]


def has_what_is_asked(port: int, names: set[str]) -> None:
    """No counter has gone back, and each query of the dashboard and the rules has an answer."""
    counters = {name for name in names if name.endswith(("_total", "_bucket", "_count", "_sum"))}
    assert len(counters) > 20
    assert {_sum(port, f"sum(resets({name}[10m]))") for name in counters} == {0.0}
    for panel in panels():
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "1m")
            text = text.replace("$job", ".*").replace("$instance", ".*")
            assert query(port, text), (panel["title"], text)
    rules = json.loads(fetched(f"http://127.0.0.1:{port}/api/v1/rules"))["data"]["groups"]
    assert {rule["health"] for rule in rules[0]["rules"]} == {"ok"}


class Logged(Process):
    """A server whose access log is kept."""

    def __init__(self, arguments: list[str], cwd: Path, output: IO[str]) -> None:
        self.output = output
        super().__init__(arguments, cwd=cwd)


def test_prometheus_sees_what_the_ledger_has_through_a_kill(tmp_path):
    metrics = free_port()
    (tmp_path / "own.toml").write_text(CONFIG.format(metrics=metrics))
    command = ["-m", "chatnest", "serve", "--demo", "--config", "own.toml", "--port", "0"]
    command += ["--workers", "4", "--ledger", "sqlite:books.db"]
    lines = tmp_path / "access.log"
    with (
        lines.open("w") as output,
        Logged(command, tmp_path, output) as server,
        ThreadPoolExecutor(12) as crowd,
    ):
        port, shown = server.ready(), Shown(metrics)
        wait_for(lambda: shown("workers") == 4)
        before = samples_of(fetched(shown.url))
        promtool(tmp_path, "check", "metrics", given=fetched(shown.url))
        with prometheus(tmp_path, metrics) as prom:
            users = [f"user-{number}" for number in range(24)] + ["greedy"] * 5
            statuses = list(crowd.map(lambda user: ask(port, user), users))
            assert sorted(set(statuses)) == [200, 429]
            refused = statuses.count(429)

            open_ones = [send(port, f"cut-{number}") for number in range(8)]
            for each in open_ones:
                each.until(b"event: token")
            wait_for(lambda: shown("streams") > 0)
            killed = workers(server.pid)[0]
            os.kill(killed, signal.SIGKILL)
            cut = 0
            for each in open_ones:
                with each:
                    try:
                        each.until(b"event: done")
                    except (OSError, EOFError):
                        cut += 1
            wait_for(lambda: shown("workers") == 4 and killed not in workers(server.pid))
            wait_for(lambda: shown("streams") == 0)
            later = [f"later-{number}" for number in range(12)]
            assert set(crowd.map(lambda user: ask(port, user), later)) == {200}

            booked = records(f"sqlite:{tmp_path / 'books.db'}")
            tokens, money = sum(e.tokens for e in booked), sum(e.money for e in booked)
            assert shown("turns_total") == len(booked)
            assert shown("tokens_total") == tokens
            assert round(shown("spend_total") * 10**9) == money > 0
            assert shown("refusals_total", limit="requests", enforced="true") == refused == 2
            assert shown("refusals_total", limit="trial", enforced="false") == 2
            assert shown("expired_holds_total") == cut
            assert samples_of(fetched(shown.url)).keys() == before.keys()

            wait_for(lambda: _sum(prom, "sum(chatnest_turns_total)") == len(booked))
            assert _sum(prom, "sum(chatnest_tokens_total)") == tokens
            assert round(_sum(prom, "sum(chatnest_spend_total)") * 10**9) == money
            has_what_is_asked(prom, {name for name, _ in before})
        text = fetched(shown.url)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    logged = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len([each for each in logged if each["status"] == 200]) == len(booked)
    assert len([each for each in logged if each["status"] == 429]) == refused
    for secret in (CANARY, "127.0.0.1", "canned"):
        assert secret not in text + lines.read_text() + "".join(server.lines[20:])


def _sum(port: int, text: str) -> float:
    found = query(port, text)
    return float(found[0]["value"][1]) if found else -1.0
