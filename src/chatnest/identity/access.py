"""Access: the identity of a request, and the profiles open to it. No I/O of its own."""

import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final, Protocol, TypeVar

from starlette.types import Scope

from chatnest.errors import ConfigurationError, ForbiddenProfile, InvalidRequest, Unauthenticated
from chatnest.identity.base import Identify, Identity
from chatnest.profiles import Profile, bounds_above

__all__ = ["MAX_PRINCIPAL_BYTES", "Access", "AllowedProfiles", "Wait", "open_by_default"]

_log = logging.getLogger("chatnest.access")

_MOST_WARNINGS: Final = 100

_T = TypeVar("_T")

MAX_PRINCIPAL_BYTES: Final = 2_048
"""Maximum bytes of a principal in UTF-8. Principals are keys of the ledger."""

_SHOWN: Final = 64
_NEVER_IN_NAMES: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and surrogates, which UTF-8 cannot encode."""

AllowedProfiles = Collection[str] | Callable[[str], Collection[str] | Awaitable[Collection[str]]]
"""Names of profiles for all principals, or a function from principal to names. It may be async."""


class Wait(Protocol):
    """How to wait for a hook of the operator's that is async."""

    def __call__(self, hook: Awaitable[_T], /) -> Awaitable[_T]:
        """Await the hook and return its result."""
        ...


def _plainly(hook: Awaitable[_T], /) -> Awaitable[_T]:
    return hook


_without_groups: Final = lru_cache(1_024)(Identity)  # of valid names alone, which are short


class Access:
    """The operator's rules for identities and profiles, applied to one request at a time.

    Without ``allowed``, the profiles of open_by_default() are open. Raises ConfigurationError for
    an unknown profile, and for an empty collection, which would refuse all requests.
    """

    def __init__(
        self,
        *,
        identify: Identify,
        profiles: Mapping[str, Profile],
        default: str,
        allowed: AllowedProfiles | None,
    ) -> None:
        if allowed is not None and not callable(allowed):
            if isinstance(allowed, str) or not isinstance(allowed, Iterable):
                kind = type(allowed).__name__
                raise ConfigurationError(
                    f"allowed_profiles: expected a list of names or a function, got {kind}."
                )
            allowed = tuple(allowed)
            if not allowed:
                raise ConfigurationError(
                    "allowed_profiles: expected at least one name, got none. Name the profiles "
                    "that clients may use, or leave it out for the default profile and profiles "
                    "without a higher bound."
                )
            _check("allowed_profiles", allowed, profiles)
        _check("default_profile", (default,), profiles)
        self._identify = identify
        self._profiles = profiles
        self._default = default
        self._by_default = allowed is None
        self._allowed = open_by_default(profiles, default) if allowed is None else allowed
        self._open: list[str] | None = None  # for all principals
        if not callable(self._allowed):
            self._open = [name for name in profiles if name in self._allowed]
        self._warned: set[str] = set()
        self._refused_names = 0

    async def identity(self, scope: Scope, wait: Wait = _plainly) -> Identity:
        """The identity of a request. Its principal is a valid name, as `_is_name` defines it.

        Raises Unauthenticated if ``identify`` returns None or an invalid name. Raises TypeError
        for any other object, which is a fault of ``identify``. ``wait`` awaits an async hook.
        """
        found: object = self._identify(scope)
        if inspect.isawaitable(found):
            found = await wait(found)
        if found is None:
            raise Unauthenticated(getattr(self._identify, "challenge", ""))
        if isinstance(found, Identity):
            principal = found.principal
        elif issubclass(type(found), str) and isinstance(found, str):
            principal = str.__str__(found)  # a subclass may show another text than it has
        else:  # an object would get a new budget for each of its reprs
            kind = type(found).__name__
            raise TypeError(
                f"identify(): expected a str, an Identity or None, got {kind}. Return a stable "
                "name."
            )
        # The first condition is the second one, for most names and without a call.
        plain = principal.isascii() and principal.isprintable() and not principal.isspace()
        if not (plain and 0 < len(principal) <= MAX_PRINCIPAL_BYTES) and not _is_name(principal):
            if principal:
                self._warn_of_name(principal)
            raise Unauthenticated(getattr(self._identify, "challenge", ""))
        if isinstance(found, Identity):
            return found
        return _without_groups(principal)

    def _warn_of_name(self, principal: str) -> None:
        """Log the first invalid names only: clients can send as many as they like."""
        if self._refused_names < _MOST_WARNINGS:
            self._refused_names += 1
            _log.warning(
                "identify() returned a str that cannot be a principal, and the request got a 401: "
                "%d characters, %s",
                len(principal),
                ascii(principal[:_SHOWN]),
            )

    @property
    def ever_open(self) -> list[Profile]:
        """The profiles that are open to some principal, as far as that is known."""
        names = self._profiles if self._open is None else self._open
        return [self._profiles[name] for name in names]

    async def allowed(self, principal: str, wait: Wait = _plainly) -> list[str]:
        """The profiles open to a principal, in the order of their definition."""
        if self._open is not None or not callable(self._allowed):
            return list(self._open or ())
        names = self._allowed(principal)
        names = (await wait(names) if inspect.isawaitable(names) else names) or ()
        allowed = {names} if isinstance(names, str) else set(names)
        self._warn_of(allowed - set(self._profiles))
        return [name for name in self._profiles if name in allowed]

    async def profile(self, principal: str, name: str | None, wait: Wait = _plainly) -> Profile:
        """The profile of that name. Without a name, the default profile, or if that is not open to
        the principal, the first open one.

        Raises InvalidRequest for an unknown profile, ForbiddenProfile for one that is not open.
        """
        allowed = await self.allowed(principal, wait) if self._open is None else self._open
        if name is None:
            name = self._default if self._default in allowed else next(iter(allowed), "")
        elif name not in self._profiles:
            raise InvalidRequest(f"must be one of {', '.join(allowed)}.", field="profile")
        if name not in allowed:
            if self._by_default:
                self._explain(name)
            raise ForbiddenProfile(allowed)
        return self._profiles[name]

    async def open_profiles(self, principal: str, wait: Wait = _plainly) -> list[Profile]:
        """The profiles open to a principal: the default profile first, if it is one of them."""
        names = await self.allowed(principal, wait)
        return [self._profiles[name] for name in sorted(names, key=self._default.__ne__)]

    def _explain(self, name: str) -> None:
        """Log once for each closed profile why it is closed and how to open it."""
        if name in self._warned:
            return
        self._warned.add(name)
        bound = bounds_above(self._profiles[name], self._profiles[self._default])[0]
        _log.warning(
            "profile %r is closed: its %s is above that of the default profile %r. To open it, "
            "name it in allowed_profiles.",
            name,
            bound,
            self._default,
        )

    def _warn_of(self, unknown: Collection[str]) -> None:
        """Log each unknown name once: a typo in the operator's function shows nowhere else."""
        for name in unknown:
            if name not in self._warned and len(self._warned) < _MOST_WARNINGS:
                self._warned.add(name)
                _log.warning("allowed_profiles returned %r: there is no such profile", name)


def open_by_default(
    profiles: Mapping[str, Profile], default: str, written: Collection[str] = ()
) -> list[str]:
    """The profiles that are open to all if ``allowed_profiles`` is not set.

    These are the default profile, those without a bound above the default's, and ``written``, the
    profiles that the operator has defined. Clients pick their profile: if all were open, the
    default profile would limit no client. Raises ConfigurationError for an unknown default.
    """
    _check("default_profile", (default,), profiles)
    usual = profiles[default]
    return [
        name
        for name, profile in profiles.items()
        if name in written or not bounds_above(profile, usual)
    ]


def _is_name(principal: str) -> bool:
    """Whether all ledgers can store the name: 1 to 2,048 bytes of UTF-8, without control
    characters, and not only white space.
    """
    if not principal or principal.isspace() or _NEVER_IN_NAMES.search(principal):
        return False
    size = len(principal) if principal.isascii() else len(principal.encode())
    return size <= MAX_PRINCIPAL_BYTES


def _check(argument: str, names: Collection[str], profiles: Mapping[str, Profile]) -> None:
    unknown = [name for name in names if name not in profiles]
    if unknown:
        known = ", ".join(profiles)
        raise ConfigurationError(
            f"{argument}: expected names of profiles ({known}), got {unknown[0]!r}."
        )
