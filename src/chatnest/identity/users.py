"""Users: the name of a user that a framework has authenticated. No I/O."""

import inspect
import re
from enum import Enum
from typing import Any, Final

from starlette.types import Scope

__all__ = ["framework_user"]

_USER: Final = 'scope["user"]'
_NAMES: Final = ("identity", "pk", "id", "username", "display_name")
_ADVICE: Final = "Make it a name, or give ChatNestApp an identify of your own."
_IN_MEMORY: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_NO_NAMES: Final = (bool, float, complex, bytes, bytearray, tuple, frozenset)


def framework_user(scope: Scope) -> str | None:
    """The name of ``scope["user"]`` if it is authenticated, otherwise None.

    The user may have the shape of Starlette or Django, be any object with an ``id``, or be a name
    itself. Raises TypeError for a user without a stable name: it would get a new budget with each
    request, or share one with other users.
    """
    user = scope.get("user")
    # Litestar's users have no such attribute: it sets authenticated users alone.
    if _is_missing(user) or not _is_authenticated(user):
        return None
    if isinstance(user, str | int):
        return f"user:{_stable_name(user, _USER)}"
    for attribute in _NAMES:
        value = _attribute(user, attribute)
        if not _is_missing(value):
            return f"user:{_stable_name(value, attribute)}"
    raise TypeError(
        f"{_USER}, of {_kind(user)}: expected one of {', '.join(_NAMES)} to be set. {_ADVICE}"
    )


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _is_authenticated(user: Any) -> bool:
    found = getattr(user, "is_authenticated", True)
    if callable(found):  # a method, as in Django before 1.10
        found = found()
    if inspect.isawaitable(found):
        if inspect.iscoroutine(found):
            found.close()
        raise TypeError(
            f"{_USER}.is_authenticated, of {_kind(user)}: expected a bool, got an "
            "awaitable. Give ChatNestApp an async identify of your own, which awaits it."
        )
    return bool(found)


def _stable_name(value: Any, attribute: str) -> str:
    """A text that is the same for the user in every request and process. Raises TypeError."""
    if isinstance(value, Enum):
        value = value.value
    kind = type(value)  # and not __class__, which a lazy object pretends to have
    if issubclass(kind, str):
        return str.__str__(value)  # a subclass may show another text than it has
    if issubclass(kind, int) and kind is not bool:
        return int.__repr__(value)
    if callable(value) or inspect.isawaitable(value) or not _is_value(value):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError(
            f"{attribute} of the authenticated user: expected a name, such as a str, an int or a "
            f"UUID, got {_kind(value)}. {_ADVICE}"
        )
    return str(value)


def _is_value(value: Any) -> bool:
    """Whether an object, such as a UUID or an ObjectId, is a value that its text identifies."""
    kind: Any = type(value)
    return (
        not isinstance(value, _NO_NAMES)
        and kind.__hash__ is not None
        and kind.__eq__ is not object.__eq__
        and kind.__str__ is not object.__str__
        and _IN_MEMORY.search(str(value)) is None
    )


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _attribute(user: Any, name: str) -> Any:
    try:
        return getattr(user, name, None)
    except NotImplementedError:  # Starlette's SimpleUser has a display_name and no identity
        return None
