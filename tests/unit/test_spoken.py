"""Statements in a database's own words: compiled once, a list is one parameter, an UPDATE of many is one statement."""

import json

import pytest
from sqlalchemy import bindparam, select, update

from dispatcher.adapters.sql.schema import messages
from dispatcher.adapters.sql.spoken import among, at_once, one_of, spoken

FEW = select(messages.c.id).where(among(messages.c.id), messages.c.n == bindparam("n"), one_of(messages.c.build, "ab"))
BUILT = update(messages).where(messages.c.id == bindparam("number"), messages.c.sha256.is_(None))
NAMES = "number", "sha256", "build"


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_it_is_compiled_once_however_long_a_list_is(dialect: str) -> None:
    said = spoken(FEW, dialect, ("among", "n"))
    assert spoken(FEW, dialect, ("among", "n")) is said
    for numbers in ([], [1], list(range(1000))):
        given = said.given({"n": 7, "among": numbers})
        values = list(given.values() if isinstance(given, dict) else given)
        assert json.dumps(numbers) in values
        assert len(values) == 4


def test_sqlite_takes_parameters_in_their_order() -> None:
    said = spoken(FEW, "sqlite", ("among", "n"))
    assert said.given({"n": 7, "among": [1, 2]}) == ("[1, 2]", 7, "a", "b")
    built = spoken(BUILT, "sqlite", NAMES)
    assert built.each([{"number": 1, "sha256": "x", "build": "y"}]) == [("x", "y", 1)]


def test_what_is_always_the_same_is_as_its_type_wants_it() -> None:
    said = spoken(update(messages).where(among(messages.c.id)).values(secrets={}), "sqlite", ("among",))
    assert said.given({"among": [3]}) == ("{}", "[3]")


def test_many_are_one_statement_for_postgresql() -> None:
    said = spoken(at_once(BUILT, NAMES), "postgresql", ("rows",))
    assert "json_to_recordset" in said.words
    assert "(number BIGINT, sha256 VARCHAR(64), build TEXT)" in said.words
    assert said.given({"rows": [{"number": 1}]}) == {"rows": '[{"number": 1}]'}
