"""Every example in the docs runs, and every reference page names everything there is."""

import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from chatnest import Bounds, ChatNestApp, HardCaps, OpenAIProvider, Profile, errors
from chatnest.config import sections as configuration
from chatnest.config.build import build_chat
from chatnest.config.sections import Config, load_config
from chatnest.testing import FakeUpstream
from tests.docs import house

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SERVED = ("docs/how-to/frameworks/", "docs/how-to/servers/", "docs/how-to/front-ends/")
"""Their programs run in processes of their own, in tests/frameworks and test_front_end_pages.py: a
framework may change what is the process's, and be there once."""
WALKED = ("docs/tutorial/real-application.md",)
"""Their programs need each other: test_real_application_page.py follows the page."""
MODELS = ("docs/how-to/models.md", "docs/how-to/prices.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[Any]:
    return [
        pytest.param(text, id=f"{page.relative_to(ROOT)}-{index}")
        for page in PAGES
        for index, (found, text) in enumerate(BLOCK.findall(page.read_text()))
        if found == language
        and not (language == "python" and str(page.relative_to(ROOT)).startswith(SERVED + WALKED))
    ]


@pytest.fixture
def _model_in_the_environment(monkeypatch):
    with FakeUpstream() as upstream:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
        yield


@pytest.mark.usefixtures("_model_in_the_environment")
@pytest.mark.parametrize("text", blocks("python"))
def test_python_examples_run(text, tmp_path, monkeypatch):
    if "pydantic_ai" in text:
        pytest.importorskip("pydantic_ai")
    if "opentelemetry.exporter" in text:
        pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(text, "example", "exec"), names)
    for name, value in names.items():
        if name.startswith("test_"):
            for backend in ("asyncio", "trio"):
                anyio.run(value, backend=backend)


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_examples_are_configurations(text, tmp_path):
    file = tmp_path / "chatnest.toml"
    file.write_text(text)
    assert isinstance(load_config(file, {}, {}), Config)


@pytest.mark.parametrize("text", [p for p in blocks("toml") if p.id.startswith(MODELS)])
def test_configurations_with_models_start(text, tmp_path, monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-not-a-key")
    file = tmp_path / "chatnest.toml"
    file.write_text(text)
    config = load_config(file, {"CHATNEST_LEDGER__URL": "memory:"}, {})
    assert build_chat(config).models.candidates


@pytest.mark.parametrize("text", blocks("json"))
def test_json_examples_are_json(text):
    json.loads(text)


def test_the_configuration_page_has_every_key_with_its_default(tmp_path):
    page = (ROOT / "docs/reference/configuration.md").read_text()
    text = next(text for language, text in BLOCK.findall(page) if language == "toml")
    file = tmp_path / "chatnest.toml"
    file.write_text(text)
    shown = msgspec.to_builtins(load_config(file, {}, {}))
    default = msgspec.to_builtins(Config(sources=shown["sources"], written=("balanced",)))
    default["provider"]["base_url"] = "https://api.openai.com/v1"
    default["chat"]["allowed_profiles"] = ["constrained", "balanced"]
    assert shown == default
    keys = set(re.findall(r"^(?:# )?(\w+) =", text, re.MULTILINE))
    sections: list[Any] = [
        *configuration._SECTIONS.values(),
        *configuration._NAMED.values(),
        *configuration._LISTED.values(),
    ]
    wanted = {key for section in sections for key in section.__struct_fields__}
    assert wanted | {"name"} == keys  # of a limit; other sections have theirs in brackets


def test_the_errors_page_has_every_code_and_status():
    page = (ROOT / "docs/reference/errors.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE))
    found = {
        error.code: str(error.status)
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.ChatNestError)
    }
    limits = {"rate_limited": "429", "budget_exhausted": "429", "too_many_streams": "429"}
    internal = {"configuration_error", "bad_request"}
    assert rows == limits | {c: s for c, s in found.items() if c not in internal}


LIMITS_PAGE = ROOT / "docs/reference/limits-and-timeouts.md"

# Modules that work for a request, or serve it: what they count to is a bound, or stands below.
BOUNDED = {
    "": "answer answering app attempts conversation incoming lifespan live lookups requests turn",
    "alerts": "deliveries webhook",
    "accounting": "accounts budget_warnings charge hidden local_books outbox refusals throttle",
    "asgi": "data_urls heads http resumption",
    "client": "answer errors frames responses",
    "config": "sections",
    "identity": "access base keys plan_lookup principals",
    "policies": "anonymous",
    "providers": "event_decoder sse",
    "providers.anthropic_messages": "figures parameters provider reader",
    "providers.http": ("answer_stream bodies connections http1 httpx2 inflate responses transport"),
    "providers.openai_chat": "chunk_reader decode provider reasons shapes think_tags",
    "providers.openai": "figures models request server",
    "providers.openai_responses": "calls decode output provider reader shapes",
    "providers.refusals": "error_documents faults waits",
    "runs": "base entries keeper key known log_reading memory redis run service writer",
    "runs.sqlite": "file log rows",
    "server": (
        "access_lines announcement connections door framing hosts metrics_page protocol serve "
        "shared_cells site workers"
    ),
    "streams": "generation intake open_stream open_streams response source",
    "telemetry": "exposition access_log fill",
    "tokens": "references tokenizer",
    "wire": "caps images openai_problem",
    "wire.ai_sdk": "places",
    "wire.native": "frames places problem request",
    "wire.openai_chat": "frames places request whole",
    "wire.openai_responses": "growing",
}
NO_BOUNDS = {
    "server.shared_cells._SPARE": "rows of memory",
    "server.shared_cells._BYTES": "of a number",
    "telemetry.access_log._DIGITS": "characters in the log",
    "telemetry.access_log._MILLISECONDS": "of a second",
    "client.errors._NEVER": "no time to wait for",
    "tokens.tokenizer.TOKENS_PER_MESSAGE": "OpenAI's formula",
    "tokens.tokenizer.REPLY_PRIMING_TOKENS": "OpenAI's formula",
    "tokens.tokenizer._LONGEST_TOKEN": "a fact of the encodings",
    "identity.access._MOST_WARNINGS": "lines in the log",
    "identity.access._SHOWN": "characters in the log",
    "identity.base._SHOWN": "characters in the log",
    "identity.plan_lookup._LOG_SECONDS": "lines in the log",
    "tokens.references._PER_NODE": "an estimate of bytes",
    "live._BYTES_PER_TOKEN": "an estimate",
    "turn._UNLIMITED": "no limit at all",
    "turn._FAR": "what is refused either way, counted or not",
    "answer._MOST_LATE": "how pieces are kept",
    "wire.openai_responses.growing.FOLD": "how pieces are kept",
    "runs.entries.OVERHEAD": "an estimate of bytes",
    "runs.entries._OBJECT": "an estimate of bytes",
    "runs.entries._TEXT_ONLY": "of what is written",
    "runs.run._FEW": "how pieces are read",
    "tokens.tokenizer.TOKENS_PER_TOOL_PART": "an upper estimate",
    "runs.entries._LAST": "an estimate of bytes",
    "runs.entries.VERSION": "of what is written",
    "runs.redis._SLACK": "of a key's time to live",
    "runs.sqlite.file._VERSION": "of the file",
    "runs.sqlite.file._FORGOTTEN_AT_ONCE": "how much one write tidies up",
    "providers.sse._CR": "a character",
    "providers.anthropic_messages.parameters._LEAST_BUDGET": "of the API",
    "providers.openai_responses.provider._LEAST_OUTPUT": "of the API",
    "providers.anthropic_messages.parameters._WARMEST": "of the API",
    "providers.refusals.faults._SERVER": "a status",
    "providers.refusals.faults._TOO_LARGE": "a status",
    "wire.openai_problem._CANCELLED": "a status",
    "wire.openai_problem._FINAL": "a status",
    "wire.openai_problem._FORBIDDEN": "a status",
    "wire.openai_problem._SERVER_ERROR": "a status",
    "providers.http.inflate._ANY_FRAME": "of zlib",
    "providers.http.inflate._NO_FRAME": "of zlib",
    "providers.refusals.waits._DEFAULT": "a default, not a bound",
    "providers.refusals.waits._EPOCH": "tells a point in time from seconds",
    "providers.http.http1._TLS_RECORD": "of TLS",
}


def constant(where: str) -> Any:
    module, _, name = where.rpartition(".")
    return getattr(import_module(f"chatnest.{module}"), name)


def rows_of(page: str, pattern: str) -> dict[str, float]:
    rows = re.findall(pattern, page, re.MULTILINE)
    assert len({name for name, _ in rows}) == len(rows)
    return {name: float(value.replace(",", "")) for name, value in rows}


def test_the_bounds_page_has_every_bound_and_its_default():
    shown = rows_of(LIMITS_PAGE.read_text(), r"^\| `(\w+)` \| ([\d.,]+) \|")
    resolved = Bounds().resolved(local=False)
    bounds = {k: float(v) for k, v in msgspec.structs.asdict(resolved).items()}
    arguments = inspect.signature(OpenAIProvider).parameters
    mine = {name: float(p.default) for name, p in arguments.items() if name.startswith("max_")}
    assert len(mine) == 2
    assert shown == bounds | mine


def test_the_bounds_page_has_every_constant_and_its_value():
    shown = rows_of(
        LIMITS_PAGE.read_text(), r"^\| [^`|]+(?:`[^`]+`[^`|]*)? \| `([\w.]+)` \| ([\d.,]+) \|"
    )
    assert shown == {where: float(constant(where)) for where in shown}
    found = {
        f"{module}.{name}"
        for module in (
            f"{folder}.{name}".removeprefix(".")
            for folder, names in BOUNDED.items()
            for name in names.split()
        )
        for name, value in vars(import_module(f"chatnest.{module}")).items()
        if re.fullmatch(r"_?[A-Z][A-Z_]*", name)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and _is_its_own(module, name)
    }
    assert found == shown.keys() | NO_BOUNDS.keys()


def _is_its_own(module: str, name: str) -> bool:
    """And not imported from another one."""
    source = (ROOT / "src/chatnest" / f"{module.replace('.', '/')}.py").read_text()
    return re.search(rf"^{name}(: Final(\[\w+\])?)? = ", source, re.MULTILINE) is not None


def test_the_python_page_has_every_argument_of_the_application():
    page = (ROOT / "docs/reference/python.md").read_text()
    table = page[: page.index("For a host that mounts it")]
    arguments = inspect.signature(ChatNestApp.__init__).parameters
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(arguments)[1:]


def test_hard_caps_are_the_profile_s_keys():
    assert set(HardCaps.__struct_fields__) <= set(Profile.__struct_fields__)


def anchors_of(page):
    """The anchors of a page's headings, as a forge makes them, and those that are written out."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            other = page.parent / target if target else page
            assert other.exists(), target
            assert not anchor or anchor in anchors_of(other), f"{target}#{anchor}"


DESIGN = (ROOT / "docs/discussion/design.md").read_text()


def test_the_design_page_has_every_module_and_folder():
    assert house.parts()[1] == house.table(), "run python -m tests.docs.house"


def test_the_design_page_names_the_seams_as_arguments_that_there_are():
    seams = DESIGN.split("## Where it can be extended")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)=`", seams))
    assert named <= set(inspect.signature(ChatNestApp).parameters)
    for file in re.findall(r"`(\w+/base\.py)`", seams):
        assert (ROOT / "src/chatnest" / file).is_file()


def test_the_accounting_page_has_the_rule_of_the_model():
    page = (ROOT / "docs/discussion/accounting.md").read_text()
    (rule,) = re.findall(r"^```\n(.+ <= .+)\n```", page, re.MULTILINE)
    assert rule in (import_module("chatnest.ledger.model").__doc__ or "")
