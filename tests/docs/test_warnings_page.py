"""The programs of docs/how-to/warnings.md, and its webhook, with a receiver that fails at first."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest

from chatnest.alerts import deliveries
from chatnest.config.build import build_chat
from chatnest.config.sections import load_config
from chatnest.testing import Conversation

PAGE = (Path(__file__).parents[2] / "docs/how-to/warnings.md").read_text()
BLOCK = re.compile(r"^```(python|toml|json)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
OLD = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
ASK = {"messages": [{"role": "user", "content": "Hello"}]}


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(PAGE) if name == language]


Requests = list[tuple[int, dict[str, str], bytes]]


@contextmanager
def receiver(*statuses: int) -> Iterator[tuple[str, Requests]]:
    """A real server that answers with these statuses, and then with 204."""
    received: Requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # of the library
            body = self.rfile.read(int(self.headers["content-length"]))
            status = statuses[len(received)] if len(received) < len(statuses) else 204
            fields = {name.lower(): value for name, value in self.headers.items()}
            received.append((status, fields, body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/budgets", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def ask(chat: Any) -> None:
    async with Conversation(chat, json=ASK) as c:
        await c.read_all()
        await c.finished()
    assert c.status == 200


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(deliveries, "_PAUSE_SECONDS", 0.01)


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_the_webhook_is_signed_and_repeated_until_it_is_accepted(tmp_path, monkeypatch):
    names: dict[str, Any] = {"__name__": "example"}
    exec(blocks("python")[0], names)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    monkeypatch.setenv("CHATNEST_WEBHOOK_SECRET", f"{SECRET} {OLD}")
    with receiver(500, 302) as (url, received):
        file = tmp_path / "chatnest.toml"
        text = blocks("toml")[0]
        for before, after in (
            ("https://ops.example.com/budgets", url),
            ('per = "team"', 'per = "global"'),
            ('"200.00"', '"0.002"'),
            ("[models.small]", "[provider]"),
        ):
            assert before in text
            text = text.replace(before, after)
        file.write_text(text)
        environ = {"CHATNEST_LEDGER__URL": f"sqlite:{tmp_path / 'chatnest.db'}"}
        chat = build_chat(load_config(file, environ, {}, demo=True))
        async with chat.lifespan():
            with anyio.fail_after(60):
                while len(received) < 3:
                    await ask(chat)
                    await anyio.sleep(0.02)

    genuine = names["is_genuine"]
    for _, fields, body in received:
        assert genuine(SECRET, fields, body)
        assert genuine(OLD, fields, body)
        assert not genuine(SECRET, fields, body + b" ")
        assert not genuine(SECRET, {**fields, "webhook-id": "another"}, body)
        assert not genuine(SECRET, {**fields, "webhook-timestamp": "1700000000"}, body)
        assert not genuine("whsec_" + "A" * 32, fields, body)
    assert [status for status, _, _ in received[:3]] == [500, 302, 204]
    assert len({fields["webhook-id"] for _, fields, _ in received[:3]}) == 1
    document, shown = json.loads(received[0][2]), json.loads(blocks("json")[0])
    differs = dict.fromkeys(("account", "used", "window", "amount", "threshold"))
    assert document["data"] | differs == shown["data"] | differs
    assert document["data"]["threshold"] == 0.5
    assert document["data"]["account"] == {"kind": "global", "name": ""}
    assert document["data"]["amount"] == "0.002"
    assert document.keys() == shown.keys()


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_the_program_is_told_twice(caplog):
    names: dict[str, Any] = {"__name__": "example"}
    exec(blocks("python")[1], names)
    chat = names["chat"]
    async with chat.lifespan():
        await ask(chat)
        await ask(chat)
        with anyio.fail_after(30):
            while len(names["told"]) < 2:  # noqa: ASYNC110  # the page's own list
                await anyio.sleep(0.01)
    assert [re.sub(r"^\S+", "", told) for told in names["told"]] == [
        " has used 1 of 2 requests",
        " has used 2 of 2 requests",
    ]
    lines = [r.message for r in caplog.records if r.message.startswith("budget warning: limit=")]
    (shown,) = re.findall(r"^budget warning: .*", PAGE, re.MULTILINE)
    names_of = re.compile(r"(\w+)=")
    assert [names_of.findall(line) for line in lines] == [names_of.findall(shown)] * 2
