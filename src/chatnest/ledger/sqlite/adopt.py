"""What an operator does to the books as a whole: adopt a file, change the time zone of a limit."""

import secrets
from contextlib import closing
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chatnest.errors import ConfigurationError
from chatnest.ledger import model
from chatnest.ledger.audit import Adjustment, ZoneChange
from chatnest.ledger.days import day_of
from chatnest.ledger.sqlite.books import RowBooks
from chatnest.ledger.sqlite.place import Place
from chatnest.ledger.sqlite.schema import prepare
from chatnest.stores.wal import open_wal

__all__ = ["adopt", "change_zone"]

_LIVE: Final = "SELECT count(*) FROM holds WHERE state = 0 AND until > ? AND instr(lines, ?)"
_KEYS: Final = "SELECT key FROM counters WHERE key >= ? AND key < ?"


def adopt(path: str, busy_timeout: float) -> str:
    """Make the file at ``path`` the books from now on, and make the file where there is none.
    Says what was found. Raises sqlite3.Error.
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
                f"{path} is damaged, and was not adopted: move another file to this path, such as "
                "a backup, and try again"
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

    What an account has used on the day that runs in the old zone counts on the day that runs in
    the new one, too, by an adjustment: nobody has a second budget by the change. Raises
    ConfigurationError for a zone that is not known, and while answers are being written.
    """
    _check_zone(zone)
    now = books.now
    model.expire(books, now)
    kept = books.zone(name)
    if kept is None:
        raise ConfigurationError(f"no budget named {name!r} was ever counted in this ledger")
    (live,) = books.execute(_LIVE, (now, f'"{name}:')).fetchone()
    if live:
        raise ConfigurationError(
            f"{live:,} answers are being written, or their workers were killed within the last 30 "
            "seconds: stop all workers, wait, and try again"
        )
    before, after, carried = day_of(now, kept), day_of(now, zone), 0
    if before != after:
        bounds = f"{name}:{before}:", f"{name}:{before};"
        for (key,) in books.execute(_KEYS, bounds).fetchall():
            account = key.split(":", 2)[2]
            more = books.counter(key).used - books.counter(f"{name}:{after}:{account}").used
            if more > 0:
                carried += books.adjust(
                    Adjustment(
                        id=f"timezone:{secrets.token_hex(8)}",
                        account=account,
                        name=name,
                        day=after,
                        tokens=more,
                        reason=f"timezone {kept} to {zone}",
                        at=now,
                    )
                )
    books.keep_zone(name, zone)
    return ZoneChange(name=name, before=kept, after=zone, carried=carried)


def _check_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ConfigurationError(
            f"timezone: expected an IANA name such as 'Europe/Berlin' or 'UTC', got {zone!r}."
        ) from exc
