"""To the schema that this code needs, with the data in place, while the programs before and after use the ledger.

Migrations only add (a minor version) and are one short transaction. Indexes of tables that may be large are made after
it, one by one: PostgreSQL does so without locking anybody out.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

from sqlalchemy import Connection, Engine, Index, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateIndex

from dispatcher.adapters.sql.schema import SCHEMA, metadata
from dispatcher.adapters.sql.trouble import LOCKED_OUT, SETTING, place, sqlstate
from dispatcher.errors import ConfigurationError, LedgerUnavailable

_UPGRADE_LOCK = 7165124830  # any number, the same for all who upgrade
_PATIENCE_SECONDS = 60.0
# While a change waits for its lock, everybody else waits behind it. Less than deadlock_timeout, so that of two who wait
# for each other it is never the worker that has to give up.
_LOCK_TIMEOUT = "300ms"


def version(connection: Connection) -> str | None:
    """The schema that the ledger has; None for none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def is_current(found: str | None) -> TypeGuard[str]:
    """Whether this code can use that schema. Raises ConfigurationError for one of a newer program."""
    if found is None or _numbers(found) < _numbers(SCHEMA):
        return False
    if _numbers(found)[0] > _numbers(SCHEMA)[0]:
        raise ConfigurationError(
            SETTING, f"the ledger has schema {found}, made by a newer program; this one knows {SCHEMA}: update it"
        )
    return True


def _numbers(found: str) -> tuple[int, ...]:
    return tuple(int(part) for part in found.split("."))


def migrate(engine: Engine) -> str:
    """Create or change the tables as need be; the schema's version then. Raises ConfigurationError, LedgerUnavailable
    when a table is in use for too long, and what the database raises."""
    if engine.dialect.name == "postgresql":
        return _migrate_server(engine)
    with engine.connect() as connection:
        found = version(connection)
    if is_current(found):
        return found
    with engine.connect().execution_options(writing=True) as connection, connection.begin():
        found = _apply(connection)
        if found == SCHEMA:
            _index(connection)
    return found


def _migrate_server(engine: Engine) -> str:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as alone, _turn(alone):
        found = _apply_patiently(engine)
        if found == SCHEMA:
            _index(alone)
    return found


def _apply_patiently(engine: Engine) -> str:
    """Give up a change whose lock is not to be had in a moment, and try again a little later."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with engine.connect() as connection, connection.begin():
                connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
                return _apply(connection)
        except OperationalError as error:
            if sqlstate(error) not in LOCKED_OUT:
                raise
        if time.monotonic() > until:
            raise LedgerUnavailable(
                f"ledger {place(engine)}: nothing was changed: others held its tables for {_PATIENCE_SECONDS:g} s;"
                " end what is `idle in transaction` or runs for long, and run `dispatcher db upgrade` again"
            )
        time.sleep(random.uniform(0.3, 1.0))  # noqa: S311 - spreads load, guards nothing


def _apply(connection: Connection) -> str:
    """Run the migrations that are missing, in the transaction that has begun."""
    found = version(connection)
    if is_current(found):
        return found
    from alembic import command  # noqa: PLC0415 - slow to import, and needed once in a ledger's life
    from alembic.config import Config  # noqa: PLC0415 - the same

    config = Config()
    config.set_main_option("script_location", "dispatcher.adapters.sql:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, SCHEMA)
    return SCHEMA


def _index(connection: Connection) -> None:
    """Make the indexes that are missing."""
    for index in _missing(connection):
        if connection.dialect.name == "postgresql":
            connection.execute(text(f'DROP INDEX CONCURRENTLY IF EXISTS "{index.name}"'))  # of one that was interrupted
            index.dialect_options["postgresql"]["concurrently"] = True
        connection.execute(CreateIndex(index))


def _missing(connection: Connection) -> Iterator[Index]:
    names = "SELECT name FROM sqlite_master WHERE type = 'index'"
    if connection.dialect.name == "postgresql":
        names = (
            "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " WHERE indisvalid AND relnamespace = current_schema()::regnamespace"
        )
    made = set(connection.execute(text(names)).scalars())
    for table in metadata.sorted_tables:
        yield from (
            index for index in sorted(table.indexes, key=lambda index: str(index.name)) if index.name not in made
        )


@contextmanager
def _turn(alone: Connection) -> Iterator[None]:
    """One after the other. Asked for again and again, since an index is not made while another transaction waits."""
    number = {"number": _UPGRADE_LOCK}
    while not alone.execute(text("SELECT pg_try_advisory_lock(:number)"), number).scalar_one():
        time.sleep(random.uniform(0.1, 0.3))  # noqa: S311 - spreads load, guards nothing
    try:
        yield
    finally:
        alone.execute(text("SELECT pg_advisory_unlock(:number)"), number)
