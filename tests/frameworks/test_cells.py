"""Every program of the frameworks' pages under every server: the cells of the table in
docs/discussion/cells.md, which ``nox -s cells`` writes.
"""

import pytest

from tests.frameworks.programs import PROGRAMS, Program, save, well_served
from tests.frameworks.servers import SERVERS
from tests.frameworks.support import HOLD, INPUT
from tests.support.ports import free_port
from tests.support.soak import SOAKS

TOLD = {("django_app", "daphne"), ("django_app", "gunicorn-uvicorn")}
"""What Django's page says that works, too. The others are many."""

SENSELESS = {("sanic_app", "daphne")}
"""Sanic serves nothing without a lifespan, and Daphne has none."""

NO_WEBSOCKETS = {("quart_app", "daphne")}
"""Quart wants to be told the scheme, and Daphne does not say it of a websocket."""

CELLS = [
    pytest.param(program, name, id=f"{program.name}-{name}")
    for program in PROGRAMS
    for name in SERVERS
    if (program.trio or not name.endswith("-trio"))
    and (program.name, name) not in SENSELESS
    and (SOAKS or (program.name, name) in TOLD)
]


@pytest.mark.soak
@pytest.mark.parametrize(("program", "name"), CELLS)
def test_a_cell(program: Program, name: str, upstream, tmp_path, record_property):
    server = SERVERS[name]
    save(program, tmp_path, upstream, server.drain)
    port = free_port()
    arguments = server.arguments("tests.frameworks.served:app", port)
    with well_served(
        program, arguments, tmp_path, upstream, port, record_property=record_property
    ) as site:
        websockets = program.websockets and (program.name, name) not in NO_WEBSOCKETS
        if websockets:
            site.websockets_are_the_host_s()
        used, held = site.sigterm_settles(server.streams)
    if server.spoiled and websockets:
        used, held = site.after_the_lease()
        assert used > server.streams * INPUT
        assert held == 0
    elif server.settles:
        assert server.streams * INPUT < used < server.streams * HOLD
        assert held == 0
    else:
        assert (used, held) == (0, server.streams * HOLD)
        assert site.after_the_lease() == (held, 0)
    if not server.lifespan:
        assert site.the_host_heard() == list(program.alone)
    elif server.settles and program.lifespan:
        assert site.the_host_heard() == ["start", "stop"]
