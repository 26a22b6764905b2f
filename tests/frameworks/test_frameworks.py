"""The programs of each framework's page, served as the page says, in a process of their own."""

import pytest

from tests.frameworks import pages
from tests.frameworks.programs import (
    PASSWORD,
    PROGRAMS,
    Program,
    requests,
    save,
    server_command,
    well_served,
)
from tests.frameworks.support import HOLD, INPUT
from tests.support.ports import free_port


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_the_page_s_program(program: Program, upstream, tmp_path, record_property, subtests):
    save(program, tmp_path, upstream, drain="0.2")
    server, _, *flags = server_command(program)
    flags = ["1" if flag == "30" else flag for flag in flags]  # seconds that nobody here waits
    port = free_port()
    bind = ["--bind", f"127.0.0.1:{port}"] if server == "hypercorn" else ["--port", str(port)]
    arguments = ["-m", server, "tests.frameworks.served:app", *flags, *bind]
    with well_served(
        program, arguments, tmp_path, upstream, port, record_property=record_property
    ) as site:
        if program.websockets:
            site.websockets_are_the_host_s()
        with subtests.test("what the page asks by curl"):
            site.the_page_s_requests_work(requests(program), PASSWORD)
        used, held = site.sigterm_settles(3)
        assert site.the_host_heard() == (["start", "stop"] if program.lifespan else [])
    assert 3 * INPUT < used < 3 * HOLD
    assert held == 0


@pytest.mark.parametrize("folder", ["frameworks", "servers"])
def test_all_that_a_page_shows_is_served_here(folder):
    names = sorted(page.name for page in (pages.HOW_TO / folder).glob("*.md"))
    shown = {name: pages.programs(f"{folder}/{name}") for name in names}
    assert {name: list(found.values()) for name, found in shown.items()} == {
        name: pages.examples(f"{folder}/{name}") for name in names
    }
    if folder == "frameworks":
        assert {program.name for program in PROGRAMS} == {m for f in shown.values() for m in f}
