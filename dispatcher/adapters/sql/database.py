"""Transactions on the ledger's database: connected on first use, in whatever process that is; errors in our words."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Insert, Row, Select, Table, Update, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dispatcher.adapters.sql import engine as engines
from dispatcher.adapters.sql import trouble
from dispatcher.adapters.sql.spoken import Statement, at_once, spoken

T = TypeVar("T")
AnyRow = Row[*tuple[Any, ...]]

_NOW = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
}
_OUR_OWN_MISTAKES = (DataError, IntegrityError, ProgrammingError)  # waiting would not help; they must be seen
_CHUNK = 1000
_USUAL_KIB, _WIDE_KIB = 2000, 48_000  # of a SQLite file that are kept in memory


class Transaction:
    """One transaction: its connection, and what the databases spell differently."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.dialect = connection.dialect.name

    @cached_property
    def now(self) -> float:
        """The database's clock, the same for the whole transaction: seconds since the epoch."""
        return float(self.connection.exec_driver_sql(_NOW[self.dialect]).scalar_one())

    def widen(self) -> None:
        """Keep more of a file at hand on this connection, until ``narrow``: many rows go to many places of an index.
        With SQLite's own 2 MB each of them would be read, and spilled, again and again."""
        if self.dialect == "sqlite":
            self.connection.exec_driver_sql(f"PRAGMA cache_size = -{_WIDE_KIB}")

    def narrow(self) -> None:
        """As much as ever, and give back the rest."""
        if self.dialect == "sqlite":
            self.connection.exec_driver_sql(f"PRAGMA cache_size = -{_USUAL_KIB}")
            self.connection.exec_driver_sql("PRAGMA shrink_memory")

    def insert(self, table: Table) -> "postgresql.Insert | sqlite.Insert":
        """An INSERT that can say ON CONFLICT."""
        return insert_in(self.dialect, table)

    def rows(self, statement: Select[*tuple[Any, ...]], **parameters: Any) -> Sequence[tuple[Any, ...]]:
        """What a SELECT finds that stands in a module, as the driver has it."""
        result = self._said(statement, parameters)
        found = result.cursor.fetchall() if result.cursor is not None else ()
        result.close()
        return found

    def run(self, statement: Insert | Update, **parameters: Any) -> int:
        """Execute a statement that stands in a module; how many rows it has changed."""
        return self._said(statement, parameters).rowcount

    def many(self, statement: Insert | Update, rows: Sequence[dict[str, Any]]) -> int:
        """Execute a statement that stands in a module for every row of parameters, all with the same names; how many
        rows it has changed."""
        if not rows:
            return 0
        changed = 0
        said = spoken(statement, self.dialect, tuple(rows[0]))
        for chunk in chunks(rows):
            given = said.each(chunk)
            if self.dialect == "postgresql" and isinstance(statement, Update):
                changed += self.run(at_once(statement, tuple(rows[0])), rows=given)
            else:
                changed += self.connection.exec_driver_sql(said.words, given).rowcount
        return changed

    def _said(self, statement: Statement, parameters: dict[str, Any]) -> CursorResult[Any]:
        said = spoken(statement, self.dialect, tuple(parameters))
        return self.connection.exec_driver_sql(said.words, said.given(parameters))

    def numbers(self, table: Table, count: int) -> Sequence[int]:
        """Ids for so many new rows. Numbered here, rows of several tables can be written without asking back."""
        if self.dialect == "postgresql":
            sequence = func.nextval(func.pg_get_serial_sequence(table.name, "id"))
            return self.connection.execute(select(sequence).select_from(func.generate_series(1, count))).scalars().all()
        last = self.connection.execute(select(func.max(table.c.id))).scalar() or 0
        return range(last + 1, last + 1 + count)


def insert_in(dialect: str, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """An INSERT that can say ON CONFLICT, for a statement that is kept."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


class Database:
    """One ledger's connections. Threads share it; a child made by fork gets connections of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine: Engine | None = None
        self._pid = 0
        self._lock = threading.Lock()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Commit all of it or nothing. Raises LedgerUnavailable."""
        engine = self._connected()
        with _in_our_words(engine), engine.connect().execution_options(writing=True) as connection, connection.begin():
            yield Transaction(connection)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Everything that is read inside is of the same moment. Raises LedgerUnavailable."""
        engine = self._connected()
        options = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
        with _in_our_words(engine), engine.connect().execution_options(**options) as connection, connection.begin():
            yield Transaction(connection)

    @property
    def one_writes(self) -> bool:
        """Whether who writes keeps everybody else from it."""
        return self._url.startswith("sqlite")

    def close(self) -> None:
        """Close all connections; the next use would open new ones."""
        with self._lock:
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.dispose(close=self._pid == os.getpid())

    def _connected(self) -> Engine:
        with self._lock:
            if self._engine is not None and self._pid == os.getpid():
                return self._engine
            if self._engine is not None:
                self._engine.dispose(close=False)  # the parent goes on using these connections
            engine = engines.create(self._url)
            try:
                with _in_our_words(engine), engine.connect() as connection:
                    engines.check(connection)
            except BaseException:
                engine.dispose()
                raise
            self._engine, self._pid = engine, os.getpid()
            return engine


@contextmanager
def _in_our_words(engine: Engine) -> Iterator[None]:
    """The one seam where the database's errors become the ledger's."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        if isinstance(error, _OUR_OWN_MISTAKES) and trouble.sqlstate(error) != trouble.DENIED:
            raise
        raise trouble.unavailable(engine, error) from error


def chunks(items: Sequence[T], size: int = _CHUNK) -> Iterator[list[T]]:
    """The items in lists that fit into one statement: both databases have a limit to its parameters."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
