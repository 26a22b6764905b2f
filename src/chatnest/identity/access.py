"""Access: the identity and the plan of a request, and what is open to it. No I/O of its own."""

import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import Final, Protocol, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import Scope

from chatnest.errors import ConfigurationError, ForbiddenProfile, InvalidRequest, Unauthenticated
from chatnest.identity.base import Identify, Identity
from chatnest.identity.opening import check_names, open_by_default
from chatnest.identity.plan_lookup import PlanLookup
from chatnest.identity.plans import Plan, checked_plans
from chatnest.profiles import Profile, bounds_above

__all__ = ["MAX_PRINCIPAL_BYTES", "Access", "AllowedProfiles", "Wait"]

_log = logging.getLogger("chatnest.identity")

_MOST_WARNINGS: Final = 100

_NOBODY: Final = {401, 403}
"""Statuses of an HTTPException that mean the same as None."""

_T = TypeVar("_T")

_NO_MODELS: Final[Mapping[str, Collection[str]]] = MappingProxyType({})

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
    """The operator's rules for identities, plans and profiles, applied to one request at a time.

    A plan opens its profiles. Without a plan, ``allowed`` are open, or those of open_by_default().
    An Identity may narrow both. ``models`` are the names and aliases of the models of each profile.

    Raises ConfigurationError for an unknown profile or plan, for an empty collection, which would
    refuse all requests, and for an identity of a key that names what is not open to it.
    """

    def __init__(
        self,
        *,
        identify: Identify,
        profiles: Mapping[str, Profile],
        default: str,
        allowed: AllowedProfiles | None,
        models: Mapping[str, Collection[str]] = _NO_MODELS,
        plans: Mapping[str, Plan] | None = None,
        default_plan: str | None = None,
        plan_lookup: PlanLookup | None = None,
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
            check_names("allowed_profiles", allowed, profiles)
        check_names("default_profile", (default,), profiles)
        self._identify = identify
        self._profiles = profiles
        self._default = default
        self._by_default = allowed is None
        self._allowed = open_by_default(profiles, default) if allowed is None else allowed
        self._open: list[str] | None = None  # for all principals
        if not callable(self._allowed):
            self._open = [name for name in profiles if name in self._allowed]
        self._models = models
        self._plans = checked_plans(plans, profiles)
        self._lookup = plan_lookup
        self._default_plan = default_plan
        self.finds_plans: bool = plan_lookup is not None or default_plan is not None
        """Whether an identity without a plan may have one. See ``with_plan``."""
        if default_plan is not None:
            self._check_plan("default_plan", default_plan)
        if plan_lookup is not None and not self._plans:
            raise ConfigurationError(
                "plan_of: expected plans that it can name, got none. Pass plans={NAME: Plan(...)}."
            )
        for name, each in getattr(identify, "identities", {}).items():
            self._check_key(f"keys[{name!r}]", each)
        self._warned: set[str] = set()
        self._refused_names = 0

    async def identity(self, scope: Scope, wait: Wait = _plainly) -> Identity:
        """The identity of a request. Its principal is a valid name, as `_is_name` defines it.

        Raises Unauthenticated if ``identify`` returns None or an invalid name, or raises an
        HTTPException 401 or 403, as dependencies of FastAPI do. Raises TypeError for any other
        object, which is a fault of ``identify``. ``wait`` awaits an async hook.
        """
        found: object
        try:
            found = self._identify(scope)
            if inspect.isawaitable(found):
                found = await wait(found)
        except HTTPException as exc:
            if exc.status_code not in _NOBODY:
                raise
            found = None
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

    async def with_plan(self, identity: Identity, wait: Wait = _plainly) -> Identity:
        """The identity with its plan: its own, or else the one of ``plan_of``, or else the default.

        Raises ValueError for a plan that the application does not have: nothing is then known to be
        open to the principal. ``wait`` awaits an async hook.
        """
        plan, source = identity.plan, "identify"
        if plan is None and (lookup := self._lookup) is not None:
            source = "plan_of"
            if lookup.is_fresh(identity):
                plan = lookup.cached(identity)
            else:
                plan = await wait(lookup.find(identity))
        if plan is None:
            plan = self._default_plan
        if plan is None:
            return identity
        if plan not in self._plans:
            raise ValueError(
                f"{source}(): expected one of the plans ({', '.join(self._plans) or 'none'}), got "
                f"{plan[:_SHOWN]!a}. Correct the name, or add the plan."
            )
        return identity if plan == identity.plan else msgspec.structs.replace(identity, plan=plan)

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
        if self._open is None:
            return list(self._profiles.values())
        names = {*self._open, *chain.from_iterable(p.profiles or () for p in self._plans.values())}
        return [profile for name, profile in self._profiles.items() if name in names]

    async def allowed(self, identity: Identity, wait: Wait = _plainly) -> list[str]:
        """The profiles open to an identity, in the order of its plan, or of their definition."""
        opened = self._opened_by_plan(identity.plan)
        if opened is None:
            opened = await self._opened(identity.principal, wait)
        if identity.profiles is not None:
            self._warn_of("identify", set(identity.profiles) - set(self._profiles))
            opened = [name for name in opened if name in identity.profiles]
        if (models := identity.models) is not None:
            opened = [
                name for name in opened if any(map(models.__contains__, self._models.get(name, ())))
            ]
        return list(opened)

    async def profile(self, identity: Identity, name: str | None, wait: Wait = _plainly) -> Profile:
        """The profile of that name. Without a name, the default one: see ``open_profiles``.

        Raises InvalidRequest for an unknown profile, ForbiddenProfile for one that is not open.
        """
        plain = identity.plan is None and identity.profiles is None and identity.models is None
        allowed = self._open if plain else None
        if allowed is None:
            allowed = await self.allowed(identity, wait)
        if name is None and plain and self._default in allowed:
            name = self._default
        elif name is None:
            name = next(iter(self._default_first(identity, allowed)), "")
        elif name not in self._profiles:
            raise InvalidRequest(f"must be one of {', '.join(allowed)}.", field="profile")
        if name not in allowed:
            if self._by_default and self._opened_by_plan(identity.plan) is None:
                self._explain(name)
            raise ForbiddenProfile(allowed)
        return self._profiles[name]

    async def open_profiles(self, identity: Identity, wait: Wait = _plainly) -> list[Profile]:
        """The profiles open to an identity. The default one comes first: without a plan the default
        profile, if it is one of them, and otherwise the first.
        """
        names = self._default_first(identity, await self.allowed(identity, wait))
        return [self._profiles[name] for name in names]

    def _default_first(self, identity: Identity, names: list[str]) -> list[str]:
        if self._opened_by_plan(identity.plan) is not None:
            return names
        return sorted(names, key=self._default.__ne__)

    def _opened_by_plan(self, plan: str | None) -> Collection[str] | None:
        """The profiles of a plan. None for a plan without any, as for no plan."""
        return None if plan is None else self._plans[plan].profiles

    async def _opened(self, principal: str, wait: Wait) -> Collection[str]:
        """The profiles open to a principal without a plan."""
        if self._open is not None or not callable(self._allowed):
            return self._open or ()
        names = self._allowed(principal)
        names = (await wait(names) if inspect.isawaitable(names) else names) or ()
        allowed = {names} if isinstance(names, str) else set(names)
        self._warn_of("allowed_profiles", allowed - set(self._profiles))
        return [name for name in self._profiles if name in allowed]

    # ------------------------------------------------ at the start

    def _check_plan(self, place: str, plan: str) -> None:
        if plan not in self._plans:
            raise ConfigurationError(
                f"{place}: expected one of the plans ({', '.join(self._plans) or 'none'}), got "
                f"{plan!r}. Correct the name, or add the plan."
            )

    def _check_key(self, place: str, key: Identity) -> None:
        """Raise ConfigurationError if a key names anything that is not open to it."""
        if key.plan is not None:
            self._check_plan(f"{place}.plan", key.plan)
        plan = self._default_plan if key.plan is None and self._lookup is None else key.plan
        opened = self._opened_by_plan(plan)
        if opened is None and (self._lookup is None or key.plan is not None):
            opened = self._open
        if opened is None:  # a function decides, for each request
            opened = list(self._profiles)
        for name in sorted(key.profiles or ()):
            if name not in opened:
                raise ConfigurationError(
                    f"{place}.profiles: expected some of the profiles that are open to it "
                    f"({', '.join(opened)}), got {name!r}. Correct the name, or open the profile "
                    f"by {'allowed_profiles' if plan is None else f'the plan {plan!r}'}."
                )
        narrowed = [name for name in opened if key.profiles is None or name in key.profiles]
        models = dict.fromkeys(chain.from_iterable(self._models.get(n, ()) for n in narrowed))
        for name in sorted(key.models or ()):
            if name not in models:
                raise ConfigurationError(
                    f"{place}.models: expected some of the models that are open to it "
                    f"({', '.join(models)}), got {name!r}. Correct the name, or add the model to "
                    "one of its profiles."
                )

    # ------------------------------------------------ the log

    def _explain(self, name: str) -> None:
        """Log once for each closed profile why it is closed and how to open it."""
        bounds = bounds_above(self._profiles[name], self._profiles[self._default]) if name else ()
        if name in self._warned or not bounds:  # without a bound above, a key has closed it
            return
        self._warned.add(name)
        _log.warning(
            "profile %r is closed: its %s is above that of the default profile %r. To open it, "
            "name it in allowed_profiles.",
            name,
            bounds[0],
            self._default,
        )

    def _warn_of(self, hook: str, unknown: Collection[str]) -> None:
        """Log each unknown name once: a typo in the operator's function shows nowhere else."""
        for name in unknown:
            if name not in self._warned and len(self._warned) < _MOST_WARNINGS:
                self._warned.add(name)
                _log.warning("%s returned %r: there is no such profile", hook, name)


def _is_name(principal: str) -> bool:
    """Whether all ledgers can store the name: 1 to 2,048 bytes of UTF-8, without control
    characters, and not only white space.
    """
    if not principal or principal.isspace() or _NEVER_IN_NAMES.search(principal):
        return False
    size = len(principal) if principal.isascii() else len(principal.encode())
    return size <= MAX_PRINCIPAL_BYTES
