"""``chatnest doctor``: checks the configuration, the ledger's store and this machine."""

import os
import platform
import sys
from argparse import Namespace
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import anyio
import msgspec

from chatnest.config.build import build_chat, open_ledger
from chatnest.config.flags import flags_of
from chatnest.config.sections import Config, load_config
from chatnest.diagnostics.checks import CHECKS, Findings
from chatnest.diagnostics.checks.machine import INSTALLED
from chatnest.diagnostics.report import report
from chatnest.ledger.base import Ledger
from chatnest.providers import OpenAIProvider
from chatnest.providers.http.network import Route
from chatnest.providers.openai.server import DEFAULT_BASE_URL
from chatnest.server.site import make_site
from chatnest.stores.survey import RedisSurvey, SQLiteSurvey, Surveyed

__all__ = ["run"]

_BAD: Final = 1
"""Exit code if a check fails. A configuration that cannot be used gives 2."""


def run(options: Namespace) -> None:
    """Check, print and exit. Raises ConfigurationError if ``chatnest serve`` would."""
    config = load_config(options.config, os.environ, flags_of(options), demo=options.demo)
    findings = _inspect(config)
    checks = [check for make in CHECKS if (check := make(findings)) is not None]
    report(checks, as_json=options.json)
    bad = {"fail", "warn"} if options.strict else {"fail"}
    sys.exit(_BAD if any(check.level in bad for check in checks) else 0)


def _inspect(config: Config) -> Findings:
    """Collect the findings, without a request to the model."""
    has_key = bool(os.environ.get("OPENAI_API_KEY"))
    base_url = config.provider.base_url or os.environ.get("OPENAI_BASE_URL") or ""
    if base_url == DEFAULT_BASE_URL:
        base_url = ""
    # A separate check reports a missing key. Demo replaces the provider here, so that everything
    # else is built as it would be served.
    served = msgspec.structs.replace(config, demo=config.demo or not (has_key or base_url))
    chat = build_chat(served)
    make_site(served, chat)
    route = chat.provider.route if isinstance(chat.provider, OpenAIProvider) else Route()
    return Findings(
        config=config,
        has_key=has_key,
        base_url=base_url,
        proxy=f"{route.proxy_shown}, from {route.proxy_from}" if route.proxy else "",
        trust=route.trust,
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
