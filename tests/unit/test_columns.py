"""What a header becomes, and what a row becomes by it."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.audience import BadRow, Column, Member
from dispatcher.columns import ColumnMap, Reading, columns
from dispatcher.errors import AudienceError
from dispatcher.kind import Kind
from dispatcher.written import Written, encode

AS_MAPPED = ColumnMap()


def found(*header: str, said: ColumnMap = AS_MAPPED, sample: list[list[Any]] | None = None) -> dict[str, Kind]:
    return {c.name: c.kind for c in columns(header, said, sample or [], "a.csv")}


def read(cells: list[Any], *header: str, said: ColumnMap = AS_MAPPED) -> Member | BadRow:
    return Reading(header, columns(header, said, [], "a.csv")).member(7, cells)


@pytest.mark.parametrize(
    "header", ["email", "E-Mail", "E-mail Address", "EMAIL ", "mail", "Address", "邮箱", "电子邮件"]
)
def test_the_address_is_known_by_its_usual_names(header: str) -> None:
    assert columns([header], AS_MAPPED, [], "a.csv") == (Column("email", Kind.ADDRESS, header),)


def test_an_address_in_the_street_is_text_where_there_is_one_for_mail() -> None:
    assert found("Address", "E-Mail") == {"address": Kind.TEXT, "email": Kind.ADDRESS}


def test_columns_that_everybody_has_are_of_their_kinds() -> None:
    assert found("email", "Language", "Time Zone", "时区", "First-Name") == {
        "email": Kind.ADDRESS,
        "language": Kind.LOCALE,
        "time_zone": Kind.ZONE,
        "时区": Kind.ZONE,
        "first_name": Kind.TEXT,
    }


def test_what_the_user_says_goes_first() -> None:
    said = ColumnMap({"email": "Mail 2", "first_name": "Name"}, {"age": Kind.NUMBER, "language": Kind.TEXT})
    assert found("email_old", "Mail 2", "Name", "Age", "Language", said=said) == {
        "email_old": Kind.TEXT,
        "email": Kind.ADDRESS,
        "first_name": Kind.TEXT,
        "age": Kind.NUMBER,
        "language": Kind.TEXT,
    }


def test_a_header_is_found_as_people_type_it() -> None:
    assert found("mail", "First Name", said=ColumnMap({"name": "first-name"})) == {
        "email": Kind.ADDRESS,
        "name": Kind.TEXT,
    }


def test_values_bring_their_kinds_where_their_source_has_some() -> None:
    sample = [["a@example.com", 1, True], ["b@example.com", None, False]]
    assert found("email", "n", "vip", sample=sample) == {"email": Kind.ADDRESS, "n": Kind.NUMBER, "vip": Kind.BOOL}


@pytest.mark.parametrize(
    ("header", "said", "reason"),
    [
        ([], AS_MAPPED, "is empty"),
        (["", " "], AS_MAPPED, "is empty"),
        (["email", ""], AS_MAPPED, "column 2 has no name"),
        (["a@example.com", "Anna"], AS_MAPPED, "its first row has the address a@example.com"),
        (["email", "Name", "Name"], AS_MAPPED, "columns 2 and 3 have the same name, 'Name'"),
        (["email", "First Name", "first-name"], AS_MAPPED, "two columns would be called first_name"),
        (["name", "city"], AS_MAPPED, "no column is called email: .* --map email='name'"),
        (["email", "e-mail"], AS_MAPPED, "mail could go to email or e-mail: say which"),
        (["email", "class"], AS_MAPPED, "column 'class': templates cannot ask for 'class'"),
        (["email", "2nd"], AS_MAPPED, "templates cannot ask for '2nd'"),
        (["email", "a.b"], AS_MAPPED, "templates cannot ask for 'a.b'"),
        (["email", "_x"], AS_MAPPED, "templates cannot ask for '_x'"),
        (["email", "价格 (元)"], AS_MAPPED, "--map first_name="),
        (["email"], ColumnMap({"name": "Name"}), "--map: there is no column 'Name'; there are: email"),
        (["email"], ColumnMap(kinds={"age": Kind.NUMBER}), "--type: there is no attribute age; there are: email"),
        (["mail"], ColumnMap({"email": "mail", "name": "mail"}), "one column is mapped to two attributes"),
        (["email", *(f"c{n}" for n in range(500))], AS_MAPPED, "500 are the most"),
    ],
)
def test_a_header_with_which_nothing_can_be_kept_has_one_clear_answer(
    header: list[str], said: ColumnMap, reason: str
) -> None:
    with pytest.raises(AudienceError, match=reason):
        columns(header, said, [], "a.csv")


def test_a_row_becomes_a_member() -> None:
    said = ColumnMap(kinds={"age": Kind.NUMBER, "vip": Kind.BOOL})
    header = ("name", "email", "age", "vip", "note", "price")
    made = read(["李雷", ' "Li Lei" <Li@Example.COM> ', "42", "no", "", 19.5], *header, said=said)
    assert isinstance(made, Member)
    assert (made.n, made.address, made.shown) == (7, "li@example.com", '"Li Lei" <Li@example.com>')
    assert made.attributes == {"name": "李雷", "age": 42, "vip": False, "price": "19.5"}
    assert isinstance(made.attributes, Written)
    assert made.attributes.text == encode(dict(made.attributes))


@given(
    st.lists(st.none() | st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False), min_size=3, max_size=3)
)
def test_attributes_are_written_as_an_encoder_would(cells: list[Any]) -> None:
    made = read(["a@example.com", *cells], "email", "a", "b", "c")
    if isinstance(made, Member):
        assert isinstance(made.attributes, Written)
        assert made.attributes.text == encode(dict(made.attributes))


@pytest.mark.parametrize(
    ("cells", "field", "reason"),
    [
        (["a@example.com", "42"], "", "has 2 cells, and there are 3 columns"),
        (["a@example.com", "42", "UTC", "x"], "", "has 4 cells, and there are 3 columns"),
        (["", "42", "UTC"], "email", "is empty"),
        ([" ", "42", "UTC"], "email", "is empty"),
        ([None, "42", "UTC"], "email", "is empty"),
        ([7, "42", "UTC"], "email", "'7' is no text"),
        (["nobody", "42", "UTC"], "email", "'nobody' is not an email address"),
        (["a@example.com, b@example.com", "42", "UTC"], "email", "give one address each"),
        (["a@example.com", "x" * 100, "UTC"], "age", r"'x{60}\.\.\.' is no number"),
        (["a@example.com", "42", "Mars/Olympus"], "tz", "'Mars/Olympus' is no time zone"),
        (["a@example.com", "42", {"a": 1}], "tz", "is a dict, and no text"),
    ],
)
def test_a_row_that_cannot_be_a_member_names_attribute_and_value(cells: list[Any], field: str, reason: str) -> None:
    made = read(cells, "email", "age", "tz", said=ColumnMap(kinds={"age": Kind.NUMBER}))
    assert isinstance(made, BadRow)
    assert (made.n, made.field, made.doubled) == (7, field, False)
    assert re.search(reason, made.reason)
    assert made.payload.startswith('{"email":')


def test_cells_that_are_over_may_be_empty_and_cells_of_spaces_are() -> None:
    made = read(["a@example.com", "  ", "", ""], "email", "age", said=ColumnMap(kinds={"age": Kind.NUMBER}))
    assert isinstance(made, Member)
    assert made.attributes == {}


def test_a_formula_is_text_like_any_other() -> None:
    made = read(["a@example.com", "=cmd|' /C calc'!A0", "-2+3"], "email", "a", "b")
    assert isinstance(made, Member)
    assert made.attributes == {"a": "=cmd|' /C calc'!A0", "b": "-2+3"}


def test_the_payload_of_a_bad_row_is_bounded() -> None:
    made = read(["nobody", "x" * 100_000], "email", "a")
    assert isinstance(made, BadRow)
    assert len(made.payload) == 65_536
