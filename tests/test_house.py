"""The house stands as it was drawn: imports run one way, and each thing has one place."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import chatnest

ROOT = Path(chatnest.__file__).parent

# From the bottom to the top. A module imports from layers below its own, and no sibling in it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("arguments",),
    ("profiles", "bounds", "heads", "wal", "loops", "places", "signals", "identifiers"),
    ("asgi", "request", "events", "intake", "users"),
    ("cors", "identity", "turn", "upgrades"),
    ("access", "endings", "failures"),
    ("ledger", "wire", "tokens"),
    (
        *("providers", "ratelimit", "fallback", "outbox", "refusals", "effort", "nearing"),
        "lookups",
    ),
    ("policies",),
    ("accounting", "status"),
    ("streaming",),
    ("draining", "answering"),
    ("runs",),
    ("lifetime",),
    ("app",),
    ("middleware",),
    ("chatnest",),
    ("cli", "testing", "client", "django"),
    ("server", "__main__"),
)

# Inside a package everyone may import its base, its __init__ everyone; the rest is listed here.
WITHIN: dict[str, tuple[str, ...]] = {
    "ledger.model": ("ledger.days", "ledger.window"),
    "ledger.memory": ("ledger.dictbooks",),
    "ledger.dictbooks": ("ledger.days", "ledger.holds", "ledger.model", "ledger.window"),
    "ledger.holds": ("ledger.model",),
    "ledger.sqlite": ("ledger.model", "ledger._sqlite_*", "ledger.survey"),
    "ledger.redis": ("ledger.days", "ledger._redis_*", "ledger.survey"),
    "ledger._sqlite_*": ("ledger.model", "ledger.window", "ledger.audit", "ledger._sqlite_*"),
    "ledger._redis_*": ("ledger.model", "ledger.days", "ledger.audit", "ledger._redis_*"),
    "ledger._sqlite_adopt": ("ledger.model", "ledger.audit", "ledger.days", "ledger._sqlite_*"),
    "ledger._sqlite_place": ("ledger.survey",),
    "ledger._sqlite_file": ("ledger.survey", "ledger._sqlite_*"),
    "ledger._sqlite_writer": ("ledger.survey", "ledger._sqlite_*"),
    "ledger._sqlite_audit": ("ledger.model", "ledger.audit", "ledger.survey", "ledger._sqlite_*"),
    "ledger.reasons": ("ledger.survey", "ledger._redis_reasons", "ledger._sqlite_reasons"),
    "ledger._redis_reasons": ("ledger.survey",),
    "ledger._redis_books": ("ledger._redis_*", "ledger.survey"),
    "ledger._redis_mark": ("ledger.survey",),
    "ledger._redis_reader": ("ledger.audit", "ledger._redis_*", "ledger.survey"),
    "ledger._redis_survey": ("ledger.reasons", "ledger.survey"),
    "ledger._sqlite_reasons": ("ledger.survey",),
    "ledger._sqlite_survey": ("ledger.reasons", "ledger.survey"),
    "policies.anonymous": ("policies.zone",),
    "policies.budget": ("policies.zone",),
    "providers.openai": (
        *("providers.openai_client", "providers.answer_stream", "providers.decode"),
        *("providers.error_documents", "providers.faults", "providers.inflate"),
        *("providers.network", "providers.parameters", "providers.sse"),
        *("providers.think_tags", "providers.transport"),
    ),
    "providers.openai_client": (
        *("providers.connections", "providers.error_documents", "providers.faults"),
        *("providers.httpx2_transport", "providers.network", "providers.transport"),
    ),
    "providers.answer_stream": (*("providers.decode", "providers.inflate", "providers.transport"),),
    "providers.connections": (
        *("providers.http1", "providers.httpx2_transport", "providers.network"),
        "providers.transport",
    ),
    "providers.http1": ("providers.transport",),
    "providers.httpx2_transport": ("providers.network", "providers.transport"),
    "providers.decode": (
        *("providers.chunks", "providers.faults", "providers.figures", "providers.sse"),
        "providers.think_tags",
    ),
    "providers.parameters": ("providers.error_documents",),
    "providers.chunks": ("providers.error_documents", "providers.faults"),
    "providers.faults": ("providers.error_documents", "providers.waits"),
    "providers.error_documents": ("providers.waits",),
    "cli.build": ("cli.config", "cli.sources"),
    "cli.config": ("cli.sources",),
    "cli.check": ("cli.checks", "cli.report", "cli.visit"),
    "cli.checks": ("cli.checks", "cli.build", "cli.config", "cli.seen"),
    "cli.doctor": (
        *("cli.config", "cli.build", "cli.checks", "cli.options", "cli.report", "cli.site"),
    ),
    "cli.ledger": ("cli.config", "cli.build"),
    "cli.front": ("cli.door",),
    "cli.hosts": ("cli.config",),
    "cli.site": (
        *("cli.announcement", "cli.config", "cli.build", "cli.hosts"),
        *("cli.front", "cli.interpreter"),
    ),
    "cli.protocol": ("cli.connections", "cli.front", "cli.http10"),
    "cli.report": ("cli.checks", "cli.terminal"),
    "cli.replies": ("cli.seen", "cli.terminal"),
    "cli.seen": ("cli.terminal",),
    "cli.visit": ("cli.replies", "cli.seen", "cli.terminal"),
    "cli.serve": (
        *("cli.announcement", "cli.config", "cli.connections", "cli.build", "cli.protocol"),
        *("cli.checks", "cli.site", "cli.sources", "cli.workers"),
    ),
    "runs.entries": (),
    "runs.memory": ("runs.entries",),
    "runs.place": ("runs.memory", "runs.redis", "runs.sqlite"),
    "runs.run": ("runs.entries",),
    "runs.service": ("runs.entries", "runs.key", "runs.run", "runs.writer"),
    "runs.sqlite": ("runs._sqlite_place",),
    "runs.writer": ("runs.entries", "runs.run"),
    "testing.conversation": ("testing.protocol", "testing.scope", "testing.sse"),
    "testing.fault_proxy": ("testing.relay",),
    "testing.upstream": ("testing.upstream",),
}

# Who may know what the rest must not: a package outside, and the modules that import it.
ONE_PLACE: dict[str, tuple[str, ...]] = {
    "openai": ("providers.openai_client",),
    "httpx2": (
        *("providers.openai_client", "providers.connections", "providers.httpx2_transport"),
        *("providers.network", "client", "cli.replies", "cli.visit"),
    ),
    "aiohappyeyeballs": ("providers.connections",),
    "httptools": ("providers.http1", "cli.protocol"),
    "tiktoken": ("tokens",),
    "sqlite3": ("wal", "ledger.sqlite", "ledger._sqlite_*", "runs.sqlite"),
    "redis": ("ledger.redis", "ledger._redis_*"),
    "uvicorn": ("cli.*",),
    "socket": (
        *("cli.*", "providers.connections", "providers.httpx2_transport", "testing.*"),
        "ledger._redis_reasons",
    ),
    "asyncio": (
        *("providers.connections", "providers.http1", "ledger._redis_client", "cli.*", "testing.*"),
    ),
    "httpx": (),
    "requests": (),
    "pydantic": (),
    "trio": (),
    "sniffio": ("cli.interpreter",),
}

# What a module without I/O has no use for. Of anyio it may have Event, which only waits.
IO = {
    *ONE_PLACE,
    *("anyio", "concurrent", "http.client", "http.server", "io", "logging.handlers"),
    *("multiprocessing", "os", "pathlib", "queue", "selectors", "shutil", "signal", "ssl"),
    *("starlette.requests", "starlette.responses", "subprocess", "tempfile", "threading"),
    "urllib.request",
}


def parsed() -> dict[str, ast.Module]:
    """Every module of the package by its name below ``chatnest``; the package itself by its own."""
    modules = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name or "chatnest"] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return modules


MODULES = parsed()
PACKAGES = {name for name in MODULES if any(m.startswith(f"{name}.") for m in MODULES)}


def imports(tree: ast.Module) -> Iterator[str]:
    """What a module imports, wherever in it, as ``package.module`` or ``package.module.name``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(tree: ast.Module) -> set[str]:
    """The modules of ours among them."""
    found = set()
    for name in imports(tree):
        top, _, below = name.partition(".")
        if top == "chatnest":
            while below and below not in MODULES:
                below = below.rpartition(".")[0]
            found.add(below or "chatnest")
    return found


def foreign_imports(tree: ast.Module) -> set[str]:
    return {name for name in imports(tree) if name.partition(".")[0] != "chatnest"}


def fits(name: str, pattern: str) -> bool:
    """``a.*`` is everything in a package and itself, ``a.b_*`` whatever begins so."""
    if pattern.endswith(".*"):
        return name == pattern[:-2] or name.startswith(pattern[:-1])
    return name == pattern or (pattern.endswith("_*") and name.startswith(pattern[:-1]))


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def layer(name: str) -> int:
    unit = name.partition(".")[0]
    places = [n for n, units in enumerate(LAYERS) if unit in units]
    assert places, f"{name} has no place in the house: add it to LAYERS"
    return places[0]


def may_import(name: str, other: str) -> bool:
    if name.partition(".")[0] != other.partition(".")[0]:
        return layer(other) < layer(name)
    package = name.partition(".")[0]
    if name == package:  # its __init__
        return True
    if other == f"{package}.base":
        return True
    return any(
        (fits(name, who) or (who in PACKAGES and is_in(name, who)))
        and any(fits(other, what) or (what in PACKAGES and is_in(other, what)) for what in whom)
        for who, whom in WITHIN.items()
    )


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name):
    wrong = [
        f"{name} -> {o}" for o in sorted(own_imports(MODULES[name])) if not may_import(name, o)
    ]

    assert wrong == []


def test_every_layer_exists_and_every_module_has_one():
    units = [unit for units in LAYERS for unit in units]

    assert len(units) == len(set(units))
    assert {name.partition(".")[0] for name in MODULES} == set(units)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("errors", "profiles"),
        ("request", "asgi"),
        ("ledger.memory", "ledger.sqlite"),
        ("ledger.model", "ledger.memory"),
        ("ledger.base", "policies.base"),
        ("wire.native", "providers.base"),
        ("policies.rate", "policies.budget"),
        ("providers.demo", "providers.openai"),
        ("providers.decode", "providers.transport"),
        ("accounting", "status"),
        ("streaming", "app"),
        ("app", "middleware"),
        ("app", "chatnest"),
        ("testing.sse", "cli"),
        ("cli.config", "cli.build"),
        ("cli.build", "testing"),
    ],
)
def test_these_would_be_the_wrong_way(name, other):
    assert not may_import(name, other)


@pytest.mark.parametrize("package", ONE_PLACE)
def test_what_is_outside_is_known_in_one_place(package):
    who = {
        name
        for name, tree in MODULES.items()
        if any(is_in(imported, package) for imported in foreign_imports(tree))
    }

    assert {n for n in who if not any(fits(n, place) for place in ONE_PLACE[package])} == set()


WITHOUT_IO = [name for name, tree in MODULES.items() if "No I/O" in (ast.get_docstring(tree) or "")]


def test_the_parts_that_protocols_and_rules_live_in_say_that_they_do_no_io():
    assert {
        *("errors", "profiles", "request", "events", "turn", "identity", "ratelimit"),
        *(
            "ledger.base",
            "ledger.model",
            "ledger.audit",
            "wire.base",
            "wire.native",
            "providers.decode",
        ),
        *(name for name in MODULES if name.startswith("policies.")),
    } <= set(WITHOUT_IO)


@pytest.mark.parametrize("name", WITHOUT_IO)
def test_a_module_that_says_no_io_has_nothing_to_do_it_with(name):
    tree = MODULES[name]
    wrong = {
        imported
        for imported in foreign_imports(tree)
        if any(is_in(imported, package) for package in IO) and imported != "anyio.Event"
    }
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert wrong == set()
    assert called & {"open", "print", "input"} == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_in_its_first_line_what_it_is_for(name):
    first = (ast.get_docstring(MODULES[name]) or "").partition("\n")[0]

    assert len(first) > 10
    assert len(first) <= 97  # one line of the file, with its quotes


@pytest.mark.parametrize("name", [n for n in MODULES if not n.endswith("__main__")])
def test_an_all_does_not_lie(name):
    module = import_module("chatnest" if name == "chatnest" else f"chatnest.{name}")
    names = getattr(module, "__all__", [])

    assert [n for n in names if not hasattr(module, n)] == []
    assert len(names) == len(set(names))


def in_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as ruff sorts them (RUF022)."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_public_names_are_sorted_and_all_there_are():
    public = {
        name
        for name, value in vars(chatnest).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }

    assert sorted(chatnest.__all__, key=in_order) == chatnest.__all__
    assert set(chatnest.__all__) == public


@pytest.mark.parametrize("statement", ["import chatnest", "import chatnest.cli"])
def test_an_import_brings_nothing_that_costs_time(statement):
    heavy = ("openai", "httptools", "httpx2", "tiktoken", "pydantic", "uvicorn", "sqlite3", "redis")
    program = f"import sys; {statement}; print([n for n in {heavy!r} if n in sys.modules])"

    # Coverage follows into subprocesses by a variable, and brings sqlite3 with it.
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)

    assert (result.stdout, result.stderr) == ("[]\n", "")
