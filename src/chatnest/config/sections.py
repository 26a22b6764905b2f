"""Config: the settings of ``chatnest serve``, from a TOML file, the environment and its flags.

``CHATNEST_SECTION__KEY`` in the environment overrides the file, and flags override both. ``PORT``
in the environment sets the port if none of them does. An unknown key raises an error with its path
and the nearest known key, because a typo must not silently leave a limit unchanged. Secrets have no
key here: they come from the environment.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec

from chatnest._util.arguments import check_integer
from chatnest.asgi.cors import check_origins
from chatnest.bounds import Bounds
from chatnest.config.keys import KeySection, keys_of, with_tables
from chatnest.config.sources import (
    Source,
    Tree,
    merge,
    naming_sources,
    read_environ,
    read_file,
    read_port,
    typed,
)
from chatnest.errors import ConfigurationError
from chatnest.identity.plans import Plan
from chatnest.incoming import ClientSystemPrompt
from chatnest.ledger.limit import CalendarWindow
from chatnest.policies.limits import LimitRule
from chatnest.profiles import DEFAULT_PROFILES, HARD_CAPS, HardCaps, Profile
from chatnest.runs.base import RunSettings
from chatnest.telemetry.access_log import Principals
from chatnest.telemetry.semconv import Generation
from chatnest.tokens.image_rules import Detail
from chatnest.wire import FORMAT_NAMES, FormatName

__all__ = ["Config", "load_config"]

_MAX_SECONDS: Final = 86_400
"""Maximum of a setting in seconds."""

_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f]*:[0-9a-f:]*:[0-9a-f:]*")


_CURRENCY: Final = re.compile("[A-Z]{3}")

DEFAULT_PROVIDER: Final = "default"
"""Name of the provider of the section ``[provider]``."""

Api = Literal["openai-chat", "openai-responses", "anthropic-messages"]
"""The dialect of a provider."""

LimitField = Literal["max_tokens", "max_completion_tokens"]
Summary = Literal["auto", "concise", "detailed"]


class NamedProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A section ``[providers.NAME]``."""

    api: Api = "openai-chat"
    base_url: str | None = None
    api_key_env: str | None = None
    include_usage: bool = True
    headers: dict[str, str] = {}
    headers_env: dict[str, str] = {}
    query: dict[str, str] = {}
    proxy: str | None = None
    ca_file: str | None = None
    trust_env: bool = True
    trace: bool = False
    organization: str | None = None
    project: str | None = None


class ProviderSection(NamedProvider, frozen=True, kw_only=True):
    """The section ``[provider]``: a provider and its only model."""

    model: str = "gpt-4o-mini"
    encoding: str | None = None
    price: str | dict[str, Any] | None = None
    prices: list[dict[str, Any]] | None = None
    max_tokens_field: LimitField | None = None
    send_temperature: bool | None = None
    reasons: bool | None = None
    reasoning_effort: str | None = None
    reasoning_summary: Summary | None = None
    think_tags: bool | None = None


class ModelSection(msgspec.Struct, frozen=True, kw_only=True):
    """A section ``[models.NAME]``. Without ``model``, the upstream name is NAME."""

    provider: str = DEFAULT_PROVIDER
    model: str | None = None
    aliases: list[str] = []
    context_window: int | None = None
    encoding: str | None = None
    max_image_tokens: int | None = None
    image_detail: Detail = "low"
    trace: bool | None = None
    price: str | dict[str, Any] | None = None
    prices: list[dict[str, Any]] | None = None
    max_tokens_field: LimitField | None = None
    send_temperature: bool | None = None
    reasons: bool | None = None
    reasoning_effort: str | None = None
    reasoning_summary: Summary | None = None
    think_tags: bool | None = None


class ChatSection(msgspec.Struct, frozen=True, kw_only=True):
    """The section ``[chat]``."""

    path: str = "/api/chat"
    format: FormatName = "native"
    formats: list[FormatName] = msgspec.field(default_factory=lambda: list(FORMAT_NAMES))
    system_prompt: str = ""
    client_system_prompt: ClientSystemPrompt | None = None
    allow_client_system_prompt: bool | None = None
    default_profile: str = "balanced"
    allowed_profiles: list[str] | None = None
    default_plan: str | None = None
    ping_interval: float = 15.0
    usage_event: bool = False
    events: list[str] = []
    charge_unanswered: bool | None = None


class IdentitySection(msgspec.Struct, frozen=True, kw_only=True):
    """The section ``[identity]``."""

    header: str = ""
    keys: dict[str, str | list[str] | KeySection] = {}
    trusted_proxies: list[str] = []
    ipv6_prefix: int = 64


class BudgetSection(msgspec.Struct, frozen=True, kw_only=True):
    """The section ``[budget]``."""

    timezone: str = "UTC"
    anonymous_daily_token_limit: int | Literal["unlimited"] | None = None


class LedgerSection(msgspec.Struct, frozen=True, kw_only=True):
    """The section ``[ledger]``."""

    url: str = "sqlite:chatnest.db"
    currency: str = "USD"
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    busy_timeout: float = 0.5
    prefix: str = "chatnest"
    timeout: float = 0.25
    max_connections: int = 10
    budgets_when_away: Literal["refuse", "count"] = "refuse"
    rates_when_away: Literal["refuse", "count"] = "count"

    def __post_init__(self) -> None:
        if not 0 <= self.busy_timeout <= _MAX_SECONDS:
            raise ConfigurationError(
                f"ledger.busy_timeout: expected seconds from 0 to {_MAX_SECONDS:,}, "
                f"got {self.busy_timeout:g}. Leave it out for 0.5."
            )
        if not 0 < self.timeout <= _MAX_SECONDS:
            raise ConfigurationError(
                f"ledger.timeout: expected seconds above 0 and at most {_MAX_SECONDS:,}, "
                f"got {self.timeout:g}. Leave it out for 0.25."
            )
        check_integer("ledger.max_connections", self.max_connections, 1)
        if not _CURRENCY.fullmatch(self.currency):
            raise ConfigurationError(
                "ledger.currency: expected a code of ISO 4217 such as USD, got "
                f"{self.currency!r}. Write three capital letters."
            )


class AlertsSection(msgspec.Struct, frozen=True, kw_only=True):
    """The section ``[alerts]``."""

    webhook: str | None = None


class TelemetrySection(msgspec.Struct, frozen=True, kw_only=True):
    """The section ``[telemetry]``."""

    otel: bool = False
    semconv: Generation | None = None
    principal: bool = False


class ServerSection(msgspec.Struct, frozen=True, kw_only=True):
    """The section ``[server]``."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    head_seconds: float = 10.0
    idle_seconds: int = 75
    announce_seconds: float = 0.0
    drain_seconds: float = 10.0
    access_log: Literal["text", "json", "off"] = "text"
    access_log_principals: Principals = "names"
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    allow_origins: list[str] = []
    allow_hosts: list[str] = []

    def __post_init__(self) -> None:
        check_integer("server.port", self.port, 0, 65_535)
        check_integer("server.workers", self.workers, 1)
        if self.metrics_port is not None:
            check_integer("server.metrics_port", self.metrics_port, 0, 65_535)
        if not 1 <= self.idle_seconds <= _MAX_SECONDS:
            raise ConfigurationError(
                f"server.idle_seconds: expected whole seconds from 1 to {_MAX_SECONDS:,}, "
                f"got {self.idle_seconds}. Leave it out for 75."
            )
        if not 0 < self.head_seconds <= _MAX_SECONDS:
            raise ConfigurationError(
                f"server.head_seconds: expected seconds above 0 and at most {_MAX_SECONDS:,}, "
                f"got {self.head_seconds:g}. Leave it out for 10."
            )
        for name in ("announce_seconds", "drain_seconds"):
            seconds = getattr(self, name)
            if not 0 <= seconds <= _MAX_SECONDS:
                raise ConfigurationError(
                    f"server.{name}: expected seconds from 0 to {_MAX_SECONDS:,}, got {seconds:g}. "
                    "Leave it out for the default."
                )
        check_origins(self.allow_origins, name="server.allow_origins")
        for host in self.allow_hosts:
            if not _HOST.fullmatch(host):
                raise ConfigurationError(
                    f"server.allow_hosts: expected a host such as chat.example.com, got {host!r}. "
                    "Write it in lower case, without a scheme, a port or a path."
                )


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of ``chatnest serve``, with their defaults.

    ``demo`` serves canned answers instead of the provider. ``written`` has the names of the
    profiles that the configuration defines or changes. ``sources`` has the source of each key that
    was set, such as the path of the file.
    """

    provider: ProviderSection = ProviderSection()
    providers: dict[str, NamedProvider] = {}
    models: dict[str, ModelSection] = {}
    chat: ChatSection = ChatSection()
    profiles: tuple[Profile, ...] = DEFAULT_PROFILES
    hard_caps: HardCaps = HARD_CAPS
    plans: dict[str, Plan] = {}
    limits: tuple[LimitRule, ...] = ()
    identity: IdentitySection = IdentitySection()
    budget: BudgetSection = BudgetSection()
    ledger: LedgerSection = LedgerSection()
    alerts: AlertsSection = AlertsSection()
    bounds: Bounds = Bounds()
    runs: RunSettings = RunSettings()
    server: ServerSection = ServerSection()
    telemetry: TelemetrySection = TelemetrySection()
    demo: bool = False
    written: tuple[str, ...] = ()
    sources: dict[str, str] = {}


_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "provider": ProviderSection,
    "chat": ChatSection,
    "hard_caps": HardCaps,
    "identity": IdentitySection,
    "budget": BudgetSection,
    "ledger": LedgerSection,
    "alerts": AlertsSection,
    "bounds": Bounds,
    "runs": RunSettings,
    "server": ServerSection,
    "telemetry": TelemetrySection,
}

_NAMED: Final[Mapping[str, type[msgspec.Struct]]] = {
    "profiles": Profile,
    "providers": NamedProvider,
    "models": ModelSection,
    "plans": Plan,
}
"""Sections of sections with names, and the type of each."""

_LISTED: Final[Mapping[str, type[msgspec.Struct]]] = {"limits": LimitRule}
"""Lists of tables, and the type of each table."""

_JOINED: Final = {*_SECTIONS, *_NAMED, *_LISTED}


def load_config(
    path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Mapping[str, Any]],
    *,
    demo: bool = False,
) -> Config:
    """Load the configuration from a file (if any), the environment, and flags by section and key.

    Raises ConfigurationError, whose message names the source, the path of the key and the remedy.
    """
    read = [] if path is None else [read_file(path)]
    read += [read_environ(environ, _JOINED), Source("the command line", flags)]
    if not any("port" in source.tree.get("server", {}) for source in read):
        read.append(read_port(environ))
    tree: Tree = {}
    sources: dict[str, str] = {}
    for source in read:
        settings = typed(source, _SECTIONS, _NAMED, _LISTED)
        tree = merge(*with_tables(tree, settings))
        sources |= dict.fromkeys(_keys(settings), source.name)
    with naming_sources(sources):
        identity = tree.get("identity", {})
        if "keys" in identity:
            tree["identity"] = {**identity, "keys": keys_of(identity["keys"])}
        sections: Tree = {name: kind(**tree.get(name, {})) for name, kind in _SECTIONS.items()}
        for place in ("providers", "models", "plans"):
            named = tree.get(place, {})
            sections[place] = {name: _NAMED[place](**each) for name, each in named.items()}
        profiles = _profiles(tree.get("profiles", {}))
        limits = _limits(tree.get("limits", []), sections["budget"].timezone)
    written = tuple(tree.get("profiles", ()))
    return Config(
        limits=limits, profiles=profiles, demo=demo, written=written, sources=sources, **sections
    )


def _limits(tables: list[Tree], timezone: str) -> tuple[LimitRule, ...]:
    """The limits, by default in the time zone of the budgets."""
    rules = []
    for number, table in enumerate(tables):
        for key in ("name", "unit", "amount"):
            if key not in table:
                raise ConfigurationError(
                    f"limits[{number}].{key}: expected a value, got none. Add the key."
                )
        defaults: Tree = {}
        if table.get("window") in get_args(CalendarWindow):
            defaults["timezone"] = timezone
        rules.append(LimitRule(**defaults | table))
    return tuple(rules)


def _keys(tree: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _keys(value, f"{place}{name}.")
        else:
            yield f"{place}{name}"


def _profiles(tree: Tree) -> tuple[Profile, ...]:
    named = {profile.name: profile for profile in DEFAULT_PROFILES}
    required = [field.name for field in msgspec.structs.fields(Profile) if field.required]
    for name, fields in tree.items():
        base = msgspec.structs.asdict(named[name]) if name in named else {}
        values = {**base, **fields, "name": name}
        if missing := [field for field in required if field not in values]:
            raise ConfigurationError(
                f"profiles.{name}: expected all limits of a new profile, got none for "
                f"{', '.join(missing)}. Add them."
            )
        named[name] = Profile(**values)
    return tuple(named.values())
