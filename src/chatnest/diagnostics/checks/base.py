"""A check: a function from what was found to a verdict, and what to do about it. No I/O."""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from chatnest.config.sections import Config
from chatnest.stores.survey import RedisSurvey, SQLiteSurvey

__all__ = ["Check", "CheckFunction", "Findings", "Level", "fail", "ok", "skip", "warn"]

Level = Literal["ok", "warn", "fail", "skip"]


class Check(msgspec.Struct, frozen=True):
    """``level``, and in words: ``found``, and unless all is well ``advice``."""

    name: str
    level: Level
    found: str
    advice: str = ""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that checks are made from.

    ``has_key`` is whether there is a key for the provider, ``base_url`` where that is, empty for
    OpenAI's own; ``proxy`` and ``trust`` say how it is reached, where it is not the usual way, and
    what says so. ``survey`` is None for a ledger in memory. ``open_files`` is the soft limit of
    this process, None where it is not known. ``versions`` are by the names of what is installed.
    """

    config: Config
    has_key: bool
    base_url: str
    proxy: str = ""
    trust: str = ""
    survey: RedisSurvey | SQLiteSurvey | None
    open_files: int | None
    versions: Mapping[str, str]


CheckFunction = Callable[[Findings], Check | None]
"""Gives None where there is nothing to check: another ledger is used."""


def ok(name: str, found: str) -> Check:
    """All is well."""
    return Check(name, "ok", found)


def warn(name: str, found: str, advice: str) -> Check:
    """It works, until something happens."""
    return Check(name, "warn", found, advice)


def fail(name: str, found: str, advice: str) -> Check:
    """It does not work, or limits do not hold."""
    return Check(name, "fail", found, advice)


def skip(name: str, found: str, advice: str) -> Check:
    """It cannot be told."""
    return Check(name, "skip", found, advice)
