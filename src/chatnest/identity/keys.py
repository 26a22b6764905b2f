"""Bearer keys: the owner of a key in ``Authorization``, and what the key may use. No I/O."""

import hashlib
import hmac
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from time import time
from typing import Final

import msgspec
from starlette.types import Scope

from chatnest.asgi.http import headers_named
from chatnest.errors import ConfigurationError
from chatnest.identity.base import Identity
from chatnest.identity.principals import MAX_NAME

__all__ = ["BearerKey", "BearerKeys", "end_of"]

_log = logging.getLogger("chatnest.identity")

_LONGEST_KEY = 4_096
"""Maximum characters of an Authorization field."""


class BearerKey(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one owner, with what the owner is and may use: a value of ``BearerKeys``.

    ``hashes`` is the SHA-256 of a key in hexadecimal, or several. ``groups`` and ``plan`` are those
    of Identity. ``profiles`` and ``models`` restrict what the plan or the application allows; None
    restricts nothing. After ``expires`` the keys are refused: a date lasts until its end, and a
    time without an offset is in UTC.
    """

    hashes: str | Collection[str]
    groups: Mapping[str, str] = {}
    plan: str | None = None
    profiles: Collection[str] | None = None
    models: Collection[str] | None = None
    expires: date | None = None


class _Owner(msgspec.Struct, frozen=True):
    """The owner of a key. ``expires`` is in seconds since 1970."""

    name: str
    found: str | Identity
    expires: float | None = None


class BearerKeys:
    """The owner of the key in ``Authorization: Bearer KEY``, such as ``key:ann`` (RFC 6750).

    ``keys`` maps the owner's name to the SHA-256 of a key in hexadecimal, to several, or to a
    BearerKey. Use random keys: a key that a person chose can be guessed from its hash. Every
    comparison takes the same time. Raises ConfigurationError for an invalid hash or field, and for
    a hash that occurs twice.
    """

    challenge: Final = 'Bearer realm="chatnest"'

    def __init__(
        self,
        keys: Mapping[str, str | Iterable[str] | BearerKey],
        *,
        clock: Callable[[], float] = time,
    ) -> None:
        if not isinstance(keys, Mapping):
            raise ConfigurationError(
                f"keys must be a mapping of names to hashes, not {type(keys).__name__}"
            )
        self._clock = clock
        self._owners: list[tuple[bytes, _Owner]] = []
        self._reported: set[str] = set()
        self.identities: dict[str, Identity] = {}
        """The identity of each owner whose keys are in a BearerKey."""
        for name, value in keys.items():
            if not name or len(name) > MAX_NAME or not name.isprintable():
                raise ConfigurationError(
                    f"keys: expected names of 1 to {MAX_NAME} printable characters, got "
                    f"{name[:MAX_NAME]!r}."
                )
            owner, hashes = self._owner(name, value)
            self._owners += [(_digest_of(name, each), owner) for each in hashes]
        if len({digest for digest, _ in self._owners}) != len(self._owners):
            raise ConfigurationError("keys: expected a different hash for each key, got one twice.")

    def __call__(self, scope: Scope) -> str | Identity | None:
        values = headers_named(scope, b"authorization")
        if len(values) != 1 or len(values[0]) > _LONGEST_KEY:
            return None
        scheme, _, key = values[0].partition(" ")
        digest = hashlib.sha256(key.strip(" \t").encode("latin-1")).digest()
        owner = None
        for known, each in self._owners:
            if hmac.compare_digest(known, digest):
                owner = each
        if owner is None or scheme.lower() != "bearer":
            return None
        if owner.expires is not None and self._clock() > owner.expires:
            self._report(owner.name, owner.expires)
            return None
        return owner.found

    def _owner(
        self, name: str, value: str | Iterable[str] | BearerKey
    ) -> tuple[_Owner, Iterable[str]]:
        principal = f"key:{name}"
        if isinstance(value, Mapping):
            raise ConfigurationError(
                f"keys[{name!r}]: expected a hash, a list of hashes or a BearerKey, got a mapping. "
                "Pass BearerKey(...)."
            )
        if not isinstance(value, BearerKey):
            return _Owner(name, principal), [value] if isinstance(value, str) else value
        hashes: Iterable[str] = [value.hashes] if isinstance(value.hashes, str) else value.hashes
        if not hashes:
            raise ConfigurationError(
                f"keys[{name!r}].hashes: expected at least one hash, got none. "
                f"`chatnest key {name}` makes a key and its hash."
            )
        identity = self.identities[name] = _identity(name, principal, value)
        expires = None if value.expires is None else _end(name, value.expires).timestamp()
        return _Owner(name, identity, expires), hashes

    def _report(self, name: str, expires: float) -> None:
        """Log the first request with an expired key of each owner."""
        if name not in self._reported:
            self._reported.add(name)
            _log.warning(
                "key expired: name=%s expires=%s. Its requests get a 401. Set a later expires, or "
                "make a new key with `chatnest key`.",
                ascii(name),
                datetime.fromtimestamp(expires, UTC).isoformat(timespec="seconds"),
            )


def end_of(expires: date) -> datetime:
    """The last moment of a date in UTC, or a time itself. A time without an offset is in UTC."""
    if not isinstance(expires, datetime):
        return datetime.combine(expires, time_of_day.max, UTC)
    return expires if expires.tzinfo is not None else expires.replace(tzinfo=UTC)


def _end(name: str, expires: object) -> datetime:
    if not isinstance(expires, date):
        raise ConfigurationError(
            f"keys[{name!r}].expires: expected a date or a datetime, got {type(expires).__name__}."
        )
    return end_of(expires)


def _identity(name: str, principal: str, key: BearerKey) -> Identity:
    for field in ("profiles", "models"):
        names = getattr(key, field)
        if names is not None and not isinstance(names, str) and not names:
            raise ConfigurationError(
                f"keys[{name!r}].{field}: expected at least one name, got none. Leave it out for "
                f"all {field} of its plan."
            )
    try:
        return Identity(
            principal,
            groups=key.groups,
            plan=key.plan,
            profiles=key.profiles,
            models=key.models,
        )
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"keys[{name!r}].{exc}") from exc


def _digest_of(name: str, written: object) -> bytes:
    digest = written.removeprefix("sha256:") if isinstance(written, str) else ""
    if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):  # noqa: PLR2004  # SHA-256
        raise ConfigurationError(
            f"keys[{name!r}]: expected the SHA-256 of a key in hexadecimal, got another value. "
            f"`chatnest key {name}` makes a key and its hash."
        )
    return bytes.fromhex(digest)
