"""Statements in a database's own words: written in SQLAlchemy's, compiled once, executed by the driver.

What SQLAlchemy does for each execution, and for each parameter and column of each row, costs more than the database
does; so what is asked for every mail is asked without it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    JSON,
    BindParameter,
    ColumnElement,
    Dialect,
    Float,
    Insert,
    Numeric,
    Select,
    Text,
    Update,
    bindparam,
    cast,
    column,
    func,
    literal,
)
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import TypeDecorator

Statement = Insert | Update | Select[*tuple[Any, ...]]

_DIALECTS: dict[str, Dialect] = {
    "sqlite": pysqlite.dialect(paramstyle="qmark"),
    "postgresql": psycopg.dialect(),  # type: ignore[no-untyped-call]  # names its parameters
}


@dataclass(frozen=True, slots=True)
class Spoken:
    """A statement in a database's words; what is done to its parameters before; the order in which they stand in the
    words, unless they have names there; and those that are always the same."""

    words: str
    processes: Sequence[tuple[str, Callable[[Any], Any]]]
    order: Sequence[str]
    constants: Mapping[str, Any]

    def given(self, parameters: Mapping[str, Any]) -> tuple[Any, ...] | dict[str, Any]:
        """The parameters of one execution, as the driver takes them."""
        all_of_them = {**self.constants, **parameters}
        self.process(all_of_them)
        return tuple([all_of_them[name] for name in self.order]) if self.order else all_of_them

    def each(self, rows: Sequence[dict[str, Any]]) -> Sequence[tuple[Any, ...] | dict[str, Any]]:
        """Those of many executions: two or more for each, none of them always the same."""
        for name, process in self.processes:
            for row in rows:
                row[name] = process(row[name])
        return list(map(itemgetter(*self.order), rows)) if self.order else rows

    def process(self, parameters: dict[str, Any]) -> None:
        """As their types want it."""
        for name, process in self.processes:
            parameters[name] = process(parameters[name])


@lru_cache(maxsize=200)
def spoken(statement: Statement, dialect: str, names: tuple[str, ...]) -> Spoken:
    """A statement that stands in a module, with parameters of these names."""
    words = _DIALECTS[dialect]
    compiled = statement.compile(dialect=words, column_keys=list(names))
    assert isinstance(compiled, SQLCompiler)  # noqa: S101 - not DDL: for the type checker
    # Numbers go as they are.
    kinds = {name: bind.type for name, bind in compiled.binds.items() if not isinstance(bind.type, Numeric | Float)}
    processes = {name: process for name, kind in kinds.items() if (process := kind.bind_processor(words))}
    constants = {name: value for name, value in compiled.params.items() if name not in names}
    return Spoken(
        str(compiled),
        [(name, process) for name, process in processes.items() if name in names],
        compiled.positiontup or (),
        {name: processes[name](value) if name in processes else value for name, value in constants.items()},
    )


@lru_cache(maxsize=50)
def at_once(statement: Update, names: tuple[str, ...]) -> Update:
    """An UPDATE of one row, as PostgreSQL makes it of all the rows in its one parameter ``rows``.

    Said once for each row, it would be read, planned and answered as often.
    """
    columns = statement.table.columns

    def type_of(name: str) -> Any:
        return columns[name].type if name in columns else columns["id"].type

    rows = func.json_to_recordset(cast(bindparam("rows", type_=_Listed()), JSON))
    given = rows.table_valued(*(column(name, type_of(name)) for name in names)).render_derived(with_types=True)

    def of_its_row(element: Any, **_: Any) -> ColumnElement[Any] | None:
        return given.c[element.key] if isinstance(element, BindParameter) and element.key in names else None

    one: Any = statement.values({name: given.c[name] for name in names if name in columns})
    changed: Update = replacement_traverse(one, {}, of_its_row)
    return changed


class _Listed(TypeDecorator[Any]):
    """A list that is one parameter."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002 - SQLAlchemy's signature
        return json.dumps(value)


class _Among(FunctionElement[bool]):
    """The column, and the list."""

    inherit_cache = True


def among(column: ColumnElement[Any], name: str = "among") -> ColumnElement[bool]:
    """The column is one of those in the list that the parameter ``name`` is. However many they are, it is the same
    statement."""
    return _Among(column, bindparam(name, type_=_Listed()))


def one_of(column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """The column is one of these, which are always the same."""
    return column.in_([literal(value) for value in values])


@compiles(_Among, "sqlite")
def _among_sqlite(among: _Among, compiler: SQLCompiler, **options: Any) -> str:
    one, listed = (compiler.process(part, **options) for part in among.clauses)
    return f"({one} IN (SELECT value FROM json_each({listed})))"  # noqa: S608 - of compiled parts


@compiles(_Among, "postgresql")
def _among_postgresql(among: _Among, compiler: SQLCompiler, **options: Any) -> str:
    one, listed = (compiler.process(part, **options) for part in among.clauses)
    kind = compiler.dialect.type_compiler_instance.process(next(iter(among.clauses)).type)
    # An array is looked up by an index, whatever the planner expects to be in it.
    return f"({one} = ANY (ARRAY(SELECT CAST(json_array_elements_text(CAST({listed} AS JSON)) AS {kind}))))"
