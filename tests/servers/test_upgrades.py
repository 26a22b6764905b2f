"""A server that misreads the body of an upgrade: the connection ends, the log has a line."""

import logging

import pytest
from starlette.responses import PlainTextResponse

from chatnest import ChatNestApp, ChatNestMiddleware, DemoProvider
from tests.servers.support import Client, ask, uvicorn_thread

H2C = ("Connection: Upgrade", "Upgrade: h2c")


@pytest.mark.parametrize("path", ["/api/chat", "/api/chat/limits", "/api/chat/runs/x", "/other"])
def test_an_answer_to_an_upgrade_is_the_last(path):
    app = ChatNestMiddleware(PlainTextResponse("other"), chat=ChatNestApp(provider=DemoProvider()))
    with uvicorn_thread(app, http="httptools", lifespan="off") as port, Client(port) as client:
        client.request("GET", path)
        reply = client.reply()
        assert "close" not in reply.headers.get("connection", "")
        reply.read_all()
        client.request("POST", path, body=ask(), headers=H2C)
        reply = client.reply()
        assert reply.headers["connection"] == "close"
        reply.read_all()
        assert client.take_all() == b""


@pytest.mark.parametrize(("http", "lines"), [("httptools", 1), ("chatnest.server:Protocol", 0)])
def test_a_server_that_misreads_them_is_warned_of_once(http, lines, caplog):
    chat = ChatNestApp(provider=DemoProvider())
    with (
        caplog.at_level(logging.WARNING, "chatnest.app"),
        uvicorn_thread(chat, http=http, lifespan="off") as port,
        Client(port) as client,
    ):
        for _ in range(2):
            assert client.get("/limits").status == 200
    said = [record.getMessage() for record in caplog.records if record.name == "chatnest.app"]
    assert len(said) == lines
    assert all("--http chatnest.server:Protocol" in line for line in said)
