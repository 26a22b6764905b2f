"""A check: a function from findings to a verdict with advice. No I/O."""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from chatnest.config.catalogue import ModelFacts
from chatnest.config.sections import Api, Config
from chatnest.stores.survey import RedisSurvey, SQLiteSurvey

__all__ = ["Check", "CheckFunction", "Findings", "Level", "fail", "ok", "skip", "warn"]

Level = Literal["ok", "warn", "fail", "skip"]


class Check(msgspec.Struct, frozen=True):
    """A verdict: ``level``, the facts in ``found``, and ``advice`` unless the level is "ok"."""

    name: str
    level: Level
    found: str
    advice: str = ""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The input of all checks.

    ``place`` is the section of the provider, ``api`` its dialect, and ``key`` the environment
    variable of its key. ``has_key`` is whether the key is set. ``base_url`` is the provider's
    address, empty for that of the API's owner. ``proxy`` and ``trust`` describe a proxy and
    certificates on the way there with the settings they come from, and are empty by default.
    ``models`` are those of a catalogue, or empty for the only model. ``survey`` is None for a
    ledger in memory. ``open_files`` is the soft limit of this process, None if unknown.
    ``versions`` has the versions of installed packages by name.
    """

    config: Config
    place: str = "provider"
    api: Api = "openai-chat"
    key: str = "OPENAI_API_KEY"
    has_key: bool
    base_url: str
    proxy: str = ""
    trust: str = ""
    models: tuple[ModelFacts, ...] = ()
    survey: RedisSurvey | SQLiteSurvey | None
    open_files: int | None
    versions: Mapping[str, str]


CheckFunction = Callable[[Findings], Check | None]
"""A check. It returns None if it does not apply, for example to another kind of ledger."""


def ok(name: str, found: str) -> Check:
    """Return a verdict for a setting that needs no change."""
    return Check(name, "ok", found)


def warn(name: str, found: str, advice: str) -> Check:
    """Return a verdict for a setting that works until something else fails."""
    return Check(name, "warn", found, advice)


def fail(name: str, found: str, advice: str) -> Check:
    """Return a verdict for a setting that does not work, or lets limits be exceeded."""
    return Check(name, "fail", found, advice)


def skip(name: str, found: str, advice: str) -> Check:
    """Return a verdict for a setting that could not be checked."""
    return Check(name, "skip", found, advice)
