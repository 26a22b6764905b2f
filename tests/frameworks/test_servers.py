"""The chat under each server, started as its page says, in a process of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatnest.testing import Answer, FakeUpstream
from tests.frameworks import pages
from tests.frameworks.h2_client import H2Client
from tests.frameworks.servers import BIND, SERVERS, TRIO, Server
from tests.frameworks.support import DONE, HOLD, INPUT, START, Site, serving
from tests.servers.support import PATIENCE, ask
from tests.support.ports import free_port

ENDING = [
    name
    for name, server in SERVERS.items()
    if server.waits and name not in {"uvicorn-asyncio-httptools", "uvicorn-uvloop-h11"}
]
"""Those with some patience; two of uvicorn's four, which differ in other things."""


@contextmanager
def running(
    server: Server, folder: Path, upstream: FakeUpstream, *, drains: bool = True
) -> Iterator[Site]:
    (program,) = pages.programs(f"servers/{server.page}.md", drain=server.drain).values()
    if not drains:
        program = program.replace(f", drain_at_signal={server.drain}", "")
    (folder / "shop.py").write_text(pages.patient(program))
    port = free_port()
    arguments = server.arguments("shop:app", port)
    with serving(arguments, folder, upstream, port) as process:
        yield Site(process, port, upstream, folder, "addr:127.0.0.1")


@pytest.mark.parametrize("name", SERVERS)
def test_the_chat_and_its_end(name, upstream, tmp_path, record_property):
    server = SERVERS[name]
    with running(server, tmp_path, upstream) as site:
        site.answers_well(record_property)
        used, held = site.sigterm_settles(server.streams)
    if server.settles:
        assert server.streams * INPUT < used < server.streams * HOLD
        assert held == 0
    else:
        assert (used, held) == (0, server.streams * HOLD)
        assert site.after_the_lease() == (held, 0)


@pytest.mark.parametrize("name", ["granian", "gunicorn-asgi"])
def test_a_worker_that_is_killed_leaves_its_streams_to_their_leases(name, upstream, tmp_path):
    """As the pages say of a chat that does not drain at the signal."""
    impatient = SERVERS[name]._replace(patience="1")
    with running(impatient, tmp_path, upstream, drains=False) as site:
        assert site.sigterm_settles(3) == (0, 3 * HOLD)
    assert site.after_the_lease() == (3 * HOLD, 0)


@pytest.mark.parametrize("name", ENDING)
def test_a_stream_that_ends_in_time_ends_well(name, upstream, tmp_path):
    patient = SERVERS[name]._replace(patience="30", drain="20")
    with running(patient, tmp_path, upstream) as site:
        site.sigterm_lets_it_end()


@pytest.mark.parametrize("flags", [(), TRIO], ids=["asyncio", "trio"])
def test_http_2(flags, upstream, tmp_path):
    with running(Server("hypercorn", flags, bind=BIND), tmp_path, upstream) as site:
        upstream.script(Answer.stall(1))
        with H2Client(site.port) as client:
            client.post("/api/chat", ask())
            assert client.until(b'"Hello"\n\n') == START + b'event: token\ndata: "Hello"\n\n'
            upstream.release()
            assert client.read_all().endswith(DONE)
            assert client.status == "200"
        upstream.script(Answer.stall(1))
        with H2Client(site.port) as client:
            client.post("/api/chat", ask())
            client.until(b'"Hello"\n\n')
            client.reset()
            upstream.wait(lambda u: u.aborted == 1, timeout=PATIENCE)
