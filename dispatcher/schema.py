"""The JSON Schema (draft 7) that a template states for its data: checking it, and telling apart what is sensitive."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import fastjsonschema

from dispatcher.errors import MissingData, SubmissionError
from dispatcher.filters import decimal, is_currency_code, moment
from dispatcher.names import MAX_NAME, unknown
from dispatcher.predicate import Test, rules

_SENSITIVE = "x-sensitive"
_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}


class SchemaError(Exception):
    """A schema that cannot be used."""


class DataSchema:
    """A compiled schema. Raises SchemaError when it is none, or refers to a place outside of itself."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        if schema.get("type", "object") != "object":
            raise SchemaError("the data of a mail is an object, so the schema's type is object")
        self._schema = schema
        refuse = dict.fromkeys(("http", "https", "ftp", "file"), _refuse)
        try:
            self._validate = fastjsonschema.compile(
                {"type": "object", **schema}, handlers=refuse, formats=_FORMATS, use_default=False
            )
        except SchemaError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever no schema makes of the compiler
            raise SchemaError(f"is no JSON Schema: {error}") from None
        self._holds = rules({"type": "object", **schema}, _SURE).get(dict)
        marks = sum(1 for _ in _marks(schema))
        self.sensitive = marks > 0
        if marks != sum(1 for _ in _reached(schema)):
            raise SchemaError(f"{_SENSITIVE} is understood only under properties and items, nowhere else")

    def check(self, data: Mapping[str, Any], field: str) -> None:
        """Raise MissingData, its field a path such as ``data.order.items[0].quantity``. No value is ever quoted."""
        try:
            if self._holds is not None and type(data) is dict and self._holds(data):
                return
        except ValueError:  # not plainly right
            pass
        try:
            self._validate(data if isinstance(data, dict) else dict(data))
        except fastjsonschema.JsonSchemaValueException as error:
            raise _missing(error, field) from None

    def split(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Part the data into what may be kept and what is sensitive (None: nothing is), nested alike."""
        if not self.sensitive:
            return dict(data), None
        public, secrets = _split(dict(data), self._schema)
        return public, secrets or None


def merge(public: Mapping[str, Any], secrets: Mapping[str, Any] | None) -> dict[str, Any]:
    """Put back what ``split`` has parted."""
    merged: dict[str, Any] = _merge(public, secrets or {})
    return merged


def _refuse(uri: str) -> Any:
    raise SchemaError(f"a schema is complete in itself: {uri} is not fetched")


def _accepts(read: Callable[[Any], Any]) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        try:
            read(value)
        except ValueError:
            return False
        return True

    return accepts


_FORMATS: dict[str, Callable[[Any], bool]] = {
    "decimal": _accepts(decimal),
    "iso8601": _accepts(moment),
    "currency": is_currency_code,
}
_PLAIN_DECIMAL = re.compile(r"[-+]?[0-9]{1,15}(\.[0-9]{1,15})?")


@lru_cache(maxsize=4096)
def _plain_decimal(text: str) -> bool:
    """Prices and quantities come again. Raises ValueError, so that none but short ones are kept."""
    if not _PLAIN_DECIMAL.fullmatch(text):
        raise ValueError
    return True


_SURE: dict[str, Test] = {"decimal": _plain_decimal, "iso8601": moment, "currency": is_currency_code}
_FORMAT_REASONS = {
    "decimal": "must be a decimal number such as 19.90",
    "iso8601": "must be an ISO 8601 date or time such as 2026-11-20T09:30:00+08:00",
    "currency": "must be an ISO 4217 currency code such as EUR or CNY",
}


def _missing(error: Any, field: str) -> SubmissionError:
    where = field + error.name.removeprefix("data")
    wanted = error.rule_definition
    if error.rule == "required":
        first, *others = [name for name in wanted if name not in error.value]
        also = f"; so {'is' if len(others) == 1 else 'are'} {', '.join(others)}" if others else ""
        return MissingData(f"{where}.{first}", f"is missing{also}")
    if error.rule == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        found = _KINDS.get(type(error.value), "a number")
        return MissingData(where, f"must be of type {' or '.join(kinds)}, and is {found}")
    if error.rule == "additionalProperties" and wanted is False:
        known, patterns = error.definition.get("properties", {}), error.definition.get("patternProperties", {})
        strange = (name for name in error.value if name not in known and not any(re.search(p, name) for p in patterns))
        name = min(strange)[:MAX_NAME]
        return MissingData(f"{where}.{name}", unknown("property", name, known))
    if error.rule == "pattern" and "description" in error.definition:
        return MissingData(where, f"is not as asked for: {error.definition['description']}")
    if error.rule == "format" and wanted in _FORMAT_REASONS:
        return MissingData(where, _FORMAT_REASONS[wanted])
    return MissingData(where, error.message.removeprefix(error.name).strip())


def _marks(schema: Any) -> Iterator[None]:
    """Every sensitive mark, wherever it stands."""
    if isinstance(schema, Mapping):
        if schema.get(_SENSITIVE, False) is not False:
            yield None
        for value in schema.values():
            yield from _marks(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _marks(value)


def _reached(schema: Any) -> Iterator[None]:
    """The sensitive marks that ``_split`` comes by; one within what is sensitive as a whole counts as reached."""
    if not isinstance(schema, Mapping):
        return
    if schema.get(_SENSITIVE) is True:
        yield from _marks(schema)
        return
    for inner in schema.get("properties", {}).values():
        yield from _reached(inner)
    yield from _reached(schema.get("items"))


def _split(data: Any, schema: Any) -> tuple[Any, Any]:
    """The public part, and the sensitive one or something empty."""
    if not isinstance(schema, Mapping):
        return data, None
    if isinstance(data, Mapping):
        public: dict[str, Any] = {}
        secrets: dict[str, Any] = {}
        for name, value in data.items():
            inner = schema.get("properties", {}).get(name)
            if isinstance(inner, Mapping) and inner.get(_SENSITIVE) is True:
                secrets[name] = value
                continue
            public[name], hidden = _split(value, inner)
            if hidden:
                secrets[name] = hidden
        return public, secrets
    items = schema.get("items")
    if isinstance(data, list) and isinstance(items, Mapping):
        if items.get(_SENSITIVE) is True:
            return [None] * len(data), data
        pairs = [_split(value, items) for value in data]
        hidden = [secret for _, secret in pairs]
        return [value for value, _ in pairs], hidden if any(hidden) else None
    return data, None


def _merge(public: Any, secrets: Any) -> Any:
    if isinstance(public, Mapping) and isinstance(secrets, Mapping):
        return {**public, **{name: _merge(public.get(name), value) for name, value in secrets.items()}}
    if isinstance(public, list) and isinstance(secrets, list) and len(public) == len(secrets):
        return [_merge(value, secret) for value, secret in zip(public, secrets, strict=True)]
    return public if secrets is None and public is not None else secrets
