"""``chatnest doctor``: look at everything before it matters, and say what to change."""

import os
import platform
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import anyio
import msgspec

from chatnest.cli.build import build_chat, open_ledger
from chatnest.cli.checks import CHECKS, Check, Findings, Level
from chatnest.cli.checks.machine import INSTALLED
from chatnest.cli.config import Config, load_config
from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Ledger
from chatnest.ledger.survey import RedisSurvey, SQLiteSurvey, Surveyed
from chatnest.providers.openai import DEFAULT_BASE_URL

__all__ = ["run"]

_LEVELS: Final[tuple[Level, ...]] = ("ok", "warn", "fail", "skip")
_BAD: Final = 1
"""Exit code; what cannot be looked at is 2."""


def run(options: Namespace) -> None:
    """Check, print and exit. Raises ConfigurationError for what ``chatnest serve`` refuses."""
    findings = _look(_config(options))
    checks = [check for make in CHECKS if (check := make(findings)) is not None]
    try:
        (_write_json if options.json else _write)(checks)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    bad = {"fail", "warn"} if options.strict else {"fail"}
    sys.exit(_BAD if any(check.level in bad for check in checks) else 0)


def _config(options: Namespace) -> Config:
    flags: dict[str, dict[str, Any]] = {
        "ledger": {} if options.ledger is None else {"url": options.ledger},
        "server": {} if options.workers is None else {"workers": options.workers},
    }
    config = load_config(options.config, os.environ, flags)
    if config.server.workers < 1:
        raise ConfigurationError("server.workers must be at least 1")
    return config


def _look(config: Config) -> Findings:
    """Find out what there is, without a request to the model."""
    has_key = bool(os.environ.get("OPENAI_API_KEY"))
    base_url = config.provider.base_url or os.environ.get("OPENAI_BASE_URL") or ""
    if base_url == DEFAULT_BASE_URL:
        base_url = ""
    # A key that is missing is a check of its own. Everything else must be fit to be served.
    build_chat(msgspec.structs.replace(config, demo=not (has_key or base_url)))
    return Findings(
        config=config,
        has_key=has_key,
        base_url=base_url,
        survey=anyio.run(_survey, open_ledger(config.ledger)),
        open_files=_open_files(),
        versions=_versions(),
    )


async def _survey(ledger: Ledger) -> RedisSurvey | SQLiteSurvey | None:
    try:
        return await ledger.survey() if isinstance(ledger, Surveyed) else None
    finally:
        await ledger.aclose()


def _open_files() -> int | None:
    try:
        import resource  # noqa: PLC0415  # not on every system
    except ImportError:  # pragma: no cover  # on Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in INSTALLED:
        with suppress(PackageNotFoundError):
            versions.setdefault(name, version(name))
    return versions


def _write_json(checks: Sequence[Check]) -> None:
    for check in checks:
        sys.stdout.write(msgspec.json.encode(check).decode() + "\n")


def _write(checks: Sequence[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        advice = f" -> {check.advice}" if check.advice else ""
        line = f"{check.level:<4}  {check.name:<{width}}  {check.found}{advice}"
        sys.stdout.write(_shown(line) + "\n")
    counts = Counter(check.level for check in checks)
    summary = ", ".join(f"{counts[level]} {level}" for level in _LEVELS)
    sys.stdout.write(f"{len(checks)} checks: {summary}\n")


def _shown(text: str) -> str:
    """For a terminal: what a server or a file says must not move its cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
