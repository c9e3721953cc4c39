"""How a cell is read by its kind, whatever source it came from."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.kind import Kind, brought, reader

BERLIN = dt.timezone(dt.timedelta(hours=1))


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        (Kind.TEXT, " 李雷 ", "李雷"),
        (Kind.TEXT, "=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
        (Kind.TEXT, 42.0, "42"),
        (Kind.TEXT, 4915123456789.0, "4915123456789"),
        (Kind.TEXT, Decimal("19.90"), "19.90"),
        (Kind.TEXT, True, "true"),
        (Kind.TEXT, dt.date(1990, 12, 31), "1990-12-31"),
        (Kind.NUMBER, "42", 42),
        (Kind.NUMBER, " -7 ", -7),
        (Kind.NUMBER, "19.90", "19.90"),
        (Kind.NUMBER, "1e3", 1000),
        (Kind.NUMBER, "0.000001", "0.000001"),
        (Kind.NUMBER, 42.0, 42),
        (Kind.NUMBER, 19.9, "19.9"),
        (Kind.NUMBER, Decimal("19.90"), "19.90"),
        (Kind.NUMBER, 10**18, 10**18),
        (Kind.DATE, "1990-12-31", "1990-12-31"),
        (Kind.DATE, "1990/1/5", "1990-01-05"),
        (Kind.DATE, "2026-12-01T09:00:00+08:00", "2026-12-01T09:00:00+08:00"),
        (Kind.DATE, "2026-12-01 09:00", "2026-12-01T09:00:00"),
        (Kind.DATE, dt.date(1990, 12, 31), "1990-12-31"),
        (Kind.DATE, dt.datetime(1990, 12, 31), "1990-12-31"),  # noqa: DTZ001 - a workbook's date
        (Kind.DATE, dt.datetime(1990, 12, 31, 9, tzinfo=BERLIN), "1990-12-31T09:00:00+01:00"),
        (Kind.BOOL, "YES", True),
        (Kind.BOOL, "是", True),
        (Kind.BOOL, "否", False),
        (Kind.BOOL, "0", False),
        (Kind.BOOL, 1.0, True),
        (Kind.BOOL, False, False),
        (Kind.LOCALE, "zh_cn", "zh-CN"),
        (Kind.LOCALE, "ZH-hans-cn", "zh-Hans-CN"),
        (Kind.LOCALE, "en", "en"),
        (Kind.ZONE, "Asia/Shanghai", "Asia/Shanghai"),
        (Kind.ZONE, " UTC ", "UTC"),
    ],
)
def test_a_cell_is_read_by_its_kind(kind: Kind, cell: Any, value: Any) -> None:
    found = reader(kind)(cell)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "cell", "reason"),
    [
        (Kind.TEXT, {"a": 1}, "is a dict, and no text"),
        (Kind.TEXT, [1], "is a list, and no text"),
        (Kind.NUMBER, "many", "is no number"),
        (Kind.NUMBER, "1,000", "is no number"),
        (Kind.NUMBER, "nan", "is no number"),
        (Kind.NUMBER, float("inf"), "is no number"),
        (Kind.NUMBER, "1e99999999", "is no number"),
        (Kind.NUMBER, True, "is true or false"),
        (Kind.DATE, "31.12.1990", "the year comes first"),
        (Kind.DATE, "1990-02-30", "no day that there is"),
        (Kind.DATE, "1990-12-31T25:00", "no day that there is"),
        (Kind.DATE, "19901231", "the year comes first"),
        (Kind.DATE, 33238, "is no date"),
        (Kind.BOOL, "si", "neither yes nor no"),
        (Kind.BOOL, 2, "neither yes nor no"),
        (Kind.LOCALE, "Chinese", "language tag"),
        (Kind.LOCALE, "xx-YY", "CLDR"),
        (Kind.ZONE, "Mars/Olympus", "no time zone"),
        (Kind.ZONE, "Europe", "no time zone"),
        (Kind.ZONE, "../etc/passwd", "no time zone"),
        (Kind.ZONE, "+08:00", "no time zone"),
        (Kind.ZONE, "", "no time zone"),
    ],
)
def test_what_cannot_be_of_its_kind_is_refused_with_the_reason(kind: Kind, cell: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        reader(kind)(cell)


@given(st.text() | st.integers() | st.floats() | st.decimals() | st.booleans() | st.dates() | st.datetimes())
def test_any_cell_is_read_or_refused_and_read_again_is_the_same(cell: Any) -> None:
    for kind in Kind:
        try:
            found = reader(kind)(cell)
        except ValueError:
            continue
        assert isinstance(found, (str, int))
        if found != "":
            assert reader(kind)(found) == found


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_no_digit_of_a_number_is_lost(number: Decimal) -> None:
    assert Decimal(reader(Kind.NUMBER)(f"{number:f}")) == number


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", "b"], Kind.TEXT),
        ([1, 2.5, None, ""], Kind.NUMBER),
        ([True, None], Kind.BOOL),
        ([True, 1], Kind.TEXT),
        ([dt.date(2026, 1, 1)], Kind.DATE),
        ([1, "a"], Kind.TEXT),
        ([], Kind.TEXT),
    ],
)
def test_a_source_with_types_brings_the_kind(values: list[Any], kind: Kind) -> None:
    assert brought(values) is kind
