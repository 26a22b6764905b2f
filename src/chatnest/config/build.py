"""Builds a ChatNestApp and its parts from a Config."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from starlette.types import Scope

from chatnest.accounting.local_books import WhenAway
from chatnest.app import ChatNestApp
from chatnest.config.sections import Config, LedgerSection, ProviderSection, load_config
from chatnest.config.sources import naming_sources
from chatnest.errors import ConfigurationError
from chatnest.identity.access import open_by_default
from chatnest.identity.base import Identify
from chatnest.identity.principals import BearerKeys, TrustedHeader, UserOrAddress
from chatnest.ledger.base import Ledger
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.redis import RedisLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.policies import standard_policies
from chatnest.providers import (
    DemoProvider,
    ModelParameters,
    OpenAIProvider,
    Provider,
    ServerSettings,
)

__all__ = ["build_chat", "load_chat", "naming_keys", "open_ledger", "open_profiles"]

_KEYS: Final[Mapping[str, str]] = {
    "allowed_profiles": "chat.allowed_profiles",
    "anonymous_daily_token_limit": "budget.anonymous_daily_token_limit",
    "api_key": "OPENAI_API_KEY",
    "base_url": "provider.base_url",
    "ca_file": "provider.ca_file",
    "default_profile": "chat.default_profile",
    "encoding": "provider.encoding",
    "headers": "provider.headers",
    "ipv6_prefix": "identity.ipv6_prefix",
    "keys": "identity.keys",
    "model": "provider.model",
    "name": "identity.header",
    "organization": "provider.organization",
    "path": "chat.path",
    "ping_interval": "chat.ping_interval",
    "prefix": "ledger.prefix",
    "project": "provider.project",
    "proxy": "provider.proxy",
    "timezone": "budget.timezone",
    "trusted_proxies": "identity.trusted_proxies",
    "url": "ledger.url",
}
"""Python argument → configuration key."""

_VARIABLES: Final[Mapping[str, str]] = {
    "provider.base_url": "OPENAI_BASE_URL",
    "provider.organization": "OPENAI_ORG_ID",
    "provider.project": "OPENAI_PROJECT_ID",
}
"""Configuration key → environment variable that the provider reads if the key is not set."""

_ARGUMENT: Final = re.compile(r"(?s)\A(\w*)(.*)\Z")


@contextmanager
def naming_keys(config: Config) -> Iterator[None]:
    """Within this block, rewrite errors about a Python argument to name the configuration key and
    its source.
    """
    with naming_sources(config.sources):
        try:
            yield
        except ConfigurationError as exc:
            argument, rest = _ARGUMENT.findall(exc.detail)[0]
            key = _KEYS.get(argument, argument)
            key = key if key in config.sources else _VARIABLES.get(key, key)
            raise ConfigurationError(key + rest) from exc


def load_chat(path: str | os.PathLike[str]) -> ChatNestApp:
    """Load a configuration file and the environment, and build their chat."""
    return build_chat(load_config(Path(path), os.environ, {}))


def build_chat(config: Config) -> ChatNestApp:
    """Build the chat of a configuration. Raises ConfigurationError."""
    with naming_keys(config):
        return _build(config)


def _build(config: Config) -> ChatNestApp:
    chat = config.chat
    return ChatNestApp(
        provider=_provider(config),
        profiles=config.profiles,
        hard_caps=config.hard_caps,
        default_profile=chat.default_profile,
        allowed_profiles=open_profiles(config),
        policies=standard_policies(
            timezone=config.budget.timezone,
            anonymous_daily_token_limit=config.budget.anonymous_daily_token_limit,
        ),
        ledger=open_ledger(config.ledger),
        runs=config.runs,
        identify=_identify(config),
        system_prompt=chat.system_prompt,
        allow_client_system_prompt=chat.allow_client_system_prompt,
        usage_event=chat.usage_event,
        charge_unanswered=chat.charge_unanswered,
        when_away=WhenAway(
            budgets=config.ledger.budgets_when_away, rates=config.ledger.rates_when_away
        ),
        ping_interval=chat.ping_interval,
        bounds=config.bounds,
        drain_at_signal=config.server.drain_seconds,
    )


def open_profiles(config: Config) -> list[str]:
    """Return the names of the profiles that clients may use.

    Raises ConfigurationError for a default profile that does not exist.
    """
    if config.chat.allowed_profiles is not None:
        return config.chat.allowed_profiles
    profiles = {profile.name: profile for profile in config.profiles}
    written = profiles if config.demo else config.written
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


def _provider(config: Config) -> Provider:
    if config.demo:
        return DemoProvider()
    provider = config.provider
    return OpenAIProvider(
        model=provider.model,
        base_url=provider.base_url,
        organization=provider.organization,
        project=provider.project,
        encoding=provider.encoding,
        include_usage=provider.include_usage,
        parameters=ModelParameters(
            max_tokens_field=provider.max_tokens_field,
            send_temperature=provider.send_temperature,
            reasoning_effort=provider.reasoning_effort,
            think_tags=provider.think_tags,
        ),
        server=ServerSettings(
            headers=_headers(provider),
            query=provider.query,
            proxy=provider.proxy,
            ca_file=provider.ca_file,
            trust_env=provider.trust_env,
        ),
    )


def _headers(provider: ProviderSection) -> dict[str, str]:
    """Return additional header fields, with the values of ``headers_env`` from the environment.

    Underscores in names become hyphens, because names of variables cannot contain hyphens.
    """
    headers = dict(provider.headers)
    for name, variable in provider.headers_env.items():
        if variable not in os.environ:
            raise ConfigurationError(
                f"provider.headers_env[{name!r}]: expected an environment variable that is set, "
                f"got {variable!r}. Set it, or remove the field."
            )
        headers[name] = os.environ[variable].strip()
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _identify(config: Config) -> Identify:
    identify = _identity(config)
    if not config.demo:
        return identify

    def visitor(scope: Scope) -> str | None:
        """Count canned answers under separate accounts, so that they use up no real tokens."""
        principal = identify(scope)
        return None if principal is None else f"demo/{principal}"

    return visitor


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
        return BearerKeys(identity.keys)
    if not identity.header:
        return addresses
    if identity.trusted_proxies:
        return TrustedHeader(identity.header, identity.trusted_proxies)
    return TrustedHeader(identity.header)
