"""A request goes one way through the house: a trace of it is compared with the design page."""

import inspect
import re
from collections import Counter
from importlib import import_module
from itertools import dropwhile
from operator import attrgetter
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import pytest

from chatnest import ChatNestApp
from chatnest.providers.demo import DemoProvider
from chatnest.streams.generation import Generation
from chatnest.streams.response import Response
from chatnest.testing import Conversation
from tests.streams.support import ask
from tests.test_house import row
from tests.work.trace import Call, Trace, posted

NAME = r"[a-z_0-9.]+:[A-Za-z_][\w.]*"
PAGE = (Path(__file__).parents[2] / "docs/discussion/design.md").read_text(encoding="utf-8")
DRAWINGS = re.findall(rf"^```text\n({NAME}.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TABLE = PAGE.partition("| called | by | through |\n")[2].partition("\n\n")[0]
CODES = f"{TABLE}{''.join(DRAWINGS)}"


# ---------------------------------------------------------------- the trace of a request


def place_of(name: str) -> str:
    """The folder, or the file at the root, that a function is in."""
    return re.split(r"[.:]", name)[0]


async def later(**request: Any) -> Trace:
    """A request for a run that has ended. ``{run}`` in its path is the run's id."""
    trace = Trace()
    app = ChatNestApp(provider=DemoProvider(pace=0))
    async with Conversation(app, json=ask(), headers={"idempotency-key": "k"}) as first:
        await first.read_all()
    path = request.pop("path", "/api/chat").format(run=first.headers["chatnest-run-id"])
    with trace.noting():
        async with Conversation(app, path=path, **request) as second:
            answer = await second.read_all()
    assert b"event: done" in answer or b"was_running" in answer, answer
    await app.aclose()
    return trace


KINDS: dict[str, dict[str, Any]] = {
    "plain": {"keyed": False},
    "keyed": {"keyed": True},
    "replayed": {"json": ask(), "headers": {"idempotency-key": "k"}},
    "resumed": {"method": "GET", "path": "/api/chat/runs/{run}"},
    "cancelled": {"method": "DELETE", "path": "/api/chat/runs/{run}"},
}


TRACED: dict[str, list[Call]] = {}
"""The calls of each kind, so that each is traced once."""


async def traced(kind: str, monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    if kind not in TRACED:
        request = KINDS[kind]
        waiting = posted(monkeypatch, **request) if "keyed" in request else later(**request)
        TRACED[kind] = (await waiting).calls
    return TRACED[kind]


# ---------------------------------------------------------------- the page


class Drawn(NamedTuple):
    """A line of a drawing, and the line that it is indented under."""

    name: str
    parent: str


def lines_of(drawing: str) -> list[Drawn]:
    lines: list[Drawn] = []
    above: list[tuple[int, str]] = []
    for indent, name in re.findall(rf"^( *)({NAME})", drawing, re.MULTILINE):
        while above and above[-1][0] >= len(indent):
            above.pop()
        lines.append(Drawn(name, above[-1][1] if above else ""))
        above.append((len(indent), name))
    return lines


def as_called(calls: list[Call], lines: list[Drawn]) -> list[Drawn]:
    """The drawn functions in the order of their first calls, as many as are drawn, from the first
    line's on. Below a task, where no caller is known, a line stands where it is drawn.
    """
    names = [line.name for line in lines]
    left = Counter(names)
    found: list[Drawn] = []
    for name, callers in dropwhile(lambda call: call.name != names[0], calls):
        if left[name] > 0:
            parent = next((caller for caller in callers if caller in left), None)
            line = lines[len(found)] if len(found) < len(lines) else None
            if parent is None and line is not None:
                parent = line.parent
            left[name] -= 1
            found.append(Drawn(name, parent or ""))
    return found


class Way(NamedTuple):
    """A row of the table: how a call goes up the house."""

    called: str
    by: str
    through: str

    def allows(self, call: Call) -> bool:
        protocol = re.match(rf"`({NAME})`", self.through)
        if protocol is not None:
            called, _, method = call.name.rpartition(".")
            is_called = called == self.called and hasattr(named(protocol[1]), method)
        else:
            is_called = call.name == self.called
        return is_called and place_of(call.caller) == place_of(self.by)


WAYS = [
    Way(*row)
    for row in re.findall(r"^\| `([^`]+:[^`]+)` \| `([^`]+)` \| (.+?) \|$", TABLE, re.MULTILINE)
]


def named(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return attrgetter(attribute)(import_module(f"chatnest.{module}"))


def is_upward(call: Call) -> bool:
    above, below = place_of(call.caller), place_of(call.name)
    return call.caller != "" and above != below and row("", below) >= row("", above)


# ---------------------------------------------------------------- tests


@pytest.mark.parametrize("name", sorted(set(re.findall(NAME, CODES))))
def test_the_names_of_the_page_exist(name: str) -> None:
    assert named(name)


@pytest.mark.parametrize("drawn", [Generation, Response])
def test_the_states_are_drawn_as_in_the_docstring(drawn: type) -> None:
    states = re.findall(r"^(?: .*\n)+", inspect.cleandoc(drawn.__doc__ or ""), re.MULTILINE)
    assert dedent(states[0]) in PAGE


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_enters_the_application_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = await traced(kind, monkeypatch)
    entries = [call for call in calls if place_of(call.name) == "app" != place_of(call.caller)]
    assert entries == [Call("app:ChatNestApp.__call__", ())]


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    ("kind", "drawing"), [("plain", 0), ("keyed", 1), ("keyed", 2)], ids=["plain", "keyed", "run"]
)
async def test_a_request_goes_the_way_that_is_drawn(
    kind: str, drawing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = lines_of(DRAWINGS[drawing])
    assert as_called(await traced(kind, monkeypatch), lines) == lines


@pytest.mark.anyio
@pytest.mark.loops("asyncio")
async def test_a_call_goes_up_the_house_only_as_the_table_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upward = {
        call._replace(callers=call.callers[:1])
        for kind in KINDS
        for call in await traced(kind, monkeypatch)
        if is_upward(call)
    }
    assert {call for call in upward if not any(way.allows(call) for way in WAYS)} == set()
    assert [way for way in WAYS if not any(map(way.allows, upward))] == []
