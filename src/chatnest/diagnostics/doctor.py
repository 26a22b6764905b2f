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

from chatnest.config.build import build_chat, naming_keys, open_ledger
from chatnest.config.catalogue import address_of, facts_of, key_variable, place_of, used_providers
from chatnest.config.flags import flags_of
from chatnest.config.sections import Config, load_config
from chatnest.diagnostics.checks import Findings, checks_of
from chatnest.diagnostics.checks.machine import INSTALLED
from chatnest.diagnostics.report import report
from chatnest.ledger.base import Ledger
from chatnest.models import Catalogue
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
    checks = checks_of(*_inspect(config))
    report(checks, as_json=options.json)
    bad = {"fail", "warn"} if options.strict else {"fail"}
    sys.exit(_BAD if any(check.level in bad for check in checks) else 0)


def _inspect(config: Config) -> tuple[Findings, list[Findings]]:
    """Collect the findings, and those about each provider, without a request to a model."""
    with naming_keys(config):
        used = used_providers(config)
    keys = {place: bool(os.environ.get(key_variable(each))) for place, each in used.items()}
    addresses = {place: address_of(each) for place, each in used.items()}
    addresses = {
        place: "" if address == DEFAULT_BASE_URL else address
        for place, address in addresses.items()
    }
    # A separate check reports a missing key. Demo replaces the providers here, so that everything
    # else is built as it would be served.
    can_serve = all(keys[place] or addresses[place] for place in used)
    served = msgspec.structs.replace(config, demo=config.demo or not can_serve)
    chat = build_chat(served)
    make_site(served, chat)
    models = facts_of(config, chat.models) if config.models else ()
    routes = _routes(config, chat.models)
    first, *_ = used
    findings = Findings(
        config=config,
        has_key=keys[first],
        base_url=addresses[first],
        models=tuple(models),
        survey=anyio.run(_survey, open_ledger(config.ledger)),
        open_files=_open_files(),
        versions=_versions(),
    )
    about = []
    for place, section in used.items():
        route = routes.get(place, Route())
        about.append(
            msgspec.structs.replace(
                findings,
                place=place,
                api=section.api,
                key=key_variable(section),
                has_key=keys[place],
                base_url=addresses[place],
                proxy=f"{route.proxy_shown}, from {route.proxy_from}" if route.proxy else "",
                trust=route.trust,
            )
        )
    return findings, about


def _routes(config: Config, models: Catalogue) -> dict[str, Route]:
    """The way to each provider, by the place of its settings."""
    routes = {}
    for each in models.candidates:
        route = getattr(each.provider, "route", None)
        if isinstance(route, Route):
            routes[place_of(config, each.name)] = route
    return routes


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
