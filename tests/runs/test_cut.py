"""A connection that is cut anywhere, and the same request again: one call, one charge, one text."""

import threading

import pytest

from chatnest import MemoryLedger, RunSettings
from chatnest.testing import Answer
from tests.runs.support import used
from tests.servers.support import Client, ask, uvicorn_thread
from tests.servers.test_uvicorn import chat
from tests.support.soak import SOAKS

FRAMES = 200
END = 7_200
OFFSETS = range(END) if SOAKS else [*range(0, 260, 13), *range(260, END, 76)]
"""Of bytes after the head: every one, or densely at the beginning and then all along."""


@pytest.mark.soak
@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_cut_after_any_byte_it_is_told_from_the_beginning(upstream, how, record_property):
    ledger = MemoryLedger()
    # Not by address: of a connection that was reset at once, nobody knows it.
    settings = {"runs": RunSettings(linger=60), "identify": lambda _: "ann"}
    app = chat(upstream, ledger=ledger, **settings)
    upstream.default = Answer.tokens(FRAMES, " abc")
    wrong = []

    def one(port: int, number: int, offset: int) -> None:
        key = f"Idempotency-Key: {how}-{number}"
        client = Client(port)
        client.request("POST", body=ask(), headers=[key])
        if offset:
            client.take(offset)
        client.reset() if how == "RST" else client.socket.close()
        with Client(port) as again:
            again.request("POST", body=ask(), headers=[key])
            reply = again.reply()
            reply.read_all()
        if (reply.text, reply.events[-1]) != (" abc" * FRAMES, "done"):
            wrong.append((offset, reply.body))

    with uvicorn_thread(app) as port:
        for number, offset in enumerate(OFFSETS):
            one(port, number, offset)

        assert wrong == []
        assert len(upstream.requests) == len(OFFSETS)
        assert used(port) == len(OFFSETS) * (8 + FRAMES + 1)
    assert threading.active_count() < 50
    record_property("soak", f"{how}: {len(OFFSETS)} of {len(OFFSETS)} offsets, as many calls")
