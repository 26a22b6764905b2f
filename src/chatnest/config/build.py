"""Builds a ChatNestApp and its parts from a Config."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
from starlette.types import Scope

from chatnest.accounting.local_books import WhenAway
from chatnest.alerts.webhook import Webhook
from chatnest.app import ChatNestApp
from chatnest.config.catalogue import models_of, provider_of
from chatnest.config.keys import KeySection
from chatnest.config.prices import prices_of
from chatnest.config.sections import AlertsSection, Config, LedgerSection, load_config
from chatnest.config.sources import naming_sources, split_argument
from chatnest.errors import ConfigurationError
from chatnest.identity.base import Identify, Identity
from chatnest.identity.keys import BearerKey, BearerKeys
from chatnest.identity.opening import open_by_default
from chatnest.identity.principals import TrustedHeader, UserOrAddress
from chatnest.ledger.base import Ledger
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.policies import standard_policies
from chatnest.telemetry import AccessLog, Observer
from chatnest.wire import named_formats

__all__ = [
    "LOG_KEY",
    "access_log_of",
    "bearer_keys",
    "build_chat",
    "load_chat",
    "naming_keys",
    "open_ledger",
    "open_profiles",
]

LOG_KEY: Final = "CHATNEST_LOG_KEY"
"""Environment variable of the key of the hashes in the access log."""
_LEAST_KEY: Final = 16
"""Minimum characters of that key."""

WEBHOOK_SECRET: Final = "CHATNEST_WEBHOOK_SECRET"  # noqa: S105  # its name
"""The variable with the secret of ``alerts.webhook``, or several with spaces between them."""

_KEYS: Final[Mapping[str, str]] = {
    "allowed_profiles": "chat.allowed_profiles",
    "allow_client_system_prompt": "chat.allow_client_system_prompt",
    "anonymous_daily_token_limit": "budget.anonymous_daily_token_limit",
    "client_system_prompt": "chat.client_system_prompt",
    "currency": "ledger.currency",
    "default_plan": "chat.default_plan",
    "default_profile": "chat.default_profile",
    "events": "chat.events",
    "format": "chat.format",
    "formats": "chat.formats",
    "ipv6_prefix": "identity.ipv6_prefix",
    "keys": "identity.keys",
    "name": "identity.header",
    "path": "chat.path",
    "ping_interval": "chat.ping_interval",
    "prefix": "ledger.prefix",
    "secret": WEBHOOK_SECRET,
    "timezone": "budget.timezone",
    "trusted_proxies": "identity.trusted_proxies",
    "url": "ledger.url",
    "webhook": "alerts.webhook",
}
"""Python argument → configuration key."""


@contextmanager
def naming_keys(config: Config) -> Iterator[None]:
    """Within this block, rewrite errors about a Python argument to name the configuration key and
    its source.
    """
    with naming_sources(config.sources):
        try:
            yield
        except ConfigurationError as exc:
            argument, rest = split_argument(exc.detail)
            key = _KEYS.get(argument, argument)
            raise ConfigurationError(key + rest) from exc


def load_chat(path: str | os.PathLike[str]) -> ChatNestApp:
    """Load a configuration file and the environment, and build their chat."""
    return build_chat(load_config(Path(path), os.environ, {}))


def build_chat(config: Config, observers: Sequence[Observer] = ()) -> ChatNestApp:
    """Build the chat of a configuration. Raises ConfigurationError."""
    with naming_keys(config):
        return _build(config, observers)


def access_log_of(config: Config) -> list[Observer]:
    """The access log of ``chatnest serve``, if it is on. Its hashes have the key that is in
    CHATNEST_LOG_KEY in the environment. Raises ConfigurationError for a short one.
    """
    form = config.server.access_log
    if form == "off":
        return []
    key = os.environ.get(LOG_KEY, "")
    if len(key) < _LEAST_KEY and key:
        raise ConfigurationError(
            f"{LOG_KEY}: expected at least {_LEAST_KEY} characters, got {len(key)}. Take the "
            "output of `openssl rand -hex 32`."
        )
    return [
        AccessLog(
            form,
            principals=config.server.access_log_principals,
            key=key.encode() or None,
            currency=config.ledger.currency,
        )
    ]


def _build(config: Config, observers: Sequence[Observer]) -> ChatNestApp:
    chat = config.chat
    models = models_of(config)
    return ChatNestApp(
        provider=None if models is not None else provider_of(config),
        models=models,
        prices=None if models is not None else prices_of("provider", config.provider),
        profiles=config.profiles,
        hard_caps=config.hard_caps,
        default_profile=chat.default_profile,
        allowed_profiles=open_profiles(config),
        plans=config.plans,
        default_plan=chat.default_plan,
        currency=config.ledger.currency,
        policies=standard_policies(
            timezone=config.budget.timezone,
            anonymous_daily_token_limit=config.budget.anonymous_daily_token_limit,
            limits=config.limits,
        ),
        ledger=open_ledger(config.ledger),
        runs=config.runs,
        identify=_identify(config),
        system_prompt=chat.system_prompt,
        client_system_prompt=chat.client_system_prompt,
        allow_client_system_prompt=chat.allow_client_system_prompt,
        usage_event=chat.usage_event,
        events=chat.events,
        charge_unanswered=chat.charge_unanswered,
        when_away=WhenAway(
            budgets=config.ledger.budgets_when_away, rates=config.ledger.rates_when_away
        ),
        ping_interval=chat.ping_interval,
        bounds=config.bounds,
        formats=named_formats(chat.formats, chat.format),
        drain_at_signal=config.server.drain_seconds,
        on_warning=_webhook(config.alerts),
        observers=[*observers, *_observers(config)],
    )


def _webhook(section: AlertsSection) -> Webhook | None:
    if section.webhook is None:
        return None
    secrets = os.environ.get(WEBHOOK_SECRET, "").split()
    if not secrets:
        raise ConfigurationError(
            f"alerts.webhook: expected its secret in {WEBHOOK_SECRET}, got none. Set it in the "
            "environment, as whsec_ and the output of `openssl rand -base64 32`."
        )
    return Webhook(section.webhook, secret=secrets)


def _observers(config: Config) -> list[Observer]:
    telemetry = config.telemetry
    if not telemetry.otel:
        return []
    if find_spec("opentelemetry") is None:
        raise ConfigurationError(
            "telemetry.otel: expected the package opentelemetry-api, got none. Install the extra "
            "`otel`: pip install '.[otel]' in a copy of the repository."
        )
    from chatnest.telemetry.opentelemetry import OpenTelemetry  # noqa: PLC0415  # takes 60 ms

    return [
        OpenTelemetry(
            semconv=telemetry.semconv,
            principal=telemetry.principal,
            trusted_proxies=config.identity.trusted_proxies,
        )
    ]


def open_profiles(config: Config) -> list[str]:
    """Return the names of the profiles that clients without a plan may use. A profile that a plan
    opens is not open to them because the configuration defines it.

    Raises ConfigurationError for a default profile that does not exist.
    """
    if config.chat.allowed_profiles is not None:
        return config.chat.allowed_profiles
    profiles = {profile.name: profile for profile in config.profiles}
    planned = {name for plan in config.plans.values() for name in plan.profiles or ()}
    written = profiles if config.demo else [each for each in config.written if each not in planned]
    return open_by_default(profiles, config.chat.default_profile, written)


def open_ledger(section: LedgerSection) -> Ledger:
    """Open the ledger at a URL: ``memory:``, ``sqlite:PATH`` or the URL of a Redis server.

    Raises ConfigurationError without the URL, because the URL may contain a password.
    """
    scheme, _, rest = section.url.partition(":")
    if scheme == "memory" and not rest:
        return MemoryLedger()
    if scheme == "sqlite" and rest:
        return SQLiteLedger(
            rest, synchronous=section.synchronous, busy_timeout=section.busy_timeout
        )
    if scheme.partition("+")[0] in {"redis", "rediss", "unix"}:
        return RedisLedger(
            section.url,
            prefix=section.prefix,
            timeout=section.timeout,
            max_connections=section.max_connections,
        )
    raise ConfigurationError(
        "ledger.url: expected memory:, sqlite:PATH or the URL of a Redis or Valkey server, got "
        "another one. Write for example sqlite:chatnest.db or redis://localhost:6379/0."
    )


def _identify(config: Config) -> Identify:
    identify = _identity(config)
    return _Visitors(identify) if config.demo else identify


class _Visitors:
    """Counts canned answers under separate accounts, so that they use up no real tokens."""

    def __init__(self, identify: UserOrAddress | TrustedHeader | BearerKeys) -> None:
        self._identify = identify
        self.identities: Mapping[str, Identity] = getattr(identify, "identities", {})

    def __call__(self, scope: Scope) -> str | Identity | None:
        found = self._identify(scope)
        if isinstance(found, Identity):
            return msgspec.structs.replace(found, principal=f"demo/{found.principal}")
        return None if found is None else f"demo/{found}"


def _identity(config: Config) -> UserOrAddress | TrustedHeader | BearerKeys:
    identity = config.identity
    if identity.keys and identity.header:
        raise ConfigurationError(
            "identity: expected one of header and keys, got both. Remove one of them."
        )
    addresses = UserOrAddress(identity.trusted_proxies, ipv6_prefix=identity.ipv6_prefix)
    if (identity.keys or identity.header) and "identity.ipv6_prefix" in config.sources:
        raise ConfigurationError(
            "identity.ipv6_prefix: expected users identified by their address, got identity.keys "
            "or identity.header. Leave it out."
        )
    if identity.keys:
        return bearer_keys(identity.keys)
    if not identity.header:
        return addresses
    if identity.trusted_proxies:
        return TrustedHeader(identity.header, identity.trusted_proxies)
    return TrustedHeader(identity.header)


def bearer_keys(keys: Mapping[str, str | list[str] | KeySection]) -> BearerKeys:
    """The bearer keys of ``[identity.keys]``. Raises ConfigurationError."""
    return BearerKeys(
        {
            name: BearerKey(**msgspec.structs.asdict(key)) if isinstance(key, KeySection) else key
            for name, key in keys.items()
        }
    )
