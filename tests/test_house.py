"""The house stands as it was drawn: imports run one way, and each thing has one place."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import chatnest
from chatnest import conversation, events, telemetry
from chatnest.runs import entries
from chatnest.testing.upstream import parts

ROOT = Path(chatnest.__file__).parent

# From the bottom to the top. A module imports from rows below its own, and no sibling in its row. A
# row of a folder's own stands below the folder's name; a folder without one has no imports inside.
LAYERS: dict[str, tuple[str, ...]] = {
    "": (
        "amounts",
        "errors",
        "_util",
        "bounds",
        "asgi events conversation",
        "requests tool_turns",
        "prices profiles",
        "tokens stores answer",
        "turn endings",
        "identity",
        "ledger",
        "wire",
        "providers",
        "models",
        "permissions policies lookups telemetry",
        "alerts",
        "accounting",
        "streams",
        "attempts hooks",
        "incoming",
        "answering",
        "runs",
        "live",
        "endpoints lifespan",
        "parts",
        "app",
        "middleware",
        "chatnest",
        "config",
        "server",
        "diagnostics",
        "cli testing client django",
        "__main__",
    ),
    "asgi": ("body_room data_urls heads", "http", "cors resumption upgrades"),
    "prices": ("money rates", "price", "tables"),
    "stores": ("breaker survey thread wal", "redis redis_reasons sqlite_reasons", "reasons"),
    "stores.redis": ("address", "link"),
    "identity": (
        "base users",
        "opening plan_lookup plans principals",
        "keys",
        "access",
    ),
    "ledger": (
        "days sliding thresholds window",
        "limit",
        "watch",
        "base calendar",
        "usage",
        "books",
        "audit crossings holds watching",
        "counted",
        "standing",
        "model verification usage_rows",
        "dictbooks",
        "memory",
        "redis sqlite",
    ),
    "ledger.redis": (
        "keys lua mark survey usage zones",
        "answers plan records server",
        "marks reader",
        "books",
        "crossings steps",
        "audit",
        "ledger",
    ),
    "ledger.sqlite": (
        "marker schema usage watches window",
        "books place survey",
        "adopt file",
        "audit writer",
        "ledger",
    ),
    "tokens": (
        "base families image_rules image_size references",
        "tool_bounds",
        "definitions tokenizer",
    ),
    "wire": (
        "base caps conversations error_headers places ratelimit shapes sse",
        "bodies expected images limits openai_problem proofs sampling tools usage",
        "contents",
        "ag_ui ai_sdk native openai_chat openai_responses",
        "formats named",
        "openapi",
    ),
    "wire.ag_ui": (
        "body facts names",
        "opened places problem",
        "frames parts tools",
        "messages",
        "request",
    ),
    "wire.ai_sdk": (
        "body calls problem",
        "frames places",
        "messages submission tools",
        "request",
    ),
    "wire.openai_chat": (
        "body fields names",
        "frames places whole",
        "messages",
        "request",
    ),
    "wire.openai_responses": (
        "body growing names response_object",
        "output_items places receipt",
        "input_items output tools",
        "frames request",
    ),
    "wire.native": ("body frames problem", "places", "messages", "request"),
    "endpoints": ("base", "chat limits models run usage"),
    "providers": (
        "base demo_calls dialect pairs served sse",
        "demo event_decoder http refusals",
        "anthropic_messages openai",
        "openai_chat openai_responses",
    ),
    "providers.http": (
        "inflate network transport",
        "bodies httpx2 responses",
        "answer_stream event_response http1",
        "connections pool",
        "asking client",
    ),
    "providers.anthropic_messages": (
        "figures models request shapes",
        "reader",
        "decode messages",
        "parameters",
        "provider",
    ),
    "providers.refusals": ("waits", "error_documents", "faults"),
    "providers.openai": ("figures loose_json models request", "sdk", "server"),
    "providers.openai_chat": (
        "fields reasons shapes signatures think_tags",
        "odd_chunks sources tool_calls",
        "parameters thinking",
        "chunks messages unseen",
        "chunk_reader",
        "decode",
        "provider",
    ),
    "providers.openai_responses": (
        "input_items parameters shapes tools",
        "calls",
        "output",
        "reader",
        "decode",
        "provider",
    ),
    "policies": ("base zone", "anonymous budget concurrency limits rate retry trim"),
    "telemetry": (
        "base fill series",
        "access_log call_log metrics semconv",
        "exposition instruments observers",
        "opentelemetry",
    ),
    "alerts": ("warning", "deliveries webhook"),
    "accounting": (
        "bills budget_warnings hidden local_books outbox refusal_counts refusals throttle",
        "charge",
        "accounts",
    ),
    "streams": (
        "intake output",
        "response source",
        "generation open_stream whole",
        "open_streams",
    ),
    "runs": (
        "base entries key",
        "memory redis run sqlite",
        "place reader",
        "known",
        "log_reading writer",
        "keeper",
        "service",
    ),
    "runs.sqlite": ("place rows", "file", "log"),
    "config": (
        "flags moments",
        "sources",
        "keys",
        "sections",
        "prices",
        "demo mixtures thinking",
        "catalogue",
        "build",
    ),
    "cli": ("output price_library", "books focus metrics prices screen", "ledger top usage"),
    "client": (
        "errors images said",
        "frames responses",
        "answer",
        "tools",
        "client",
    ),
    "server": (
        "access_lines announcement connections door hosts http10 interpreter last_answer",
        "metrics_page shared_cells workers",
        "framing",
        "front",
        "flow site",
        "protocol",
        "serve",
    ),
    "diagnostics": ("observations", "checks responses", "probe report", "check doctor"),
    "diagnostics.checks": (
        "base",
        "endpoint machine models profiles provider redis service sqlite",
    ),
    "testing": (
        "clock fail_points format_contract leak_probe listener protocol relay scope sse upstream",
        "exchange",
        "answer_contract conversation fault_proxy",
        "provider_script",
        "provider_contract",
    ),
    "testing.upstream.dialects": (
        "base message_blocks response_items response_object",
        "chat message_errors responses",
        "messages",
        "paths",
    ),
    "testing.upstream": (
        "canary http1 parts delivery",
        "faulty",
        "answers",
        "dialects faults",
        "plan record",
        "connection",
        "server",
        "__main__",
    ),
}

# Who may know what the rest must not: a package outside, and the modules that import it.
ONE_PLACE: dict[str, tuple[str, ...]] = {
    "openai": ("providers.openai.sdk",),
    "httpx2": (
        *("providers.openai.sdk", "providers.http.connections", "providers.http.httpx2"),
        *("providers.http.network", "client.*", "diagnostics.responses", "diagnostics.probe"),
    ),
    "aiohappyeyeballs": ("providers.http.connections",),
    "httptools": ("providers.http.responses", "server.framing", "server.protocol"),
    "tiktoken": ("tokens.tokenizer",),
    "genai_prices": ("cli.price_library",),
    "prometheus_client": ("telemetry.exposition", "telemetry.metrics"),
    "sqlite3": ("stores.wal", "stores.sqlite_reasons", "ledger.sqlite.*", "runs.sqlite.*"),
    "redis": ("ledger.redis.*", "stores.*"),
    "opentelemetry": ("telemetry.instruments", "telemetry.opentelemetry"),
    "uvicorn": ("server.*",),
    "socket": (
        *(
            "diagnostics.*",
            "server.*",
            "providers.http.connections",
            "providers.http.httpx2",
            "testing.*",
        ),
        "stores.redis_reasons",
    ),
    "asyncio": (
        *(
            "providers.http.connections",
            "providers.http.http1",
            "stores.redis.link",
            "server.*",
            "diagnostics.*",
            "testing.*",
        ),
    ),
    "httpx": (),
    "requests": (),
    "pydantic": (),
    "trio": (),
    "sniffio": ("server.interpreter",),
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


# ChatNestApp.from_config imports it when it is called: config builds what app defines.
UPWARD = {("app", "config.build")}

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


def row(folder: str, name: str) -> int:
    if folder not in LAYERS:
        return 0
    rows = [n for n, names in enumerate(LAYERS[folder]) if name in names.split()]
    assert rows, f"{name} has no place in {folder or 'the house'}: add it to LAYERS"
    return rows[0]


def may_import(name: str, other: str) -> bool:
    """By the rows of the folder in which the ways to both part. An ``__init__`` may import all that
    is in its folder, and has no place in it.
    """
    folder = ""
    for mine, theirs in zip(name.split("."), other.split("."), strict=False):
        if mine != theirs:
            return row(folder, theirs) < row(folder, mine)
        folder = f"{folder}.{mine}" if folder else mine
    return len(name) < len(other)


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name):
    wrong = [
        f"{name} -> {other}"
        for other in sorted(own_imports(MODULES[name]))
        if not may_import(name, other) and (name, other) not in UPWARD
    ]

    assert wrong == []


def test_every_module_and_folder_has_one_row():
    found: dict[str, set[str]] = {}
    for name in MODULES:
        folder, _, last = name.rpartition(".")
        found.setdefault(folder, set()).add(last)
    rows = {folder: " ".join(rows).split() for folder, rows in LAYERS.items()}

    assert {folder: sorted(names) for folder, names in rows.items()} == {
        folder: sorted(found[folder]) for folder in LAYERS
    }
    assert all(len(names) == len(set(names)) for names in rows.values())


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("errors", "profiles"),
        ("conversation", "asgi.http"),
        ("ledger.memory", "ledger.sqlite.ledger"),
        ("ledger.model", "ledger.memory"),
        ("ledger.base", "policies.base"),
        ("wire.native.request", "providers.base"),
        ("policies.rate", "policies.budget"),
        ("providers.demo", "providers.openai_chat.provider"),
        ("providers.http.http1", "providers.openai_chat.decode"),
        ("accounting.accounts", "answering"),
        ("streams.response", "app"),
        ("app", "middleware"),
        ("app", "chatnest"),
        ("testing.sse", "cli"),
        ("config.sections", "config.build"),
        ("server.site", "testing"),
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
        *(
            "errors",
            "profiles",
            "conversation",
            "events",
            "turn",
            "identity.principals",
            "wire.ratelimit",
        ),
        *(
            "ledger.base",
            "ledger.model",
            "ledger.audit",
            "wire.base",
            "wire.native.frames",
            "wire.native.request",
            "tokens.base",
            "providers.openai_chat.chunk_reader",
            "providers.openai_chat.decode",
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


# What is told apart by ``match``: mypy then finds each place that a new member concerns.
UNIONS = (
    *(conversation.Part, events.ProviderEvent, events.ClientEvent, entries.Entry),
    *(telemetry.Observation, parts.Part),
)
MEMBERS = {member.__name__ for union in UNIONS for member in get_args(union) or (union,)}


def members_matched(pattern: ast.pattern) -> set[str]:
    """The members of closed unions among the alternatives of a ``case``."""
    alternatives = pattern.patterns if isinstance(pattern, ast.MatchOr) else [pattern]
    names = {ast.unparse(p.cls) for p in alternatives if isinstance(p, ast.MatchClass)}
    return {name.lstrip("_") for name in names} & MEMBERS


def members_tested(test: ast.expr) -> set[str]:
    """The members that a condition looks for, by ``isinstance`` or by ``type(...) is``."""
    names = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    return names & MEMBERS if {"isinstance", "type"} & names else set()


def is_closed(last: ast.match_case) -> bool:
    is_wildcard = ast.unparse(last.pattern) == "_" and last.guard is None
    return is_wildcard and ast.unparse(last.body[0]).startswith("assert_never(")


def guesses(tree: ast.AST) -> Iterator[int]:
    """Lines where members of a closed union are told apart, and a new one would go unnoticed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Match):
            matched = set().union(*(members_matched(case.pattern) for case in node.cases))
            if matched and not is_closed(node.cases[-1]):
                yield node.lineno
        elif isinstance(node, ast.If) and members_tested(node.test):
            below = node.orelse[0] if node.orelse else None
            if isinstance(below, ast.If) and members_tested(below.test):
                yield node.lineno


@pytest.mark.parametrize("name", MODULES)
def test_members_of_closed_unions_are_told_apart_exhaustively(name):
    assert list(guesses(MODULES[name])) == []


@pytest.mark.parametrize(
    "source",
    [
        "match event:\n case Delta(): a\n case Usage() | Finish(): b",
        "match event:\n case Delta(): a\n case _: b",
        "match event:\n case Delta(): a\n case _ if b: assert_never(event)",
        "match entry:\n case str(): a\n case _Done(): b\n case _: c",
        "if isinstance(event, Delta): a\nelif isinstance(event, Usage): b\nelse: c",
        "if type(event) is Delta: a\nelif type(event) is Done: b",
    ],
)
def test_these_would_miss_a_new_member(source):
    assert list(guesses(ast.parse(source))) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "match event:\n case Delta(): a\n case _: assert_never(event)",
        "match number:\n case int(): a\n case _: b",
        "if type(event) is Delta: a\nelse: b",
    ],
)
def test_these_would_not(source):
    assert list(guesses(ast.parse(source))) == []


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


@pytest.mark.process
@pytest.mark.parametrize("statement", ["import chatnest", "import chatnest.cli"])
def test_an_import_brings_nothing_that_costs_time(statement):
    heavy = (
        *(
            "genai_prices",
            "openai",
            "prometheus_client",
            "httptools",
            "httpx2",
            "tiktoken",
            "pydantic",
            "uvicorn",
        ),
        *("sqlite3", "redis"),
    )
    program = f"import sys; {statement}; print([n for n in {heavy!r} if n in sys.modules])"

    # Coverage follows into subprocesses by a variable, and brings sqlite3 with it.
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)

    assert (result.stdout, result.stderr) == ("[]\n", "")
