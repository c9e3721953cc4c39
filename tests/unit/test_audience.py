"""Filters: who of an audience is meant, and what is no filter."""

from typing import Any

import pytest

from dispatcher.audience import Column, Kind, checked_name, where
from dispatcher.errors import AudienceError

COLUMNS = [
    Column("email", Kind.ADDRESS, "email"),
    *(
        Column(name, kind, name)
        for name, kind in {
            "country": Kind.TEXT,
            "age": Kind.NUMBER,
            "birthday": Kind.DATE,
            "vip": Kind.BOOL,
            "language": Kind.LOCALE,
            "zone": Kind.ZONE,
            "phone": Kind.TEXT,
            "城市": Kind.TEXT,
        }.items()
    ),
]
LI: dict[str, Any] = {
    "country": "CN",
    "age": 30,
    "birthday": "1990-06-15T08:00:00+08:00",
    "vip": True,
    "language": "zh-Hans-CN",
    "zone": "Asia/Shanghai",
    "城市": "上海",
}
ANN: dict[str, Any] = {"country": "HK", "age": "17.5", "birthday": "2009-01-01", "vip": False, "phone": "+49 1..2"}
NOBODY: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("texts", "li", "ann", "nobody"),
    [
        ([], True, True, True),
        (["country=CN"], True, False, False),
        (["country=CN,HK"], True, True, False),
        (["country = CN , HK"], True, True, False),
        (["country!=CN"], False, True, True),
        (["country!=CN,HK"], False, False, True),
        (["age>=18"], True, False, False),
        (["age<18"], False, True, False),
        (["age>17.5"], True, False, False),
        (["age<=17.50"], False, True, False),
        (["age=17.50"], False, True, False),
        (["age=30.0,31"], True, False, False),
        (["age=18..30"], True, False, False),
        (["age=17..18"], False, True, False),
        (["age!=18..30"], False, True, True),
        (["birthday>=1990-06-15"], True, True, False),
        (["birthday<1990-06-16"], True, False, False),
        (["birthday=1990/6/15"], True, False, False),
        (["birthday=1980-01-01..1999-12-31"], True, False, False),
        (["vip"], True, False, False),
        (["!vip"], False, True, True),
        (["vip=no"], False, True, False),
        (["vip!=yes"], False, True, True),
        (["phone"], False, True, False),
        (["!phone"], True, False, True),
        (["phone=+49 1..2"], False, True, False),
        (["language=zh"], True, False, False),
        (["language=zh-hans"], True, False, False),
        (["language=zh-Hant"], False, False, False),
        (["language!=zh"], False, True, True),
        (["zone=Asia/Shanghai"], True, False, False),
        (["城市=上海"], True, False, False),
        (["country=CN,HK", "age>=18", "vip"], True, False, False),
        (["country=CN", "!vip"], False, False, False),
    ],
)
def test_who_is_meant(texts: list[str], li: bool, ann: bool, nobody: bool) -> None:
    meant = where(texts, COLUMNS)
    assert (meant(LI), meant(ANN), meant(NOBODY)) == (li, ann, nobody)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("planet=Mars", "there is no attribute planet; there are: country, age, birthday"),
        ("planet", "there is no attribute planet"),
        ("email=a@example.com", "there is no attribute email"),
        ("age=old", "age is a number, and 'old' is no number"),
        ("age=18..old", "age is a number, and 'old' is no number"),
        ("age=18..", "age is a number, and '' is no number"),
        ("age>=", "has no value"),
        ("country=", "has no value"),
        ("country>=CN", "country is a text: only numbers and dates"),
        ("birthday>=31.12.1990", "birthday is a date, and '31.12.1990'"),
        ("vip=perhaps", "vip is a bool, and 'perhaps' is neither yes nor no"),
        ("zone=Mars/Olympus", "zone is a zone, and 'Mars/Olympus' is no time zone"),
        ("language=Chinese", "language is a locale"),
        ("", "is no filter"),
        ("=CN", "is no filter"),
        ("country CN", "is no filter"),
        ("!phone=1", "is no filter"),
    ],
)
def test_what_is_no_filter_is_named_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(AudienceError, match=reason) as caught:
        where(["vip", text], COLUMNS)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("name", ["customers", "kunden-2026", "客户", "a.b_c", "x" * 100])
def test_names_of_audiences(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 101, "a b", "-a", "a/b", "a\n", "@"])
def test_what_cannot_be_the_name_of_an_audience(name: str) -> None:
    with pytest.raises(AudienceError, match="is no name"):
        checked_name(name)
