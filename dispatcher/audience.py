"""A list of recipients: its columns, its rows, its versions, and the filters that choose among its members."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from dispatcher.errors import AudienceError
from dispatcher.kind import RANGED, Kind, reader
from dispatcher.names import MAX_NAME, is_word, suggested
from dispatcher.written import Written

__all__ = ["Audience", "AudienceVersion", "BadRow", "Column", "Filter", "Kind", "Member", "same_as", "where"]

UNREADY_SECONDS = 86400.0  # after that an import that is not ready was given up
_FILTER = re.compile(r"(?P<name>[\w.]+)\s*(?P<sign>!=|>=|<=|=|>|<)\s*(?P<value>.*)", re.DOTALL)
_PRESENT = re.compile(r"(?P<absent>!?)\s*(?P<name>[\w.]+)")

Test = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Column:
    """An attribute's name and kind, and the header that it came from."""

    name: str
    kind: Kind
    source: str


class Member(NamedTuple):
    """One recipient. ``n``: the number of its row in the source; ``address``: as ``suppression.normal`` has it;
    ``shown``: as it stands in To."""

    n: int
    address: str
    shown: str
    attributes: Written | dict[str, Any]


class BadRow(NamedTuple):
    """A row that is no member: the attribute and the reason, and the row as it came. ``doubled``: nothing is wrong
    with it, but its address was there before."""

    n: int
    field: str
    reason: str
    payload: str
    doubled: bool = False


@dataclass(frozen=True, slots=True)
class AudienceVersion:
    """A list as it was read once; it never changes after ``ready_at``. ``rows`` = ``kept`` + ``bad`` + ``doubled``."""

    id: int
    name: str
    version: int
    source: str
    columns: tuple[Column, ...]
    rows: int
    kept: int
    bad: int
    doubled: int
    made_at: float
    ready_at: float | None
    actor: str

    @property
    def attributes(self) -> tuple[Column, ...]:
        """The columns but for the address."""
        return tuple(column for column in self.columns if column.kind is not Kind.ADDRESS)


@dataclass(frozen=True, slots=True)
class Audience:
    """A name with its versions: how many are ready, and the newest of those (None: it is being read)."""

    name: str
    created_at: float
    versions: int
    current: AudienceVersion | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Whether a member is meant, by its attributes: all tests hold."""

    tests: tuple[tuple[str, Test], ...]

    def __call__(self, attributes: Mapping[str, Any]) -> bool:
        return all(test(attributes.get(name)) for name, test in self.tests)


def same_as(first: int) -> str:
    """Why a doubled row is no member."""
    return f"same address as row {first}"


def checked_name(name: str) -> str:
    """A name for an audience. Raises AudienceError."""
    if not is_word(name):
        raise AudienceError(
            f"audience {name[:40]!r}", f"is no name for one: letters, digits, _ - and ., up to {MAX_NAME} of them"
        )
    return name


def unready(name: str, names: Iterable[str]) -> str:
    """What is said of an audience that is not there, or not ready; ``names`` are those that there are."""
    hint = suggested(name, names, "see `dispatcher audiences list`")
    return f"no audience {name!r} that is ready; {hint}"


def where(texts: Sequence[str], columns: Sequence[Column]) -> Filter:
    """A filter of which all parts hold. Each text is one of

        country=CN   country=CN,HK   country!=CN   age>=18   age=18..30   birthday<1990-01-01   vip   !phone

    The last two: there is a value, and it is not false; there is none, or it is. Who has no value is meant by ``!=``
    and by none of the others. A locale is meant by its language too: ``locale=zh``. Raises AudienceError naming the
    text, for an attribute that there is not and for a value that is not of its kind.
    """
    known = {column.name: column for column in columns if column.kind is not Kind.ADDRESS}
    return Filter(tuple(_part(text.strip(), known) for text in texts))


def _part(text: str, known: Mapping[str, Column]) -> tuple[str, Test]:
    if found := _PRESENT.fullmatch(text):
        _column(text, found["name"], known)
        return found["name"], (_absent if found["absent"] else _present)
    found = _FILTER.fullmatch(text)
    if found is None:
        raise _refusal(text, "is no filter; write country=CN, country!=CN, age>=18, age=18..30, vip or !phone")
    column = _column(text, found["name"], known)
    sign, value = found["sign"], found["value"].strip()
    if not value:
        raise _refusal(text, f"has no value; {column.name} alone means that there is one, !{column.name} that not")
    if sign in ("=", "!="):
        same = _range(text, column, value) if ".." in value and column.kind in RANGED else _any_of(text, column, value)
        return column.name, (same if sign == "=" else lambda found: not same(found))
    if column.kind not in RANGED:
        raise _refusal(text, f"{column.name} is a {column.kind}: only numbers and dates are more or less than others")
    return column.name, _compared(sign, column, _read(text, column, value))


def _column(text: str, name: str, known: Mapping[str, Column]) -> Column:
    if name not in known:
        there = ", ".join(known) or "none"
        raise _refusal(text, f"there is no attribute {name}; there are: {there}")
    return known[name]


def _refusal(text: str, reason: str) -> AudienceError:
    return AudienceError(f"filter {text[:80]!r}", reason)


def _read(text: str, column: Column, value: str) -> Any:
    """A value as members of this column are compared by."""
    try:
        return _comparable(column.kind, reader(column.kind)(value))
    except ValueError as error:
        raise _refusal(text, f"{column.name} is a {column.kind}, and {value[:40]!r} {error}") from None


def _comparable(kind: Kind, value: Any) -> Any:
    if kind is Kind.NUMBER:
        return Decimal(value)
    return value[:10] if kind is Kind.DATE else value  # a moment counts as its day


def _present(value: Any) -> bool:
    return value is not None and value is not False


def _absent(value: Any) -> bool:
    return not _present(value)


def _any_of(text: str, column: Column, listed: str) -> Test:
    values = {_read(text, column, value.strip()) for value in listed.split(",")}
    kind = column.kind
    if kind is Kind.LOCALE:
        ranges = tuple(f"{value}-" for value in values)
        return lambda found: found is not None and (found in values or found.startswith(ranges))
    if kind in RANGED:
        return lambda found: found is not None and _comparable(kind, found) in values
    return lambda found: found is not None and found in values


def _range(text: str, column: Column, value: str) -> Test:
    low, _, high = value.partition("..")
    first = _compared(">=", column, _read(text, column, low.strip()))
    last = _compared("<=", column, _read(text, column, high.strip()))
    return lambda found: first(found) and last(found)


def _compared(sign: str, column: Column, bound: Any) -> Test:
    kind = column.kind
    tests: dict[str, Test] = {
        ">=": lambda found: found is not None and _comparable(kind, found) >= bound,
        "<=": lambda found: found is not None and _comparable(kind, found) <= bound,
        ">": lambda found: found is not None and _comparable(kind, found) > bound,
        "<": lambda found: found is not None and _comparable(kind, found) < bound,
    }
    return tests[sign]
