"""The predicate of a schema never says yes where the library says no."""

from typing import Any

import fastjsonschema
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from dispatcher.errors import MissingData
from dispatcher.predicate import rules
from dispatcher.schema import DataSchema, SchemaError

NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
TEXTS = st.sampled_from(
    ["", "x", "xy", "12", "12.5", "1e5", "\u0661", "EUR", "eur", "2026-11-20", "http://a", "y\n", "0.0"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
)
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "type": SCALARS | st.lists(SCALARS, min_size=1, max_size=3, unique=True),
        "minLength": st.integers(0, 3),
        "maxLength": st.integers(0, 3),
        "pattern": st.sampled_from(["^http", "x$", "1"]),
        "format": st.sampled_from(["decimal", "iso8601", "currency"]),
        "enum": st.lists(TEXTS, min_size=1),
        "description": st.just("anything"),
    },
)


def _nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "required": st.lists(NAMES, unique=True),
            "additionalProperties": st.booleans(),
            "minProperties": st.integers(0, 2),
        },
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={"items": inner, "minItems": st.integers(0, 2), "maxItems": st.integers(0, 2)},
    )
    return objects | arrays


SCHEMAS = _nested(st.recursive(LEAVES, _nested, max_leaves=6)).filter(lambda schema: schema["type"] == "object")


@given(SCHEMAS, VALUES)
def test_what_is_plainly_right_is_right(schema: dict[str, Any], data: Any) -> None:
    """``DataSchema`` accepts and refuses what the library alone does."""
    try:
        checked = DataSchema(schema)
    except SchemaError:
        reject()
    if not isinstance(data, dict):
        data = {"a": data}
    assert _refused(checked, data) == _refused_by_the_library(checked, data)


def _refused(checked: DataSchema, data: dict[str, Any]) -> bool:
    try:
        checked.check(data, "data")
    except MissingData:
        return True
    return False


def _refused_by_the_library(checked: DataSchema, data: dict[str, Any]) -> bool:
    try:
        checked._validate(data)
    except fastjsonschema.JsonSchemaValueException:
        return True
    return False


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "maxLength": 3},
        {"type": "string", "enum": ["x"]},
        {"type": "string", "pattern": "x$"},  # the library reads $ in a way of its own
        {"type": "string", "format": "email"},
        {"type": "object", "additionalProperties": False},
        {"type": "object", "$ref": "#/definitions/x"},
        {"properties": {}},
        True,
    ],
)
def test_a_keyword_that_it_does_not_know_leaves_it_to_the_library(schema: Any) -> None:
    """It is sure of nothing then."""
    assert rules(schema, {}) == {}


def test_of_a_long_schema_only_what_is_there_is_asked_for() -> None:
    """A property with a keyword that it does not know costs nothing until somebody gives it."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"enum": ["x"]}}}
    (holds,) = rules(schema, {}).values()
    assert holds is not None
    assert holds({"a": "y"})
    assert not holds({"b": "x"})
