"""Identity: the principal of a request, its groups and its plan, from ``identify``. No I/O."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from starlette.types import Scope

__all__ = ["Identify", "Identity", "is_plan_name"]

_NO_GROUPS: Final[Mapping[str, str]] = MappingProxyType({})
_MOST_GROUPS: Final = 16
_MAX_GROUP: Final = 256
"""Maximum characters of a group's value. Groups become accounts of the ledger."""
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""Without a colon, so that an account such as ``team:a`` has one reading."""
_SHOWN: Final = 64


class Identity(msgspec.Struct, frozen=True):
    """A principal, the groups that it belongs to, such as ``{"team": "a"}``, and its plan.

    ``groups`` is a read-only copy of at most 16 pairs. A name has 1 to 64 ASCII letters, digits,
    ``_`` or ``-`` and begins with a letter. A value has 1 to 256 printable characters, of which
    one is not a space. ``plan`` is a name of the same form, and one of the application's plans.
    ``profiles`` and ``models`` are names that narrow what is open to the principal; None narrows
    nothing. Raises TypeError for another type, and ValueError for any other group or plan:
    in ``identify`` both are a 500. The principal is checked afterwards, as a plain string is.
    """

    principal: str
    groups: Mapping[str, str] = _NO_GROUPS
    plan: str | None = None
    profiles: Collection[str] | None = None
    models: Collection[str] | None = None

    def __post_init__(self) -> None:
        if type(self.principal) is not str:  # a subclass may show another text than it has
            msgspec.structs.force_setattr(self, "principal", _text("principal", self.principal))
        if self.groups is not _NO_GROUPS:
            msgspec.structs.force_setattr(self, "groups", _groups(self.groups))
        if self.plan is not None:
            msgspec.structs.force_setattr(self, "plan", _plan(self.plan))
        if self.profiles is not None:
            msgspec.structs.force_setattr(self, "profiles", _names("profiles", self.profiles))
        if self.models is not None:
            msgspec.structs.force_setattr(self, "models", _names("models", self.models))


Identify = Callable[[Scope], str | Identity | Awaitable[str | Identity | None] | None]


def _groups(groups: object) -> Mapping[str, str]:
    if not isinstance(groups, Mapping):
        raise TypeError(
            f"groups: expected a mapping such as {{'team': 'a'}}, got {type(groups).__name__}."
        )
    if len(groups) > _MOST_GROUPS:
        raise ValueError(f"groups: expected at most {_MOST_GROUPS}, got {len(groups)}.")
    found: dict[str, str] = {}
    for name, value in groups.items():
        text = name if type(name) is str else _text("groups: name", name)
        found[text] = _value(text, value)
    return MappingProxyType(found)


def _value(name: str, value: object) -> str:
    """The value of a group, if it and the name are valid."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "groups: expected a name of 1 to 64 letters, digits, '_' or '-' that begins with a "
            f"letter, got {name[:_SHOWN]!a}."
        )
    value = value if type(value) is str else _text(f"groups[{name!r}]", value)
    if not 0 < len(value) <= _MAX_GROUP or not value.isprintable() or value.isspace():
        raise ValueError(
            f"groups[{name!r}]: expected 1 to {_MAX_GROUP} printable characters, got "
            f"{len(value)}: {value[:_SHOWN]!a}. Leave the group out if there is none."
        )
    return value


def is_plan_name(name: object) -> bool:
    """Whether a plan can have this name."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _plan(plan: object) -> str:
    name = _text("plan", plan)
    if not is_plan_name(name):
        raise ValueError(
            "plan: expected a name of 1 to 64 letters, digits, '_' or '-' that begins with a "
            f"letter, got {name[:_SHOWN]!a}. Leave it out if there is none."
        )
    return name


def _names(place: str, names: object) -> frozenset[str]:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError(f"{place}: expected a list of names, got {type(names).__name__}.")
    return frozenset(_text(place, name) for name in names)


def _text(place: str, value: object) -> str:
    """The text of a string, also of a subclass such as a StrEnum. Raises TypeError."""
    if not issubclass(type(value), str) or not isinstance(value, str):  # not a lazy object
        raise TypeError(f"{place}: expected a str, got {type(value).__name__}.")
    return str.__str__(value)
