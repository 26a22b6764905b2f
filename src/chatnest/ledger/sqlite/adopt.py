"""Operations of an operator on the books as a whole: adopt a file, change a limit's time zone."""

import secrets
from contextlib import closing
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chatnest.errors import ConfigurationError
from chatnest.ledger import model
from chatnest.ledger.audit import ZoneChange
from chatnest.ledger.books import zone_of_scale
from chatnest.ledger.sqlite.books import RowBooks
from chatnest.ledger.sqlite.place import Place
from chatnest.ledger.sqlite.schema import prepare
from chatnest.stores.wal import open_wal

__all__ = ["adopt", "change_zone"]

_LIVE: Final = "SELECT count(*) FROM holds WHERE state = 0 AND until > ? AND instr(lines, ?)"


def adopt(path: str, busy_timeout: float) -> str:
    """Make the file at ``path`` the books from now on, and create it if it is missing. Returns a
    sentence about what was found. Raises sqlite3.Error.
    """
    place = Place(path)
    found = place.describe()
    dropped = place.drop_old_log()
    with closing(
        open_wal(
            path,
            lambda connection: prepare(connection, path),
            synchronous="FULL",
            busy_timeout=busy_timeout,
        )
    ) as connection:
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise ConfigurationError(
                f"{path}: expected a sound SQLite file, got a damaged one. Move another file to "
                "this path, such as a backup, and try again."
            )
        word = secrets.token_hex(8)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE books SET word = ?, generation = generation + 1", (word,))
        (counters,) = connection.execute("SELECT count(*) FROM counters").fetchone()
        connection.execute("COMMIT")
        place.adopted(word)
    log = "; the write-ahead log of another file was removed" if dropped else ""
    return f"{found}{log}. {path} has {counters:,} counters, and is the ledger from now on"


def change_zone(books: RowBooks, name: str, zone: str) -> ZoneChange:
    """Count the days of a limit in another zone from now on.

    A day of the old zone counts in each window of the new one that it reaches into, so that no
    account gets a second budget. Raises ConfigurationError for an unknown zone or limit, and while
    answers are being written.
    """
    _check_zone(zone)
    now = books.now
    model.expire(books, now)
    kept = books.zone(name)
    if kept is None:
        raise ConfigurationError(
            f"name: expected a budget that was counted, got {name!r}. Check the name."
        )
    (live,) = books.execute(_LIVE, (now, f'"{name}:')).fetchone()
    if live:
        raise ConfigurationError(
            f"{name}: expected a budget without holds, got {live:,} answers being written. Stop "
            "all workers, wait 30 seconds, and run the same command again."
        )
    unit = kept.removesuffix(zone_of_scale(kept))
    books.keep_zone(name, f"{unit}{zone}")
    return ZoneChange(name=name, before=zone_of_scale(kept), after=zone)


def _check_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ConfigurationError(
            f"timezone: expected an IANA name such as 'Europe/Berlin' or 'UTC', got {zone!r}."
        ) from exc
