"""The rows of a query on a database of the company's own: read only, of one moment, page by page in a key's order."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, TextClause, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from dispatcher.audience import BadRow
from dispatcher.errors import AudienceError

_PAGE = 2000
_MAX_TEXT = 65_536  # characters
_POSTGRES = {"application_name": "dispatcher", "connect_timeout": "10"}


def url_of(given: str) -> str:
    """A database's URL as it is given: itself, ``env:NAME`` or ``file:PATH``, so that no password need be on a command
    line. Raises AudienceError."""
    if given.startswith("env:"):
        if not (found := os.environ.get(given[4:])):
            raise AudienceError("--sql", f"the environment has no {given[4:]}")
        return found
    if given.startswith("file:"):
        try:
            return Path(given[5:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise AudienceError("--sql", f"cannot read {given[5:]}") from None
    return given


class Query:
    """``interfaces.Rows`` of a SELECT. Rows are numbered as they come, from 1.

    ``key``: a column of it that no two rows share and that none lacks; that is checked on the way. Nothing of the URL
    but the database's name is ever shown.
    """

    size: int | None = None
    done = 0

    def __init__(self, url: str, select: str, key: str) -> None:
        self._engine, name = _engine(url)
        self._select, self._key = select.strip().rstrip(";").rstrip(), key
        self.source = f"{name}: {' '.join(self._select.split())}"
        self.details: Mapping[str, str] = {"database": name, "key": key}
        with self._reading() as connection:
            self.header: Sequence[str] = list(connection.execute(self._page(first=True), {"size": 0}).keys())
            if key not in self.header:
                raise AudienceError("--key", f"the query has no column {key!r}; it has: {', '.join(self.header)}")

    def __iter__(self) -> Iterator[tuple[int, Sequence[Any]] | BadRow]:
        place = self.header.index(self._key)
        number, last, first = 0, None, True
        with self._reading() as connection:
            self._check_key(connection)
            while True:
                given = {"size": _PAGE + 1} if first else {"size": _PAGE + 1, "last": last}
                rows = connection.execute(self._page(first=first), given).fetchall()
                for row in rows if first else rows[1:]:  # the last one comes again: so another with its key is seen
                    if number and row[place] == last:
                        raise AudienceError(
                            "--key",
                            f"two rows have the {self._key} {last!r}: name a column of which every value is there once",
                        )
                    number, last = number + 1, row[place]
                    yield _read(number, row, self.header)
                if len(rows) <= _PAGE:
                    return
                first = False

    def _check_key(self, connection: Connection) -> None:
        counting = f"SELECT count(*) FROM ({{}}) AS listed WHERE {self._quoted} IS NULL"  # noqa: S608 - quoted
        if missing := connection.execute(self._said(counting)).scalar_one():
            raise AudienceError("--key", f"{self._key} is empty in {missing:,} rows: name a column that none lacks")

    @property
    def _quoted(self) -> str:
        return self._engine.dialect.identifier_preparer.quote_identifier(self._key)

    def _page(self, *, first: bool) -> TextClause:
        behind = "" if first else f" WHERE {self._quoted} >= :last"
        return self._said(f"SELECT * FROM ({{}}) AS listed{behind} ORDER BY {self._quoted} LIMIT :size")  # noqa: S608 - quoted

    def _said(self, words: str) -> TextClause:
        """Around the query, in which a colon is a colon. Its last line may be a comment."""
        around, behind = words.split("{}")
        return text(around + self._select.replace(":", "\\:") + "\n" + behind)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        options: dict[str, Any] = {}
        if self._engine.dialect.name == "postgresql":
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            raise AudienceError("--sql", _reason(error)) from None
        except SQLAlchemyError as error:
            raise AudienceError("--sql", str(error).splitlines()[0]) from None


def of_table_named(name: str) -> str:
    """The query of a whole table, which may be named with its schema. Raises AudienceError."""
    parts = name.split(".")
    if not all(parts) or '"' in name:
        raise AudienceError("--table", f"{name!r} is no name of a table")
    return "SELECT * FROM " + ".".join(f'"{part}"' for part in parts)  # noqa: S608 - quoted


def _engine(url: str) -> tuple[Engine, str]:
    """An engine that only reads, and the database's name to be shown."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise AudienceError(
            "--sql", "is no database URL such as postgresql://USER@HOST/NAME or sqlite:///PATH"
        ) from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return _sqlite(parsed)
    if kind != "postgresql":
        raise AudienceError("--sql", f"{kind}:// is not known: use postgresql:// or sqlite:///")
    try:
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg", query={**_POSTGRES, **parsed.query}),
            poolclass=NullPool,
            hide_parameters=True,
        )
    except ModuleNotFoundError:
        raise AudienceError("--sql", "PostgreSQL needs its driver: pip install 'maildispatcher[postgres]'") from None
    return engine, f"postgresql://{parsed.host or ''}/{parsed.database or ''}"


def _sqlite(url: URL) -> tuple[Engine, str]:
    path = Path(url.database or "")
    if not path.is_file():
        raise AudienceError("--sql", f"there is no file {path}")
    uri = f"file:{quote(str(path.resolve()))}"
    engine = create_engine(
        URL.create("sqlite", database=uri, query={"mode": "ro", "uri": "true"}),
        poolclass=NullPool,
        hide_parameters=True,
    )
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine, f"sqlite:///{path.name}"


def _reason(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


def _read(number: int, row: Sequence[Any], header: Sequence[str]) -> tuple[int, Sequence[Any]] | BadRow:
    for name, cell in zip(header, row, strict=True):
        if isinstance(cell, str) and (len(cell) > _MAX_TEXT or "\0" in cell):
            reason = "holds a NUL" if "\0" in cell else f"has more than {_MAX_TEXT:,} characters"
            return BadRow(number, name, reason, str(tuple(row))[:1000])
    return number, list(row)
