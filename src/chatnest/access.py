"""Access: who is asking, and which profiles they may use. No I/O of its own."""

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping

from starlette.types import Scope

from chatnest.errors import ConfigurationError, ForbiddenProfile, InvalidRequest, Unauthenticated
from chatnest.identity import Identify
from chatnest.profiles import Profile

__all__ = ["Access", "AllowedProfiles"]

AllowedProfiles = Collection[str] | Callable[[str], Collection[str] | Awaitable[Collection[str]]]
"""Names of profiles for everybody, or a function from principal to names; it may be async."""


class Access:
    """What the operator said about identities and profiles, applied to one request at a time.

    Raises ConfigurationError for the name of a profile that does not exist.
    """

    def __init__(
        self,
        *,
        identify: Identify,
        profiles: Mapping[str, Profile],
        default: str,
        allowed: AllowedProfiles | None,
    ) -> None:
        names = {default} | (set() if allowed is None or callable(allowed) else set(allowed))
        if unknown := names - set(profiles):
            known = ", ".join(profiles)
            raise ConfigurationError(f"there is no profile {min(unknown)!r}; there are {known}")
        self._identify = identify
        self._profiles = profiles
        self._default = default
        self._allowed = profiles if allowed is None else allowed

    async def principal(self, scope: Scope) -> str:
        """Who is asking. Raises Unauthenticated."""
        principal = self._identify(scope)
        if inspect.isawaitable(principal):
            principal = await principal
        if principal is None or principal == "":
            raise Unauthenticated(getattr(self._identify, "challenge", ""))
        if not isinstance(principal, str):
            # An object would get a new budget for each of its reprs.
            raise TypeError(f"identify() returned {type(principal).__name__}, not str or None")
        return principal

    async def allowed(self, principal: str) -> list[str]:
        """The profiles open to a principal, in the order of their definition."""
        allowed = self._allowed
        if callable(allowed):
            names = allowed(principal)
            allowed = (await names if inspect.isawaitable(names) else names) or ()
        return [name for name in self._profiles if name in allowed]

    async def profile(self, principal: str, name: str | None) -> Profile:
        """The profile of that name, or the default, or the first that is open where the default
        is not. Raises InvalidRequest for a name that does not exist, ForbiddenProfile for one
        that is not open.
        """
        allowed = await self.allowed(principal)
        if name is None:
            name = self._default if self._default in allowed else next(iter(allowed), "")
        elif name not in self._profiles:
            raise InvalidRequest(f"profile: must be one of {', '.join(allowed)}.")
        if name not in allowed:
            raise ForbiddenProfile(allowed)
        return self._profiles[name]
