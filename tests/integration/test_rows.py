"""Rows of files of every kind: what is found out about them, the numbers of their rows, and what is wrong with them."""

import codecs
import datetime as dt
import sqlite3
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from dispatcher.adapters.rows.file import of_file
from dispatcher.adapters.rows.query import Query, of_table_named, url_of
from dispatcher.adapters.rows.separated import write
from dispatcher.audience import BadRow
from dispatcher.errors import AudienceError
from dispatcher.interfaces import Rows
from tests.servers import Postgres
from tests.workbooks import Day, write_workbook

NAMES = "email,姓名\r\nli@example.com,李雷\r\nhan@example.com,韩梅梅\r\n"
WESTERN = "email;Name\r\nm@example.com;Müller\r\nj@example.com;José Ñuñez\r\n"


def file(folder: Path, content: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def good(rows: Rows) -> list[tuple[int, list[Any]]]:
    return [(row[0], list(row[1])) for row in rows if not isinstance(row, BadRow)]


def bad(rows: Rows) -> list[tuple[int, str, str]]:
    return [(row.n, row.field, row.reason) for row in rows if isinstance(row, BadRow)]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (NAMES.encode(), "utf-8"),
        (codecs.BOM_UTF8 + NAMES.encode(), "utf-8"),
        (NAMES.encode("utf-16"), "utf-16"),
        (codecs.BOM_UTF16_BE + NAMES.encode("utf-16-be"), "utf-16"),
        (NAMES.encode("utf-16-le"), "utf-16-le"),
        (NAMES.encode("gb18030"), "gb18030"),
        (NAMES.encode("gb2312"), "gb18030"),
    ],
)
def test_the_encoding_is_found_out(tmp_path: Path, content: bytes, encoding: str) -> None:
    rows = of_file(file(tmp_path, content))
    assert rows.details == {"encoding": encoding, "separator": "comma"}
    assert list(rows.header) == ["email", "姓名"]
    assert good(rows) == [(2, ["li@example.com", "李雷"]), (3, ["han@example.com", "韩梅梅"])]
    assert bad(rows) == []


def test_a_western_file_is_not_taken_for_a_chinese_one(tmp_path: Path) -> None:
    rows = of_file(file(tmp_path, WESTERN.encode("cp1252")))
    assert rows.details == {"encoding": "cp1252", "separator": "semicolon"}
    assert good(rows)[0] == (2, ["m@example.com", "Müller"])
    assert good(rows)[1] == (3, ["j@example.com", "José Ñuñez"])


def test_an_encoding_that_is_given_goes_first(tmp_path: Path) -> None:
    rows = of_file(file(tmp_path, "email,name\na@example.com,Łukasz\n".encode("cp1250")), encoding="cp1250")
    assert good(rows) == [(2, ["a@example.com", "Łukasz"])]
    for wrong in ("klingon", "base64", "idna"):
        with pytest.raises(AudienceError, match=r"--encoding: .* is no encoding"):
            of_file(tmp_path / "a.csv", encoding=wrong)


def test_the_encoding_shows_late_in_a_file_that_begins_with_ascii(tmp_path: Path) -> None:
    plain = "".join(f"a{n}@example.com,Anna\n" for n in range(80_000))
    path = file(tmp_path, b"email,name\n" + plain.encode() + "li@example.com,李雷\n".encode("gb18030"))
    rows = of_file(path)
    assert rows.details["encoding"] == "gb18030"
    assert good(rows)[-1] == (80_002, ["li@example.com", "李雷"])


def test_a_byte_that_cannot_be_decoded_makes_its_row_a_bad_one(tmp_path: Path) -> None:
    content = (
        "email,name\nli@example.com,李雷\nx@example.com,韩".encode() + b"\xff\n" + "m@example.com,王\n".encode() * 30
    )
    rows = of_file(file(tmp_path, content))
    assert rows.details["encoding"] == "utf-8"
    ((n, field, reason),) = bad(rows)
    assert (n, field) == (3, "")
    assert reason.startswith("cannot be decoded at character 16 (byte 0xff)")
    assert [n for n, _ in good(rows)] == [2, *range(4, 34)]


@pytest.mark.parametrize(("separator", "name"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "pipe")])
def test_the_separator_is_found_out(tmp_path: Path, separator: str, name: str) -> None:
    lines = [("email", "name", "note"), ("a@example.com", "A", "1;2,3|4 5"), ("b@example.com", "B", '"x"')]
    quoted = "\n".join(separator.join('"{}"'.format(cell.replace('"', '""')) for cell in line) for line in lines)
    rows = of_file(file(tmp_path, quoted))
    assert rows.details["separator"] == name
    assert [cells for _, cells in good(rows)] == [list(line) for line in lines[1:]]


def test_one_column_has_no_separator(tmp_path: Path) -> None:
    assert good(of_file(file(tmp_path, "email\na@example.com\nb@example.com"))) == [
        (2, ["a@example.com"]),
        (3, ["b@example.com"]),
    ]


@pytest.mark.parametrize("given", [":", "comma", ",", "tab", r"\t"])
def test_a_separator_that_is_given_goes_first(tmp_path: Path, given: str) -> None:
    character = {"comma": ",", "tab": "\t", r"\t": "\t"}.get(given, given)
    rows = of_file(file(tmp_path, f"email{character}a;b\nx@example.com{character}1;2\n"), separator=given)
    assert good(rows) == [(2, ["x@example.com", "1;2"])]


@pytest.mark.parametrize("given", ["", "ab", '"', "\n"])
def test_what_cannot_be_a_separator(tmp_path: Path, given: str) -> None:
    path = file(tmp_path, "email,a\n")
    if not given:
        assert of_file(path, separator=given).details["separator"] == "comma"
        return
    with pytest.raises(AudienceError, match="--separator"):
        of_file(path, separator=given)


def test_a_first_line_for_excel_names_the_separator(tmp_path: Path) -> None:
    rows = of_file(file(tmp_path, "sep=;\r\nemail;a,b\r\nx@example.com;1,2\r\n"))
    assert list(rows.header) == ["email", "a,b"]
    assert good(rows) == [(3, ["x@example.com", "1,2"])]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_are_numbered_by_the_line_on_which_they_begin(tmp_path: Path, end: str) -> None:
    lines = [
        "email,note",
        'a@example.com,"one',
        "two",
        'three"',
        "",
        "b@example.com,x",
        "c@example.com",
        "d@example.com,y",
    ]
    rows = of_file(file(tmp_path, end.join(lines)))
    assert good(rows) == [
        (2, ["a@example.com", f"one{end}two{end}three"]),
        (6, ["b@example.com", "x"]),
        (7, ["c@example.com"]),
        (8, ["d@example.com", "y"]),
    ]


def test_a_quote_that_never_closes_costs_one_row(tmp_path: Path) -> None:
    lines = ["email,note", "a@example.com,x", 'b@example.com,"17 inch', "c@example.com,y", "d@example.com,z"]
    rows = of_file(file(tmp_path, "\n".join(lines)))
    assert bad(rows) == [(3, "", "has a quote that is never closed")]
    assert [n for n, _ in good(rows)] == [2, 4, 5]


def test_a_quote_that_never_closes_in_a_large_file_costs_one_row(tmp_path: Path) -> None:
    lines = [f"m{n}@example.com,note" for n in range(20_000)]
    lines[100] = 'm100@example.com,"note'
    rows = of_file(file(tmp_path, "\n".join(["email,note", *lines])))
    assert bad(rows) == [(102, "", "has a quote that is never closed")]
    assert len(good(rows)) == 19_999


def test_a_quote_within_a_quoted_cell_costs_one_row(tmp_path: Path) -> None:
    rows = of_file(file(tmp_path, 'email,note\na@example.com,"so "called" thing"\nb@example.com,x "y" z\n'))
    assert bad(rows) == [(2, "", 'has a quote within a quoted cell; write it twice: ""')]
    assert good(rows) == [(3, ["b@example.com", 'x "y" z'])]


@pytest.mark.parametrize("length", [70_000, 200_000, 1_000_000, 3_000_000])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_cell_that_is_too_long_costs_one_row(tmp_path: Path, length: int, quote: str) -> None:
    long = f"a@example.com,{quote}{'x' * length}{quote}"
    path = file(tmp_path, f"email,note\nz@example.com,ok\n{long}\nb@example.com,ok\n")
    rows = of_file(path)
    ((n, field, reason),) = bad(rows)
    assert (n, field) == (3, "")
    assert "characters" in reason
    assert good(rows) == [(2, ["z@example.com", "ok"]), (4, ["b@example.com", "ok"])]
    (kept,) = (row.payload for row in rows if isinstance(row, BadRow))
    assert len(kept) <= 1001


def test_a_line_that_is_too_long_within_a_quoted_cell_is_never_read_in_part(tmp_path: Path) -> None:
    path = file(tmp_path, f'email,note\na@example.com,"one\nq@example.com,{"x" * 2_000_000}\nend"\nb@example.com,ok\n')
    rows = of_file(path)
    assert [n for n, _, _ in bad(rows)] == [2, 3]
    assert good(rows) == [(4, ['end"']), (5, ["b@example.com", "ok"])]


def test_a_nul_costs_one_row(tmp_path: Path) -> None:
    rows = of_file(file(tmp_path, "email,note\na@example.com,a\0b\nb@example.com,ok\n"))
    assert bad(rows) == [(2, "", "holds a NUL at character 16")]
    assert [n for n, _ in good(rows)] == [3]


@pytest.mark.parametrize("content", ["", "\n\n", "﻿"])
def test_an_empty_file_has_no_header(tmp_path: Path, content: str) -> None:
    rows = of_file(file(tmp_path, content))
    assert list(rows.header) == []
    assert list(rows) == []


def test_a_header_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudienceError, match=r"a\.csv:1: the first row, with the columns' names, has a quote"):
        of_file(file(tmp_path, '"email,a\nb@example.com,c\n'))


def test_what_was_read_is_told_in_bytes(tmp_path: Path) -> None:
    path = file(tmp_path, "email\n" + "a@example.com\n" * 10_000)
    rows = of_file(path)
    assert rows.size == path.stat().st_size
    seen = [rows.done for _ in rows]
    assert seen == sorted(seen)
    assert seen[-1] == rows.size


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AudienceError, match="cannot be read: No such file"):
        of_file(tmp_path / "gone.csv")
    with pytest.raises(AudienceError, match="cannot be read"):
        of_file(tmp_path)


def test_options_of_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudienceError, match=r"--sheet: .* is text with separators"):
        of_file(file(tmp_path, "email\n"), sheet="A")
    with pytest.raises(AudienceError, match=r"--encoding: .* is JSON Lines"):
        of_file(file(tmp_path, '{"email": "a@example.com"}\n'), encoding="utf-8")


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    lines = (
        '{"email": "a@example.com", "age": 7, "price": 19.90, "vip": true, "note": null}',
        "",
        '{"email": "b@example.com", "城市": "上海"}',
    )
    rows = of_file(file(tmp_path, "﻿" + "\n".join(lines)))
    assert list(rows.header) == ["email", "age", "price", "vip", "note", "城市"]
    assert good(rows) == [
        (1, ["a@example.com", 7, Decimal("19.90"), True, None, None]),
        (3, ["b@example.com", None, None, None, None, "上海"]),
    ]


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        (b'{"email": "a@example.com", "tags": ["a"]}', "tags", "holds other values"),
        (b'{"email": "a@example.com", "customer": {"id": 1}}', "customer", "holds other values"),
        (b"[1]", "", "is no JSON object"),
        (b'"text"', "", "is no JSON object"),
        (b"{", "", "is not JSON"),
        (b'{"a": NaN}', "", "NaN is no number"),
        (b'{"email": "a", "email": "b"}', "", "a name is there twice"),
        (b'{"email": "\xff"}', "", "is not UTF-8"),
        (rb'{"email": "a\u0000"}', "", "holds a NUL or half a character"),
        (rb'{"email": "a\ud800"}', "", "holds a NUL or half a character"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "", "is not JSON"),
        (b'{"a": "' + b"x" * 2_000_000 + b'"}', "", "is longer than 1 MiB"),
        (b'{"email": "' + b"x" * 70_000 + b'"}', "email", "has more than 65,536 characters"),
    ],
)
def test_a_bad_line_of_json_costs_one_row(tmp_path: Path, line: bytes, field: str, reason: str) -> None:
    path = file(tmp_path, b'{"email": "z@example.com", "a": 1}\n' + line + b'\n{"email": "b@example.com"}\n')
    rows = of_file(path)
    ((n, at, why),) = bad(rows)
    assert (n, at) == (2, field)
    assert reason in why
    assert [n for n, _ in good(rows)] == [1, 3]


def test_a_name_that_shows_up_late_is_a_fault_of_its_row(tmp_path: Path) -> None:
    lines = [f'{{"email": "m{n}@example.com"}}' for n in range(1500)]
    lines[1200] = '{"email": "x@example.com", "phone": "1"}'
    rows = of_file(file(tmp_path, "\n".join(lines)))
    assert bad(rows) == [(1201, "phone", "is in none of the first 1,000 objects")]
    assert len(good(rows)) == 1499


ROWS = [
    ["E-Mail", "姓名", "Age", "Birthday", "VIP", "Phone"],
    ["li@example.com", "李雷", 30, Day(33238), True, 13800138000],
    [None] * 6,
    ["han@example.com", "=cmd|' /C calc'!A0", 19.5, None, False, None],
]


@pytest.mark.parametrize("first_row", [1, 4])
def test_a_workbook_is_read_with_its_types(tmp_path: Path, first_row: int) -> None:
    path = tmp_path / "a.xlsx"
    write_workbook(path, {"Kunden": ROWS, "Other": [["email"], ["x@example.com"]]}, first_row)
    rows = of_file(path)
    assert rows.details == {"format": "workbook", "sheet": "Kunden"}
    assert list(rows.header) == ROWS[0]
    (n, li), (m, han) = good(rows)
    assert (n, m) == (first_row + 1, first_row + 3)
    assert li == ["li@example.com", "李雷", 30, dt.date(1990, 12, 31), True, 13800138000]
    assert han == ["han@example.com", "=cmd|' /C calc'!A0", 19.5, "", False, ""]
    assert good(of_file(path, sheet="Other")) == [(first_row + 1, ["x@example.com"])]
    with pytest.raises(AudienceError, match="--sheet: there is no sheet 'Kunde'; there are: Kunden, Other"):
        of_file(path, sheet="Kunde")


def test_what_is_no_workbook_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(AudienceError, match="cannot be read as a workbook"):
        of_file(file(tmp_path, b"PK\x03\x04 and nothing that follows", "a.xlsx"))
    with pytest.raises(AudienceError, match=r"old kind, or one with a password: save it as \.xlsx"):
        of_file(file(tmp_path, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a.xls"))


def test_a_workbook_without_its_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_workbook(tmp_path / "a.xlsx", {"A": ROWS})
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(AudienceError, match=r"pip install 'maildispatcher\[xlsx\]'"):
        of_file(tmp_path / "a.xlsx")


def test_a_workbook_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_workbook(tmp_path / "a.xlsx", {"A": ROWS})
    monkeypatch.setattr("dispatcher.adapters.rows.workbook.MAX_BYTES", 100)
    with pytest.raises(AudienceError, match="save it as CSV"):
        of_file(tmp_path / "a.xlsx")


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """A company's own database."""
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT, points INTEGER, team TEXT)")
        rows = [(n, f"m{n}@example.com", n % 7, "a" if n % 2 else None) for n in range(1, 5001)]
        connection.executemany("INSERT INTO customers VALUES (?, ?, ?, ?)", rows)
    connection.close()
    return f"sqlite:///{path}"


def test_a_query_is_read_page_by_page(shop: str) -> None:
    rows = Query(shop, "SELECT id, email, points FROM customers WHERE id <> 7; ", "id")
    assert rows.source == "sqlite:///shop.db: SELECT id, email, points FROM customers WHERE id <> 7"
    assert list(rows.header) == ["id", "email", "points"]
    found = good(rows)
    assert found[0] == (1, [1, "m1@example.com", 1])
    assert found[-1] == (4999, [5000, "m5000@example.com", 2])
    assert [n for n, _ in found] == list(range(1, 5000))
    assert {cells[0] for _, cells in found} == {*range(1, 5001)} - {7}


def test_a_query_may_hold_colons_percents_and_a_comment(shop: str) -> None:
    query = "SELECT id, email, '12:30 :id 5% \\' AS note FROM customers WHERE email LIKE 'm1%' -- :those;"
    rows = Query(shop, query, "id")
    assert good(rows)[0] == (1, [1, "m1@example.com", "12:30 :id 5% \\"])


def test_a_whole_table_is_read(shop: str) -> None:
    assert len(good(Query(shop, of_table_named("customers"), "id"))) == 5000
    with pytest.raises(AudienceError, match="--table"):
        of_table_named('x"; DROP TABLE customers')


@pytest.mark.parametrize(
    ("query", "key", "reason"),
    [
        ("SELECT email FROM customers", "id", "--key: the query has no column 'id'; it has: email"),
        ("SELECT id, email, team FROM customers", "team", "--key: team is empty in 2,500 rows"),
        ("SELECT id, email FROM custmers", "id", "--sql: no such table: custmers"),
        ("DELETE FROM customers RETURNING id", "id", "--sql: "),
        ("SELECT 1) AS x; DROP TABLE customers; --", "id", "--sql: "),
    ],
)
def test_a_query_that_cannot_be_read_has_one_clear_answer(shop: str, query: str, key: str, reason: str) -> None:
    with pytest.raises(AudienceError, match=reason):
        list(Query(shop, query, key))
    assert len(good(Query(shop, "SELECT id FROM customers", "id"))) == 5000


@pytest.mark.parametrize("points", ["points", "CASE WHEN id <= 2001 THEN id ELSE id - 1 END"])
def test_a_key_that_is_there_twice_is_noticed(shop: str, points: str) -> None:
    rows = Query(shop, f"SELECT {points} AS k, email FROM customers", "k")
    with pytest.raises(AudienceError, match="--key: two rows have the k"):
        good(rows)


def test_a_database_is_only_read(shop: str) -> None:
    rows = Query(shop, "SELECT id, email FROM customers", "id")
    with pytest.raises(AudienceError, match="readonly database"), rows._reading() as connection:
        connection.execute(text("DELETE FROM customers"))


def test_where_a_databases_url_may_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", "sqlite:///shop.db")
    path = file(tmp_path, "sqlite:///other.db\n", "secret")
    assert url_of("env:SHOP") == "sqlite:///shop.db"
    assert url_of(f"file:{path}") == "sqlite:///other.db"
    assert url_of("sqlite:///x.db") == "sqlite:///x.db"
    for wrong in ("env:NOWHERE", "file:/nowhere/at/all"):
        with pytest.raises(AudienceError, match="--sql"):
            url_of(wrong)
    for url, reason in (
        ("mysql://u:secret@h/d", "mysql:// is not known"),
        ("u:secret@h", "no database URL"),
        ("sqlite:///gone.db", "no file gone.db"),
    ):
        with pytest.raises(AudienceError, match=reason) as caught:
            Query(url, "SELECT 1", "x")
        assert "secret" not in str(caught.value)


@pytest.mark.server
def test_postgresql_is_read_of_one_moment_and_cannot_be_changed(postgres: Postgres) -> None:
    url = postgres.create()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE people (id bigint, email text, born date, money numeric, vip boolean)"))
        connection.execute(
            text(
                "INSERT INTO people SELECT n, 'm' || n || '@example.com', date '1990-12-31', 19.90, n % 2 = 0 "
                "FROM generate_series(1, 4500) n"
            )
        )
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    rows = Query(plain, "SELECT * FROM people WHERE email LIKE '%@example.com' AND id::text <> ':x'", "id")
    assert rows.source.startswith("postgresql://127.0.0.1/")
    found = iter(rows)
    assert next(found) == (1, [1, "m1@example.com", dt.date(1990, 12, 31), Decimal("19.90"), False])
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM people WHERE id > 3000"))
    assert sum(1 for _ in found) == 4499
    with pytest.raises(AudienceError, match="read-only transaction"), rows._reading() as connection:
        connection.execute(text("DELETE FROM people"))
    with pytest.raises(AudienceError, match="--sql: "):
        Query(plain, "DELETE FROM people RETURNING id", "id")
    engine.dispose()


def test_what_is_written_for_a_spreadsheet_is_never_calculated(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    cells = ["=cmd|' /C calc'!A0", "+49 30", "-5", "@sum", "\tx", "plain", -5, True, None]
    assert write(path, ["email", *(f"c{n}" for n in range(8))], [cells]) == 1
    assert path.read_bytes().startswith(codecs.BOM_UTF8)
    (row,) = good(of_file(path))
    assert row[1] == ["'=cmd|' /C calc'!A0", "'+49 30", "'-5", "'@sum", "'\tx", "plain", "-5", "yes", ""]
    with pytest.raises(AudienceError, match="cannot be written"):
        write(tmp_path / "no" / "x.csv", ["email"], [])
