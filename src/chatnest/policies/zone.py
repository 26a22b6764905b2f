"""check_zone: validates the name of a time zone. No I/O of its own."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chatnest.errors import ConfigurationError

__all__ = ["check_zone"]


def check_zone(timezone: str) -> None:
    """Raise ConfigurationError unless it is the IANA name of a time zone."""
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, TypeError, ValueError, OSError) as exc:
        raise ConfigurationError(
            f"timezone: expected an IANA time zone, got {timezone!r}. Use a name such as "
            "'Europe/Berlin' or 'UTC'."
        ) from exc
