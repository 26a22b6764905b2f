"""Opening: the profiles that are open to all principals by default. No I/O."""

from collections.abc import Collection, Mapping

from chatnest.errors import ConfigurationError
from chatnest.profiles import Profile, bounds_above

__all__ = ["check_names", "open_by_default"]


def open_by_default(
    profiles: Mapping[str, Profile], default: str, written: Collection[str] = ()
) -> list[str]:
    """The profiles that everyone may use if ``allowed_profiles`` is not set.

    These are the default profile, the profiles that do not exceed it, and ``written``, the profiles
    that the operator has defined. Clients choose their profile, so if all were allowed, the default
    profile would limit no client. Raises ConfigurationError for an unknown default.
    """
    check_names("default_profile", (default,), profiles)
    usual = profiles[default]
    return [
        name
        for name, profile in profiles.items()
        if name in written or not bounds_above(profile, usual)
    ]


def check_names(argument: str, names: Collection[str], profiles: Mapping[str, Profile]) -> None:
    """Raise ConfigurationError for a name that no profile has."""
    unknown = [name for name in names if name not in profiles]
    if unknown:
        known = ", ".join(profiles)
        raise ConfigurationError(
            f"{argument}: expected names of profiles ({known}), got {unknown[0]!r}."
        )
