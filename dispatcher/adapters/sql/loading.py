"""Many new rows at once, by the fastest way into each database."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError

from dispatcher.adapters.sql.database import Transaction

Values = Sequence[Any]


def load(tx: Transaction, table: Table, columns: tuple[str, ...], rows: Sequence[Values]) -> None:
    """Insert rows, whose values stand in the order of the columns and are what the driver takes: text, not JSON."""
    if not rows:
        return
    if tx.connection.dialect.name == "postgresql":
        _copy(tx, table.name, columns, rows)
    else:
        tx.connection.exec_driver_sql(_insert(table.name, columns), rows)


@cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - names of ours


def _copy(tx: Transaction, table: str, columns: tuple[str, ...], rows: Iterable[Values]) -> None:
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    driver: Any = tx.connection.connection.driver_connection
    errors = tx.connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except errors as error:  # as SQLAlchemy would have it, had it been asked
        raise DBAPIError.instance(statement, None, error, errors, hide_parameters=True) from error
