"""The tables of the ledger's file, and the migrations from older files."""

import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Facts
from chatnest.ledger.days import end_of
from chatnest.ledger.usage import groups_text
from chatnest.stores.wal import STRICT

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "check_schema", "prepare"]

SCHEMA_VERSION: Final = 6
APPLICATION_ID: Final = 0x63686E74  # "chnt": identifies the file, also to file(1)

_ADJUSTMENTS_OF_2: Final = f"""
CREATE TABLE adjustments (
    id TEXT NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    day TEXT NOT NULL,
    tokens INTEGER NOT NULL CHECK (tokens <> 0),
    reason TEXT NOT NULL CHECK (reason <> ''),
    at INTEGER NOT NULL,
    PRIMARY KEY (account, id)
) {STRICT};
CREATE INDEX adjustments_by_time ON adjustments (at);
"""

_ADJUSTMENTS: Final = _ADJUSTMENTS_OF_2.replace("tokens", "amount")

_WINDOWS: Final = f"""
CREATE TABLE windows (
    key TEXT NOT NULL,
    part INTEGER NOT NULL,
    number INTEGER NOT NULL,
    entries TEXT NOT NULL,
    gone INTEGER NOT NULL,
    oldest INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (key, part)
) {STRICT};
CREATE INDEX windows_by_change ON windows (changed_at);
"""

_BUCKETS: Final = f"""
CREATE TABLE buckets (
    key TEXT PRIMARY KEY NOT NULL,
    buckets TEXT NOT NULL,
    changed_at INTEGER NOT NULL
) {STRICT};
CREATE INDEX buckets_by_change ON buckets (changed_at);
"""
"""Sliding windows of amounts, each as a JSON text of its few buckets."""

_COUNTERS: Final = f"""
CREATE TABLE counters (
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    day TEXT NOT NULL,
    settled INTEGER NOT NULL CHECK (settled >= 0),
    held INTEGER NOT NULL CHECK (held >= 0),
    overrun INTEGER NOT NULL CHECK (overrun BETWEEN 0 AND settled - expired),
    expired INTEGER NOT NULL CHECK (expired BETWEEN 0 AND settled),
    adjusted INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (name, account, day)
) WITHOUT ROWID{STRICT and ", " + STRICT};
CREATE INDEX counters_by_change ON counters (changed_at);
CREATE TRIGGER settled_is_never_taken_back BEFORE UPDATE ON counters
WHEN NEW.settled - NEW.expired < OLD.settled - OLD.expired OR NEW.overrun < OLD.overrun
BEGIN SELECT RAISE(ABORT, 'what was settled may only be lowered by correcting expired holds'); END;
"""
"""The counters of a name and an account, beside each other, so that a month is quickly added up."""

_ZONES: Final = f"""
CREATE TABLE zones (
    name TEXT PRIMARY KEY NOT NULL,
    zone TEXT NOT NULL
) {STRICT};
"""

_EVER: Final = "ALTER TABLE zones ADD COLUMN ever INTEGER NOT NULL DEFAULT 0;"
"""Whether days of this name that are no longer kept are added up."""

_WARNINGS: Final = f"""
ALTER TABLE holds ADD COLUMN watched TEXT NOT NULL DEFAULT '';
CREATE TABLE watches (
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    period TEXT NOT NULL,
    grants INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    watch TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (name, account, period)
) {STRICT};
CREATE INDEX watches_by_change ON watches (changed_at);
CREATE TRIGGER a_mark_never_falls BEFORE UPDATE ON watches
WHEN NEW.mark < OLD.mark AND NEW.grants = OLD.grants
BEGIN SELECT RAISE(ABORT, 'the mark of a watched window only rises'); END;
CREATE TABLE crossings (
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    period TEXT NOT NULL,
    threshold INTEGER NOT NULL CHECK (threshold BETWEEN 1 AND 1000),
    unit TEXT NOT NULL,
    used INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    at INTEGER NOT NULL,
    due INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (name, account, period, threshold)
) {STRICT};
CREATE INDEX crossings_pending ON crossings (due) WHERE state = 'pending';
"""
"""The windows that holds watch, with the highest threshold crossed, and a row for each crossing."""

_IDENTITY: Final = f"""
CREATE TABLE books (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    word TEXT NOT NULL,
    generation INTEGER NOT NULL
) {STRICT};
INSERT INTO books VALUES (1, lower(hex(randomblob(8))), 0);
"""  # noqa: S608  # constants only
"""The identity of the books, and a generation that only grows, which reveals an older copy."""

_USAGE: Final = f"""
CREATE TABLE usage (
    day TEXT NOT NULL,
    principal TEXT NOT NULL,
    model TEXT NOT NULL,
    profile TEXT NOT NULL,
    outcome TEXT NOT NULL,
    groups TEXT NOT NULL,
    turns INTEGER NOT NULL CHECK (turns >= 0),
    tokens INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_written_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    money INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    PRIMARY KEY (day, principal, model, profile, outcome, groups)
) WITHOUT ROWID{STRICT and ", " + STRICT};
"""
"""The roll-up of turns, in the order in which a principal's days are read."""

_REFUSALS: Final = f"""
CREATE TABLE refusals (
    hour TEXT NOT NULL,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (hour, name)
) WITHOUT ROWID{STRICT and ", " + STRICT};
"""

_CURRENCY: Final = "ALTER TABLE books ADD COLUMN currency TEXT NOT NULL DEFAULT '';"
"""The currency of all amounts of money, once there are any."""

_FILL_USAGE: Final = """
INSERT INTO usage
SELECT date(settled_at / 1000, 'unixepoch') AS day, principal, model, profile, outcome,
    of_facts(facts, 'groups') AS groups, count(*), sum(tokens), sum(input_tokens),
    sum(of_facts(facts, 'cached_tokens')), sum(of_facts(facts, 'cache_written_tokens')),
    sum(output_tokens), sum(of_facts(facts, 'reasoning_tokens')), sum(money),
    sum(source = 'estimated')
FROM turns GROUP BY day, principal, model, profile, outcome, groups;
"""
"""Adds up the records that are kept, so that the roll-up begins with them."""

_SCHEMA: Final = f"""
{_COUNTERS}
CREATE TABLE holds (
    id TEXT PRIMARY KEY NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
    until INTEGER NOT NULL,
    charged INTEGER NOT NULL
        CHECK (charged >= 0)
        CHECK (state IN (1, 3) OR charged = 0)
        CHECK (state <> 3 OR charged = tokens),
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    lines TEXT NOT NULL,
    admitted_at INTEGER NOT NULL,
    charged_money INTEGER NOT NULL DEFAULT 0 CHECK (charged_money >= 0),
    money INTEGER NOT NULL DEFAULT 0 CHECK (money >= 0),
    output INTEGER NOT NULL DEFAULT 0
) {STRICT};
CREATE INDEX holds_by_end ON holds (state, until);
CREATE TRIGGER a_hold_ends_once BEFORE UPDATE ON holds
WHEN NEW.state <> OLD.state AND NOT (OLD.state = 0 OR (OLD.state = 3 AND NEW.state IN (1, 2)))
BEGIN SELECT RAISE(ABORT, 'this hold has ended'); END;

CREATE TABLE turns (
    hold TEXT PRIMARY KEY NOT NULL,
    admitted_at INTEGER,
    settled_at INTEGER NOT NULL,
    held INTEGER NOT NULL,
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    source TEXT NOT NULL,
    outcome TEXT NOT NULL,
    principal TEXT NOT NULL,
    profile TEXT NOT NULL,
    model TEXT NOT NULL,
    held_money INTEGER NOT NULL DEFAULT 0,
    money INTEGER NOT NULL DEFAULT 0 CHECK (money >= 0),
    facts TEXT NOT NULL DEFAULT '{{}}'
) {STRICT};
CREATE INDEX turns_by_time ON turns (settled_at);
{_WINDOWS}
{_BUCKETS}
{_ADJUSTMENTS}
{_ZONES}
{_EVER}
{_WARNINGS}
{_IDENTITY}
{_USAGE}
{_REFUSALS}
{_CURRENCY}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

_FROM_5: Final = f"""
{_WARNINGS}
{_USAGE}
{_FILL_USAGE}
{_REFUSALS}
{_CURRENCY}
PRAGMA user_version = {SCHEMA_VERSION};
"""

_FROM_4: Final = f"""
{_EVER}
ALTER TABLE adjustments RENAME COLUMN tokens TO amount;
ALTER TABLE holds ADD COLUMN charged_money INTEGER NOT NULL DEFAULT 0 CHECK (charged_money >= 0);
ALTER TABLE holds ADD COLUMN money INTEGER NOT NULL DEFAULT 0 CHECK (money >= 0);
ALTER TABLE holds ADD COLUMN output INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN held_money INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN money INTEGER NOT NULL DEFAULT 0 CHECK (money >= 0);
ALTER TABLE turns ADD COLUMN facts TEXT NOT NULL DEFAULT '{{}}';
{_BUCKETS}
DROP INDEX counters_by_change;
DROP TRIGGER settled_is_never_taken_back;
ALTER TABLE counters RENAME TO counters_of_4;
{_COUNTERS}
INSERT INTO counters
SELECT name, substr(rest, instr(rest, ':') + 1), substr(rest, 1, instr(rest, ':') - 1),
    settled, held, overrun, expired, adjusted,
    end_of(substr(rest, 1, instr(rest, ':') - 1),
        (SELECT zone FROM zones WHERE zones.name = split.name)), changed_at
FROM (
    SELECT *, substr(key, 1, instr(key, ':') - 1) AS name, substr(key, instr(key, ':') + 1) AS rest
    FROM counters_of_4
) AS split;
DROP TABLE counters_of_4;
{_FROM_5}
"""  # noqa: S608  # constants only

_FROM_3: Final = f"""
{_ZONES}
{_IDENTITY}
{_FROM_4}
"""

_FROM_2: Final = f"""
DROP INDEX windows_by_change;
ALTER TABLE windows RENAME TO windows_of_2;
{_WINDOWS}
INSERT INTO windows SELECT key, 0, 0, entries, 0, 0, changed_at FROM windows_of_2;
DROP TABLE windows_of_2;
{_FROM_3}
"""  # noqa: S608  # constants only

_FROM: Final = {
    0: _SCHEMA,
    1: f"""
ALTER TABLE counters ADD COLUMN adjusted INTEGER NOT NULL DEFAULT 0;
{_ADJUSTMENTS_OF_2}
{_FROM_2}
""",
    2: _FROM_2,
    3: _FROM_3,
    4: _FROM_4,
    5: _FROM_5,
}
"""Schema version of a file → the statements that bring it up to date."""


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Create the tables in a new file, or migrate an older one.

    Raises ConfigurationError for a file of another program or of a newer chatnest.
    """
    if _version(connection, path) == SCHEMA_VERSION:
        return
    connection.create_function("end_of", 2, _end_of, deterministic=True)
    connection.create_function("of_facts", 2, _of_facts, deterministic=True)
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection, path)  # another process may have done it by now
    for statement in _statements(_FROM.get(version, "")):
        connection.execute(statement)
    connection.execute("COMMIT")


def check_schema(connection: sqlite3.Connection, path: str) -> None:
    """Raise ConfigurationError if a newer chatnest has changed the tables of an open file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise _newer(path, version)


def _newer(path: str, version: int) -> ConfigurationError:
    return ConfigurationError(
        f"path: expected a ledger with schema {SCHEMA_VERSION} or older, got {path!r} of a newer "
        f"chatnest (schema {version}). Update chatnest."
    )


def _version(connection: sqlite3.Connection, path: str) -> int:
    version: int
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (version or application or tables):
        raise ConfigurationError(
            f"path: expected a file of chatnest, got {path!r}, which belongs to another program. "
            "Choose another path."
        )
    if version > SCHEMA_VERSION:
        raise _newer(path, version)
    return version


def _statements(script: str) -> Iterator[str]:
    """The statements one by one, since sqlite3's ``executescript`` would commit first."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _of_facts(facts: str, name: str) -> str | int:
    """A figure of a record's facts, or its groups as the roll-up has them."""
    read = msgspec.json.decode(facts, type=Facts)
    if name == "groups":
        return groups_text(read.groups)
    figure: int = getattr(read, name)
    return figure


def _end_of(day: str, zone: str | None) -> int:
    """When the day of a counter ended; 0 without a day."""
    return end_of(day, zone or "UTC") if day else 0
