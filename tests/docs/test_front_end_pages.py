"""The programs of docs/how-to/front-ends, as they stand, against ``chatnest serve --demo``."""

from collections.abc import Iterator

import pytest

from tests.clients.node import MISSING
from tests.docs.front_ends import PAGES, Program, Servers, matches, programs, run, settled

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


@pytest.mark.parametrize("program", programs(".py"), ids=str)
def test_a_python_program_prints_what_its_page_shows(program: Program, servers, tmp_path):
    printed = run(program, servers.port(program.config), tmp_path)

    assert matches(program.prints, printed), printed


@pytest.mark.node
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize("program", programs(".mjs"), ids=str)
def test_a_node_program_prints_what_its_page_shows(program: Program, servers, tmp_path):
    printed = run(program, servers.port(program.config), tmp_path)

    assert matches(program.prints, printed), printed


STOPS = [each for each in (*programs(".py"), *programs(".mjs")) if each.name.startswith("stop.")]


@pytest.mark.node
@pytest.mark.parametrize("program", STOPS, ids=str)
def test_stop_stops_the_model(program: Program, servers, tmp_path):
    if program.name.endswith(".mjs") and MISSING:
        pytest.skip(MISSING)
    port = servers.port(program.config, OWN=str(program))
    run(program, port, tmp_path)

    assert 0 < settled(port) < 150  # the whole answer would be more


@pytest.mark.node
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize("program", PAGES["ag-ui"].programs, ids=str)
def test_a_program_of_ag_ui_runs_with_the_older_client(program: Program, servers, tmp_path):
    older = program._replace(text=program.text.replace('"@ag-ui/client"', '"ag-ui-0"'))
    if not program.prints:
        pytest.skip("CopilotKit is not installed")
    printed = run(older, servers.port(program.config), tmp_path)

    assert matches(program.prints, printed), printed


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_programs_that_print_something(page: str):
    if page != "README":
        assert any(each.prints for each in PAGES[page].programs)
