"""Plan: the profiles that a principal may use, by the name of what it has bought. No I/O."""

from collections.abc import Collection, Mapping

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.identity.base import is_plan_name
from chatnest.profiles import Profile

__all__ = ["Plan", "checked_plans"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan of ``ChatNestApp(plans={name: Plan(...)})``.

    ``profiles`` are the names of the profiles that it opens. The first one is its default. None
    means those of a principal without a plan. Raises ConfigurationError.
    """

    profiles: Collection[str] | None = None

    def __post_init__(self) -> None:
        names: object = self.profiles
        if names is None:
            return
        if isinstance(names, str) or not isinstance(names, Collection):
            raise ConfigurationError(
                f"profiles: expected a list of names of profiles, got {names!r}."
            )
        msgspec.structs.force_setattr(self, "profiles", tuple(dict.fromkeys(names)))


def checked_plans(
    plans: Mapping[str, Plan] | None, profiles: Mapping[str, Profile]
) -> dict[str, Plan]:
    """The plans by name. Raises ConfigurationError for a name that an Identity cannot have, and for
    a plan without profiles or with an unknown one.
    """
    given: object = plans if plans is not None else {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f"plans: expected a dict of a Plan by name, got {type(given).__name__}."
        )
    for name, plan in given.items():
        if not is_plan_name(name):
            raise ConfigurationError(
                "plans: expected names of 1 to 64 letters, digits, '_' or '-' that begin with a "
                f"letter, got {name!r}."
            )
        if not isinstance(plan, Plan):
            raise ConfigurationError(
                f"plans.{name}: expected a Plan, got {type(plan).__name__}. Pass Plan(...)."
            )
        _check_profiles(name, plan, profiles)
    return dict(given)


def _check_profiles(name: str, plan: Plan, profiles: Mapping[str, Profile]) -> None:
    if plan.profiles is None:
        return
    if not plan.profiles:
        raise ConfigurationError(
            f"plans.{name}.profiles: expected at least one name, got none. Leave it out for the "
            "profiles that are open without a plan."
        )
    for each in plan.profiles:
        if each not in profiles:
            raise ConfigurationError(
                f"plans.{name}.profiles: expected names of profiles ({', '.join(profiles)}), got "
                f"{each!r}. Correct the name, or add the profile."
            )
