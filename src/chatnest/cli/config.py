"""Config: what ``chatnest serve`` is told by a TOML file, the environment and its flags.

The file is read first, ``CHATNEST_SECTION__KEY`` in the environment over it, flags over both.
An unknown key is refused with its path and the nearest name that exists; a typo in a limit must
not quietly leave the limit as it was. Secrets have no key here: they come from the environment.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from chatnest.bounds import Bounds
from chatnest.cors import check_origins
from chatnest.errors import ConfigurationError
from chatnest.profiles import DEFAULT_PROFILES, HARD_CAPS, HardCaps, Profile
from chatnest.runs.base import RunSettings

__all__ = ["Config", "load_config"]

PREFIX: Final = "CHATNEST_"

_LONGEST_END: Final = 86_400
_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f]*:[0-9a-f:]*:[0-9a-f:]*")


class ProviderSection(msgspec.Struct, frozen=True, kw_only=True):
    """``[provider]``"""

    model: str = "gpt-4o-mini"
    base_url: str | None = None
    encoding: str | None = None
    include_usage: bool = True
    organization: str | None = None
    project: str | None = None


class ChatSection(msgspec.Struct, frozen=True, kw_only=True):
    """``[chat]``"""

    path: str = "/api/chat"
    system_prompt: str = ""
    allow_client_system_prompt: bool = False
    default_profile: str = "balanced"
    allowed_profiles: list[str] | None = None
    ping_interval: float = 15.0
    usage_event: bool = False
    charge_unanswered: bool = True


class IdentitySection(msgspec.Struct, frozen=True, kw_only=True):
    """``[identity]``"""

    header: str = ""
    keys: dict[str, str] = {}
    trusted_proxies: list[str] = []


class BudgetSection(msgspec.Struct, frozen=True, kw_only=True):
    """``[budget]``"""

    timezone: str = "UTC"


class LedgerSection(msgspec.Struct, frozen=True, kw_only=True):
    """``[ledger]``"""

    url: str = "sqlite:chatnest.db"
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    busy_timeout: float = 0.5
    prefix: str = "chatnest"
    timeout: float = 0.25
    max_connections: int = 10
    budgets_when_away: Literal["refuse", "count"] = "refuse"
    rates_when_away: Literal["refuse", "count"] = "count"


class ServerSection(msgspec.Struct, frozen=True, kw_only=True):
    """``[server]``"""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    announce_seconds: float = 0.0
    drain_seconds: float = 10.0
    allow_origins: list[str] = []
    allow_hosts: list[str] = []

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise ConfigurationError(f"server.port must be from 0 to 65535, not {self.port}")
        if self.workers < 1:
            raise ConfigurationError("server.workers must be at least 1")
        for name in ("announce_seconds", "drain_seconds"):
            seconds = getattr(self, name)
            if not 0 <= seconds <= _LONGEST_END:
                raise ConfigurationError(
                    f"server.{name} must be from 0 to {_LONGEST_END:,}, not {seconds:g}"
                )
        check_origins(self.allow_origins)
        for host in self.allow_hosts:
            if not _HOST.fullmatch(host):
                raise ConfigurationError(
                    f"server.allow_hosts: {host!r} is no host, such as chat.example.com: small "
                    "letters, and no scheme, port or path"
                )


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that ``chatnest serve`` can be told, with its defaults.

    ``demo`` serves canned answers instead of the provider.
    """

    provider: ProviderSection = ProviderSection()
    chat: ChatSection = ChatSection()
    profiles: tuple[Profile, ...] = DEFAULT_PROFILES
    hard_caps: HardCaps = HARD_CAPS
    identity: IdentitySection = IdentitySection()
    budget: BudgetSection = BudgetSection()
    ledger: LedgerSection = LedgerSection()
    bounds: Bounds = Bounds()
    runs: RunSettings = RunSettings()
    server: ServerSection = ServerSection()
    demo: bool = False


_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "provider": ProviderSection,
    "chat": ChatSection,
    "hard_caps": HardCaps,
    "identity": IdentitySection,
    "budget": BudgetSection,
    "ledger": LedgerSection,
    "bounds": Bounds,
    "runs": RunSettings,
    "server": ServerSection,
}

_JOINED: Final = {*_SECTIONS, "profiles"}

Tree = dict[str, Any]


def load_config(
    path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Mapping[str, Any]],
    *,
    demo: bool = False,
) -> Config:
    """The configuration from a file (if any), the environment and flags by section and key.

    Raises ConfigurationError, whose message names the source, the path of the key and the remedy.
    """
    tree = _read_file(path) if path is not None else {}
    _check_names(tree, str(path))
    from_environ = _read_environ(environ)
    _check_names(from_environ, "the environment")
    tree = _merge(_merge(tree, from_environ), flags)
    sections: Tree = {
        name: _convert(tree.get(name, {}), kind, name) for name, kind in _SECTIONS.items()
    }
    return Config(profiles=_profiles(tree.get("profiles", {})), demo=demo, **sections)


def _read_file(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path} is not UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{path} is not TOML: {exc}") from exc


def _read_environ(environ: Mapping[str, str]) -> Tree:
    tree: Tree = {}
    for name, value in environ.items():
        section, _, rest = name.removeprefix(PREFIX).lower().partition("_")
        if name.startswith(PREFIX) and "__" not in name and rest and section in _JOINED:
            raise ConfigurationError(
                f"the environment: {name} is no key: sections and keys are joined by two "
                f"underscores, as in {PREFIX}PROFILES__BALANCED__MAX_MESSAGES"
            )
        if name.startswith(PREFIX) and "__" in name:
            *parents, key = name[len(PREFIX) :].lower().split("__")
            place = tree
            for parent in parents:
                place = place.setdefault(parent, {})
                if not isinstance(place, dict):
                    raise ConfigurationError(f"the environment: {name} has a parent that is a key")
            if isinstance(place.get(key), dict):
                raise ConfigurationError(f"the environment: {name} is a section, not a key")
            place[key] = value
    return tree


def _check_names(tree: Tree, source: str) -> None:
    for name, section in tree.items():
        _known(name, [*_SECTIONS, "profiles"], "", source)
        if not isinstance(section, dict):
            raise ConfigurationError(f"{source}: {name} must be a section, [{name}]")
        if name != "profiles":
            _check_keys(section, _SECTIONS[name], name, source)
            continue
        for profile, fields in section.items():
            place = f"profiles.{profile}"
            if not isinstance(fields, dict):
                raise ConfigurationError(f"{source}: {place} must be a section, [{place}]")
            _check_keys(fields, Profile, place, source, without="name")


def _check_keys(
    section: Tree, kind: type[msgspec.Struct], place: str, source: str, without: str = ""
) -> None:
    names = [field for field in kind.__struct_fields__ if field != without]
    for key in section:
        _known(key, names, f"{place}.", source)


def _known(key: str, names: list[str], place: str, source: str) -> None:
    if key == "api_key":
        raise ConfigurationError(f"{source}: the key is read from OPENAI_API_KEY alone")
    if key not in names:
        nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.0)[0]
        raise ConfigurationError(
            f"{source}: there is no key {place}{key}; the nearest is {place}{nearest}"
        )


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]  # both are
    return merged


def _profiles(tree: Tree) -> tuple[Profile, ...]:
    shipped = {profile.name: profile for profile in DEFAULT_PROFILES}
    named: dict[str, Profile] = dict(shipped)
    for name, fields in tree.items():
        base = msgspec.structs.asdict(shipped[name]) if name in shipped else {}
        named[name] = _convert({**base, **fields, "name": name}, Profile, f"profiles.{name}")
    return tuple(named.values())


def _convert(section: Tree, kind: type[Any], place: str) -> Any:
    hints = get_type_hints(kind)
    values = {key: _split(value, hints[key]) for key, value in section.items()}
    try:
        # Not strict: the environment has only strings.
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).partition(" - at `$")
        raise ConfigurationError(f"{place}{where.rstrip('`')}: {what}") from None


def _split(value: object, hint: object) -> object:
    """A list may be written ``a, b`` in the environment."""
    takes_list = any(get_origin(kind) is list for kind in (hint, *get_args(hint)))
    if takes_list and isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value
