"""What kind of value an attribute has: how a cell of any source is read, and how it is compared.

A reader takes text, or what JSON, a workbook or a database has for it, and returns a JSON value that templates and
filters understand. It raises ValueError with a reason that follows the value: ``'x' is no number``.
"""

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any

from dispatcher import filters, zones


class Kind(enum.StrEnum):
    """What an attribute is; ``address`` is the one column that mail goes to."""

    TEXT = "text"
    NUMBER = "number"
    DATE = "date"
    BOOL = "bool"
    LOCALE = "locale"
    ZONE = "zone"
    ADDRESS = "address"


RANGED = frozenset({Kind.NUMBER, Kind.DATE})  # of these one is more than another
_KEPT = 65_536  # values that come again: dates, zones, cities' languages
_TRUE = frozenset({"true", "yes", "1", "y", "是"})
_FALSE = frozenset({"false", "no", "0", "n", "否"})
_YEAR_FIRST = re.compile(r"(\d{4})[/.-](\d{1,2})[/.-](\d{1,2})", re.ASCII)
_ISO_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:.*", re.ASCII)


def reader(kind: Kind) -> Callable[[Any], Any]:
    """What reads a cell of this kind; cells that are empty are not shown to it."""
    return _READERS[kind]


def text_reader(kind: Kind) -> Callable[[str], Any]:
    """The same for cells that are text, as nearly all are; what was read before is only looked up."""
    return _TEXT_READERS[kind]


def text(value: Any) -> str:
    """Any value as text, as its source would show it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (float, Decimal)):
        return str(number(value))
    if isinstance(value, (datetime, date, time)):
        return _moment(value)
    if isinstance(value, (int, str)):
        return str(value).strip()
    raise ValueError(f"is a {type(value).__name__}, and no text")


def number(value: Any) -> int | str:
    """A whole number as such, any other as the text of a decimal: with all its digits, and JSON has no other way."""
    if isinstance(value, bool):
        raise ValueError("is true or false, and no number")  # noqa: TRY004 - readers raise one class of error
    if isinstance(value, float):  # all that a workbook knows: 42.0 is how it says 42
        return _number(str(int(value)) if value.is_integer() else repr(value))
    return _number(str(value))


@lru_cache(maxsize=_KEPT)
def _number(written: str) -> int | str:
    try:
        found = filters.decimal(written.strip())
    except ValueError:
        raise ValueError("is no number such as 42 or 19.90") from None
    places = found.as_tuple().exponent
    return int(found) if isinstance(places, int) and places >= 0 else f"{found:f}"


def day(value: Any) -> str:
    """A date, or a moment, in ISO 8601."""
    if isinstance(value, (datetime, date)):
        return _moment(value)
    if not isinstance(value, str):
        raise ValueError("is no date such as 1990-12-31")  # noqa: TRY004 - readers raise one class of error
    return _day(value)


def _moment(value: date | time) -> str:
    if isinstance(value, datetime) and value.time() == time() and value.tzinfo is None:
        return value.date().isoformat()
    return value.isoformat()


@lru_cache(maxsize=_KEPT)
def _day(written: str) -> str:
    try:
        if found := _YEAR_FIRST.fullmatch(written.strip()):
            return date(*map(int, found.groups())).isoformat()
        if _ISO_MOMENT.fullmatch(written.strip()):
            return _moment(datetime.fromisoformat(written.strip()))
    except ValueError:
        raise ValueError("is no day that there is") from None
    raise ValueError("is no date such as 1990-12-31: the year comes first")


def flag(value: Any) -> bool:
    """Yes or no."""
    if isinstance(value, bool):
        return value
    return _flag(text(value))


@lru_cache(maxsize=_KEPT)
def _flag(written: str) -> bool:
    said = written.strip().lower()
    if said in _TRUE or said in _FALSE:
        return said in _TRUE
    raise ValueError("is neither yes nor no")


def locale(value: Any) -> str:
    """A language tag such as ``zh-CN``, with its usual case and hyphens."""
    return _locale(text(value))


@lru_cache(maxsize=_KEPT)
def _locale(written: str) -> str:
    return filters.canonical(written.strip())


def zone(value: Any) -> str:
    """A time zone by its IANA name."""
    return _zone(text(value))


@lru_cache(maxsize=_KEPT)
def _zone(written: str) -> str:
    name = written.strip()
    try:
        zones.zone(name)
    except ValueError:
        raise ValueError("is no time zone such as Asia/Shanghai or Europe/Berlin") from None
    return name


_READERS: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: text,
    Kind.NUMBER: number,
    Kind.DATE: day,
    Kind.BOOL: flag,
    Kind.LOCALE: locale,
    Kind.ZONE: zone,
    Kind.ADDRESS: text,
}

_TEXT_READERS: Mapping[Kind, Callable[[str], Any]] = {
    Kind.TEXT: str.strip,
    Kind.NUMBER: _number,
    Kind.DATE: _day,
    Kind.BOOL: _flag,
    Kind.LOCALE: _locale,
    Kind.ZONE: _zone,
    Kind.ADDRESS: str.strip,
}


def brought(values: Iterable[Any]) -> Kind:
    """The kind that a column's values have by themselves, where its source has types; text is text."""
    kinds = {_own(value) for value in values if value is not None and value != ""}
    return kinds.pop() if len(kinds) == 1 else Kind.TEXT


def _own(value: Any) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, (int, float, Decimal)):
        return Kind.NUMBER
    return Kind.DATE if isinstance(value, (date, datetime)) else Kind.TEXT
