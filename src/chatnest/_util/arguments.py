"""Arguments: checks of type and range, at the start and not in each request. No I/O."""

import inspect
from typing import Final

from chatnest.errors import ConfigurationError

__all__ = ["check_integer", "check_kinds", "check_parts", "check_plain", "check_positive"]

_PARTS: Final = {
    "provider": ("open", "OpenAIProvider(model=MODEL)"),
    "ledger": ("reserve", "SQLiteLedger(PATH), RedisLedger(URL) or MemoryLedger()"),
    "identify": ("__call__", "TrustedHeader(NAME), or a function"),
}
"""Argument → its method, and examples."""


def check_parts(**parts: object) -> None:
    """Raise ConfigurationError for an argument without its method, such as a name or a URL.

    The message shows the type and not the value, since a URL may contain a password.
    """
    for name, part in parts.items():
        method, examples = _PARTS[name]
        if part is not None and (isinstance(part, type) or not hasattr(part, method)):
            got = f"the class {part.__name__}" if isinstance(part, type) else type(part).__name__
            raise ConfigurationError(
                f"{name}: expected an object with {method}(), got {got}. "
                f"Pass for example {examples}."
            )


def check_kinds(**settings: tuple[object, type]) -> None:
    """Raise ConfigurationError if a setting is not an instance of its settings class."""
    for name, (value, kind) in settings.items():
        if value is not None and not isinstance(value, kind):
            raise ConfigurationError(
                f"{name}: expected {kind.__name__}, got {type(value).__name__}. "
                f"Pass {kind.__name__}(...)."
            )


def check_plain(place: str, function: object) -> None:
    """Raise ConfigurationError for an async function where a plain one is called."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"{place}: expected a plain function, got an async one. Use def.")


def check_positive(**numbers: object) -> None:
    """Raise ConfigurationError unless every value is a number greater than 0."""
    for name, value in numbers.items():
        if not isinstance(value, int | float) or not value > 0:
            raise ConfigurationError(f"{name}: expected a number > 0, got {value!r}.")


def check_integer(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raise ConfigurationError unless ``value`` is an integer in the range and not a bool."""
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and value >= least
        and (most is None or value <= most)
    ):
        return
    range_of = f">= {least}" if most is None else f"from {least} to {most}"
    raise ConfigurationError(f"{name}: expected an integer {range_of}, got {value!r}.")
