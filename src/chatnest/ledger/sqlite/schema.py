"""The tables of the ledger's file, and the migrations from older files."""

import sqlite3
from collections.abc import Iterator
from typing import Final

from chatnest.errors import ConfigurationError
from chatnest.stores.wal import STRICT

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "check_schema", "prepare"]

SCHEMA_VERSION: Final = 4
APPLICATION_ID: Final = 0x63686E74  # "chnt": identifies the file, also to file(1)

_ADJUSTMENTS: Final = f"""
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

_ZONES: Final = f"""
CREATE TABLE zones (
    name TEXT PRIMARY KEY NOT NULL,
    zone TEXT NOT NULL
) {STRICT};
"""

_IDENTITY: Final = f"""
CREATE TABLE books (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    word TEXT NOT NULL,
    generation INTEGER NOT NULL
) {STRICT};
INSERT INTO books VALUES (1, lower(hex(randomblob(8))), 0);
"""  # noqa: S608  # constants only
"""The identity of the books, and a generation that only grows, which reveals an older copy."""

_SCHEMA: Final = f"""
CREATE TABLE counters (
    key TEXT PRIMARY KEY NOT NULL,
    settled INTEGER NOT NULL CHECK (settled >= 0),
    held INTEGER NOT NULL CHECK (held >= 0),
    overrun INTEGER NOT NULL CHECK (overrun BETWEEN 0 AND settled - expired),
    expired INTEGER NOT NULL CHECK (expired BETWEEN 0 AND settled),
    changed_at INTEGER NOT NULL,
    adjusted INTEGER NOT NULL DEFAULT 0
) {STRICT};
CREATE INDEX counters_by_change ON counters (changed_at);
CREATE TRIGGER settled_is_never_taken_back BEFORE UPDATE ON counters
WHEN NEW.settled - NEW.expired < OLD.settled - OLD.expired OR NEW.overrun < OLD.overrun
BEGIN SELECT RAISE(ABORT, 'settled tokens may only be lowered by correcting expired ones'); END;

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
    admitted_at INTEGER NOT NULL
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
    model TEXT NOT NULL
) {STRICT};
CREATE INDEX turns_by_time ON turns (settled_at);
{_WINDOWS}
{_ADJUSTMENTS}
{_ZONES}
{_IDENTITY}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

_FROM_3: Final = f"""
{_ZONES}
{_IDENTITY}
PRAGMA user_version = {SCHEMA_VERSION};
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
{_ADJUSTMENTS}
{_FROM_2}
""",
    2: _FROM_2,
    3: _FROM_3,
}
"""Schema version of a file → the statements that bring it up to date."""


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Create the tables in a new file, or migrate an older one.

    Raises ConfigurationError for a file of another program or of a newer chatnest.
    """
    if _version(connection, path) == SCHEMA_VERSION:
        return
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
