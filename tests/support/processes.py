"""The marker ``process``: a test that starts a process has it.

It comes from the test's folder, from its fixtures, or from the test itself.

A test without the marker cannot start one, so that ``-m "not process"`` keeps its word.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

FOLDERS: Final = ("browser", "clients", "endurance", "fire", "frameworks", "proxies", "servers")
"""Folders whose tests start processes, or servers in threads."""

FIXTURES: Final = {"browser", "redis_cluster", "redis_server", "serve"}
"""Fixtures that start one."""

_STARTS: Final = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"}
_unmarked: list[str] = []


def is_folder(path: Path) -> bool:
    return path.name in FOLDERS and path.parent.name == "tests"


def mark(item: pytest.Item) -> None:
    """Mark a test by its folder and its fixtures. ``browser``, ``node`` and ``redis`` imply it."""
    names = set(getattr(item, "fixturenames", ()))
    values = [str(each) for each in getattr(getattr(item, "callspec", None), "params", {}).values()]
    if names & {"redis_cluster", "redis_server"} or any(v.startswith("redis") for v in values):
        item.add_marker(pytest.mark.redis)
    if "browser" in names:
        item.add_marker(pytest.mark.browser)
    folder = item.nodeid.split("/")[1:2]
    implied = any(item.get_closest_marker(name) for name in ("browser", "node", "redis"))
    if implied or names & FIXTURES or (folder and folder[0] in FOLDERS):
        item.add_marker(pytest.mark.process)


def watch(item: pytest.Item) -> Iterator[None]:
    """Refuse to start a process while a test without the marker runs, fixtures included."""
    if item.get_closest_marker("process") is None:
        _unmarked.append(item.nodeid)
    yield
    _unmarked.clear()


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if _unmarked and event in _STARTS and not _asks_for_the_platform(arguments):
        pytest.fail(f"{_unmarked[0]} starts a process: mark it with pytest.mark.process")


def _asks_for_the_platform(arguments: tuple[Any, ...]) -> bool:
    """Whether it is ``platform``, by which openai fills in a header field of its first request."""
    return len(arguments) > 1 and arguments[1] == ["uname", "-p"]


sys.addaudithook(_refuse)
