"""The filters that templates write money, numbers and dates with, by the reader's locale (Babel, CLDR).

A filter raises ValueError with a reason that never quotes the value: it may be a secret.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_time
from babel.numbers import format_currency, format_decimal, format_percent, is_currency

Style = Literal["short", "medium", "long", "full"]

_STYLES = ("short", "medium", "long", "full")
_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}")  # language, script, region, variant (RFC 5646)
_DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_FLOAT_DIGITS = 6  # 0.1 + 0.2 is 0.3 in a mail
_MAGNITUDE = 30
_NUMBERS = (str, int, float, Decimal)
_KNOWN = frozenset((str, int, Decimal))  # of these a voice knows what it wrote for them
_KEPT = 4096
_NO_DECIMAL = "is not a decimal number such as 19.90"
_NO_MOMENT = "is not an ISO 8601 date or time such as 2026-11-20T09:30:00+08:00"
# A context variable rather than a template variable: macros that are imported without context still see it.
_speaking: ContextVar["_Voice"] = ContextVar("dispatcher_voice")


@lru_cache(maxsize=512)
def parse_locale(tag: str) -> Locale:
    """The Babel locale of a language tag such as ``zh-CN`` or ``pt_BR``. Raises ValueError for what is none."""
    if not _TAG.fullmatch(tag):
        raise ValueError("is not a language tag such as en or zh-CN (RFC 5646)")
    try:
        return Locale.parse(tag.replace("_", "-"), sep="-")
    except (ValueError, UnknownLocaleError):
        raise ValueError("is not a locale that CLDR knows, such as en or zh-CN") from None


@lru_cache(maxsize=512)
def canonical(tag: str) -> str:
    """A language tag with the case and hyphens of RFC 5646 section 2.1.1: ``zh-CN``. Raises ValueError for what is
    none."""
    parse_locale(tag)
    language, *others = tag.replace("_", "-").split("-")
    cased = {2: str.upper, 4: str.title}
    return "-".join([language.lower(), *(cased.get(len(other), str.lower)(other) for other in others)])


class speaking:  # noqa: N801 - it is used as a function; made by contextlib it would cost more than all else it does
    """Within this block, the filters of this thread write in the locale of this language tag. Raises ValueError for
    what is none."""

    __slots__ = ("_token", "_voice")

    def __init__(self, tag: str) -> None:
        self._voice = _voice(tag)

    def __enter__(self) -> None:
        self._token = _speaking.set(self._voice)

    def __exit__(self, *_: object) -> None:
        _speaking.reset(self._token)


def decimal(value: Any) -> Decimal:
    """A decimal from JSON: a string such as ``"19.90"`` or a number. Raises ValueError otherwise."""
    kind = type(value)
    if kind is str:
        return _decimal(value)
    if kind is int or kind is Decimal:
        return _decimal(str(value))
    if isinstance(value, float):
        value = round(value, _FLOAT_DIGITS)
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise ValueError(_NO_DECIMAL)  # noqa: TRY004 - filters raise one class of error
    return _decimal(str(value))


@lru_cache(maxsize=_KEPT)
def _decimal(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise ValueError(_NO_DECIMAL)
    found = Decimal(text)
    if abs(found.adjusted()) > _MAGNITUDE:
        raise ValueError("is too large or too small a number to be written in a mail")
    return found or Decimal()  # no minus before a zero


def moment(value: Any) -> datetime | date:
    """A date or a time from ISO 8601, in the offset that it was written in. Raises ValueError otherwise."""
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        raise ValueError(_NO_MOMENT)  # noqa: TRY004 - filters raise one class of error
    try:
        return datetime.fromisoformat(value) if "T" in value or ":" in value else date.fromisoformat(value)
    except ValueError:
        raise ValueError(_NO_MOMENT) from None


@lru_cache(maxsize=256)
def is_currency_code(code: str) -> bool:
    """Whether this is an ISO 4217 code, in capitals."""
    return is_currency(code)


def money(value: Any, currency: str) -> str:
    """An amount with its currency, an ISO 4217 code: all digits that it was given with, at least the currency's own."""
    return _speaking.get().money(value if type(value) in _KNOWN else decimal(value), currency)


def number(value: Any) -> str:
    """``1234.5`` as ``1,234.5``; all its digits."""
    return _speaking.get().number(value if type(value) in _KNOWN else decimal(value))


def percent(value: Any) -> str:
    """``0.255`` as ``25.5%``."""
    return format_percent(decimal(value), locale=_speaking.get().locale, decimal_quantization=False)


def date_of(value: Any, style: str = "medium") -> str:
    """The filter ``date``: the day, as it was where the time was written."""
    voice = _speaking.get()
    return voice.date(value, style) if type(value) is str else voice.date_of(value, style)


def time_of(value: Any, style: str = "short") -> str:
    """The filter ``time``: the time of day."""
    return format_time(_full(value), _style(style), locale=_speaking.get().locale)


def datetime_of(value: Any, style: str = "medium") -> str:
    """The filter ``datetime``: day and time of day."""
    return format_datetime(_full(value), _style(style), locale=_speaking.get().locale)


def times(value: Any, factor: Any) -> Decimal:
    """One decimal by another, exactly: a unit price by a quantity."""
    return decimal(value) * (factor if type(factor) is int else decimal(factor))


def lines(value: Any) -> list[str]:
    """An address as its lines: from text with line ends, a list, or an object's values; empty ones are left out."""
    if isinstance(value, str):
        parts: Sequence[Any] = value.splitlines()
    elif isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, Sequence):
        parts = value
    else:
        raise ValueError("is neither a text nor a list nor an object")  # noqa: TRY004 - filters raise one class of error
    return [text for part in parts if part is not None and (text := str(part).strip())]


class _Voice:
    """The filters of one locale, with a memory: the same prices and days stand in text and HTML, and in the next mail.

    Equal decimals are written alike, whatever zeros they end with; equal times are not: of those only texts are kept.
    """

    def __init__(self, locale: Locale) -> None:
        self.locale = locale
        self.money = lru_cache(maxsize=_KEPT)(self._money)
        self.number = lru_cache(maxsize=_KEPT)(self._number)
        self.date = lru_cache(maxsize=_KEPT)(self.date_of)

    def date_of(self, value: Any, style: str) -> str:
        return format_date(moment(value), _style(style), locale=self.locale)

    def _money(self, value: str | int | Decimal, currency: str) -> str:
        if not is_currency_code(currency):
            raise ValueError("money needs an ISO 4217 currency code such as EUR or CNY")
        return format_currency(decimal(value), currency, locale=self.locale, decimal_quantization=False)

    def _number(self, value: str | int | Decimal) -> str:
        written: str = format_decimal(decimal(value), locale=self.locale, decimal_quantization=False)
        return written


@lru_cache(maxsize=64)
def _voice(tag: str) -> _Voice:
    return _Voice(parse_locale(tag))


def _style(style: str) -> Style:
    for known in _STYLES:
        if style == known:
            return known  # type: ignore[return-value]  # mypy widens the tuple's literals
    raise ValueError(f"a date or time is written {', '.join(_STYLES)}, not {style!r}")


def _full(value: Any) -> datetime:
    found = moment(value)
    return found if isinstance(found, datetime) else datetime.combine(found, time())


FILTERS: dict[str, Callable[..., Any]] = {
    "money": money,
    "number": number,
    "percent": percent,
    "date": date_of,
    "time": time_of,
    "datetime": datetime_of,
    "times": times,
    "lines": lines,
}
