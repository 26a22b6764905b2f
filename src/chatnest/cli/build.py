"""From a Config to the chat that it describes."""

from starlette.types import Scope

from chatnest.app import ChatNestApp
from chatnest.cli.config import Config
from chatnest.errors import ConfigurationError
from chatnest.identity import Identify, TrustedHeader, UserOrAddress
from chatnest.ledger.base import Ledger
from chatnest.ledger.memory import MemoryLedger
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.policies import standard_policies
from chatnest.providers import DemoProvider, OpenAIProvider, Provider

__all__ = ["build_chat", "open_ledger"]


def build_chat(config: Config) -> ChatNestApp:
    """The chat of a configuration. Raises ConfigurationError."""
    chat = config.chat
    return ChatNestApp(
        provider=_provider(config),
        profiles=config.profiles,
        hard_caps=config.hard_caps,
        default_profile=chat.default_profile,
        allowed_profiles=chat.allowed_profiles,
        policies=standard_policies(timezone=config.budget.timezone),
        ledger=open_ledger(config.ledger.url),
        identify=_identify(config),
        system_prompt=chat.system_prompt,
        allow_client_system_prompt=chat.allow_client_system_prompt,
        usage_event=chat.usage_event,
        charge_unanswered=chat.charge_unanswered,
        ping_interval=chat.ping_interval,
        bounds=config.bounds,
    )


def open_ledger(url: str) -> Ledger:
    """The ledger at ``memory:`` or ``sqlite:PATH``. Raises ConfigurationError."""
    scheme, _, rest = url.partition(":")
    if scheme == "memory" and not rest:
        return MemoryLedger()
    if scheme == "sqlite" and rest:
        return SQLiteLedger(rest)
    raise ConfigurationError(
        f"ledger.url {url!r} is not one of memory: and sqlite:PATH, such as sqlite:chatnest.db"
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
    )


def _identify(config: Config) -> Identify:
    identify = _identity(config)
    if not config.demo:
        return identify

    def visitor(scope: Scope) -> str | None:
        """Canned answers count apart: they must use up nobody's real tokens."""
        principal = identify(scope)
        return None if principal is None else f"demo/{principal}"

    return visitor


def _identity(config: Config) -> UserOrAddress | TrustedHeader:
    identity = config.identity
    if not identity.header:
        return UserOrAddress(identity.trusted_proxies)
    if identity.trusted_proxies:
        return TrustedHeader(identity.header, identity.trusted_proxies)
    return TrustedHeader(identity.header)
