"""Money, numbers and dates as the reader writes them."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from dispatcher.filters import FILTERS, decimal, lines, parse_locale, speaking, times


def write(tag: str, name: str, *arguments: Any) -> str:
    chosen: Callable[..., Any] = FILTERS[name]
    with speaking(tag):
        return str(chosen(*arguments)).replace("\u202f", " ").replace("\xa0", " ")


@pytest.mark.parametrize(
    ("tag", "amount", "currency", "written"),
    [
        ("en", "1234.5", "USD", "$1,234.50"),
        ("en", 1234.5, "EUR", "€1,234.50"),
        ("de", "1234.5", "EUR", "1.234,50 €"),
        ("zh-CN", "1234.5", "CNY", "¥1,234.50"),
        ("en", 1234, "JPY", "¥1,234"),
        ("en", "-3", "USD", "-$3.00"),
        ("en", "-0.00", "USD", "$0.00"),
        ("en", "0.0125", "USD", "$0.0125"),  # a unit price is not rounded away
        ("en", 0.1 + 0.2, "USD", "$0.30"),
        ("en", Decimal("19.9"), "USD", "$19.90"),
        ("en", "99999999999999999999.99", "USD", "$99,999,999,999,999,999,999.99"),
    ],
)
def test_money_is_written_in_the_readers_way_and_not_rounded(
    tag: str, amount: Any, currency: str, written: str
) -> None:
    assert write(tag, "money", amount, currency) == written


@pytest.mark.parametrize(
    "amount",
    ["", "12,50", "abc", "\uff11\uff12", "1_000", "NaN", "Infinity", "1e999", "0x10", True, None, [], float("nan")],
)
def test_what_is_no_amount_says_so_without_repeating_it(amount: Any) -> None:
    with pytest.raises(ValueError, match=r"^is (not a decimal number such as 19\.90|too large or too small)"):
        write("en", "money", amount, "USD")


@pytest.mark.parametrize("currency", ["usd", "US", "XXQ", "", "$"])
def test_money_needs_a_currency_that_exists(currency: str) -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        write("en", "money", "1", currency)


def test_numbers_and_shares_keep_their_digits() -> None:
    assert write("en", "number", "1234567.891") == "1,234,567.891"
    assert write("de", "number", 1234.5) == "1.234,5"
    assert write("en", "percent", "0.255") == "25.5%"
    assert write("de", "percent", "0.5") == "50 %"


@pytest.mark.parametrize(
    ("tag", "name", "value", "style", "written"),
    [
        ("en", "date", "2026-11-20", None, "Nov 20, 2026"),
        ("en", "date", "2026-11-20T23:30:00-05:00", "long", "November 20, 2026"),  # the day where it was written
        ("zh-CN", "date", "2026-11-20", "long", "2026年11月20日"),
        ("en-GB", "date", "2026-11-20", "long", "20 November 2026"),
        ("en", "time", "2026-11-20T09:30:00Z", None, "9:30 AM"),
        ("zh", "time", "2026-11-20T09:30:00+08:00", None, "09:30"),
        ("en", "datetime", "2026-11-20T09:30:00", "short", "11/20/26, 9:30 AM"),
        ("en", "datetime", "2026-11-20", "short", "11/20/26, 12:00 AM"),
    ],
)
def test_dates_are_written_in_the_readers_way(tag: str, name: str, value: str, style: str | None, written: str) -> None:
    assert write(tag, name, value, *filter(None, [style])) == written


@pytest.mark.parametrize("value", ["2026-13-01", "20.11.2026", "tomorrow", "", 20261120, None, "2026-11-20T25:00:00"])
def test_what_is_no_date_says_so(value: Any) -> None:
    with pytest.raises(ValueError, match="is not an ISO 8601 date or time"):
        write("en", "date", value)


def test_a_style_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="short, medium, long, full, not 'huge'"):
        write("en", "date", "2026-11-20", "huge")


def test_multiplication_is_exact() -> None:
    assert times("19.99", 3) == Decimal("59.97")
    assert times(0.1, 3) == Decimal("0.3")


def test_a_number_that_would_fill_a_mail_is_refused() -> None:
    with pytest.raises(ValueError, match="too large or too small"):
        decimal("1e500")


@pytest.mark.parametrize(
    "address",
    ["A\n\n B \r\nC", ["A", "B", None, "C", ""], {"name": "A", "street": "B", "more": None, "city": "C"}],
)
def test_an_address_in_any_shape_becomes_lines(address: Any) -> None:
    assert lines(address) == ["A", "B", "C"]


@pytest.mark.parametrize("tag", ["zh-CN", "zh_CN", "zh-Hans-CN", "en", "pt-BR", "sr-Latn-RS"])
def test_language_tags_are_understood(tag: str) -> None:
    assert parse_locale(tag).language == tag[:2]


@pytest.mark.parametrize("tag", ["", "e", "xx", "en-", "../etc", "zh CN", "klingon", "en\n", "en-" + "x" * 90, "C"])
def test_what_is_no_language_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match=r"^is not a (language tag|locale)"):
        parse_locale(tag)
