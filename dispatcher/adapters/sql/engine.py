"""Engines for SQLite and PostgreSQL as a ledger needs them, and the way to a schema that this code can use."""

import os
import re
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from dispatcher.adapters.sql.migrating import is_current, migrate, version
from dispatcher.adapters.sql.schema import SCHEMA
from dispatcher.adapters.sql.trouble import SETTING, reason, refuse_reading_only, refuse_standby, unavailable
from dispatcher.errors import ConfigurationError

_OLDEST_SQLITE = (3, 35, 0)  # RETURNING
_BUSY_SECONDS = "15"
_PASSES = re.compile("locked|disk is full|disk I/O error")  # the last: a file beside it that finds no room, too
_POSTGRES = {
    "application_name": "dispatcher",
    "connect_timeout": "5",
    # A host that vanished is noticed in half a minute; the system's own defaults take hours.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}


def create(url: str) -> Engine:
    """An engine for a ledger; it connects to nothing yet.

    Raises ConfigurationError for what is no URL of a SQLite file or of PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise ConfigurationError(SETTING, "is no database URL; try sqlite:////path/to/ledger.db") from None
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite(parsed)
    if parsed.drivername == "postgresql+psycopg":
        return _postgres(parsed)
    raise ConfigurationError(SETTING, f"{parsed.drivername}:// is not known; use sqlite:/// or postgresql+psycopg://")


def _sqlite(url: URL) -> Engine:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(SETTING, f"SQLite {sqlite3.sqlite_version} is too old; 3.35 is the oldest that works")
    if url.database in (None, "", ":memory:"):
        raise ConfigurationError(SETTING, "a ledger in memory would remember nothing; name a file: sqlite:////path")
    engine = create_engine(url.set(query={"timeout": _BUSY_SECONDS, **url.query}), hide_parameters=True)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # sqlite3 would begin transactions by itself, and late; we say when, and how
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: one that reads first could not wait for it later without starting over.
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _postgres(url: URL) -> Engine:
    try:
        return create_engine(url.set(query={**_POSTGRES, **url.query}), pool_pre_ping=True, hide_parameters=True)
    except ModuleNotFoundError:
        raise ConfigurationError(
            SETTING, "PostgreSQL needs its driver: pip install 'maildispatcher[postgres]'"
        ) from None


def check(connection: Connection) -> None:
    """Raises ConfigurationError, saying what to do, for a ledger that this code cannot use, LedgerUnavailable for one
    that takes no changes."""
    _refuse_reading_only(connection)
    found = version(connection)
    if not is_current(found):
        state = "has no tables yet" if found is None else f"has schema {found}, and this program needs {SCHEMA}"
        raise ConfigurationError(SETTING, f"the ledger {state}: run `dispatcher db upgrade`")


def upgrade(url: str) -> str:
    """Create or migrate the ledger, with data in place; the schema's version that it has then.

    A new SQLite file is created in a folder that exists. Safe to call by several processes at once, and while workers
    use the ledger. Raises ConfigurationError for a ledger that a newer program made, or a file that cannot be written,
    LedgerUnavailable for a server that is out of reach, takes no changes, or is too busy.
    """
    engine = create(url)
    try:
        with engine.connect() as connection:
            _refuse_reading_only(connection)
        return migrate(engine)
    except DBAPIError as error:
        if engine.dialect.name == "sqlite" and not _PASSES.search(str(error.orig)):
            why = f"cannot use {engine.url.database} as a ledger: {reason(error)}"
            raise ConfigurationError(SETTING, why) from None
        raise unavailable(engine, error) from None
    finally:
        engine.dispose()


def _refuse_reading_only(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        if connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one():
            refuse_standby(connection.engine)
        if connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on":
            refuse_reading_only(connection.engine)
        return
    path = connection.engine.url.database or ""
    if Path(path).exists() and not os.access(path, os.W_OK):
        raise ConfigurationError(SETTING, f"{path} is read-only: let this user write to the file and to its folder")
