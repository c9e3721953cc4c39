"""Patterns with names in braces: of files, of links, and of a program's arguments."""

from collections.abc import Callable

import pytest

from dispatcher import naming
from dispatcher.filetype import misnamed

VALUES = {"customer": 1001, "name": "Li Lei", "path": "../etc/passwd", "flag": "--output=/etc/passwd", "empty": ""}


def test_each_name_becomes_its_value() -> None:
    assert naming.named("{customer}/{name}.pdf") == {"customer", "name"}
    assert naming.file_name("statement {customer}-{name}.pdf", VALUES) == "statement 1001-Li Lei.pdf"
    assert naming.link("https://example.com/{name}?c={customer}", VALUES) == "https://example.com/Li%20Lei?c=1001"
    assert naming.argument("--customer={customer}", VALUES) == "--customer=1001"


@pytest.mark.parametrize(
    ("write", "pattern", "said"),
    [
        (naming.file_name, "{nothing}.pdf", "there is no 'nothing'"),
        (naming.file_name, "{empty}.pdf", "there is no 'empty'"),
        (naming.file_name, "{path}.pdf", "cannot be in a file's name"),
        (naming.argument, "{flag}", "would be an option of the program"),
    ],
)
def test_a_value_is_never_more_than_a_part(write: Callable[..., str], pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        write(pattern, VALUES)


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("a.pdf", b"%PDF-1.7", ""),
        ("a.PDF", b"\xef\xbb\xbf%PDF-1.7", ""),
        ("a.pdf", b"<html>", "is no PDF"),
        ("a.pdf", b"", "is empty"),
        ("a.xlsx", b"PK\x03\x04", ""),
        ("a.xlsx", b"name;amount", "is no XLSX file"),
        ("a.csv", b"a\0b", "is no text"),
        ("a.unknown", b"a\0b", ""),
    ],
)
def test_a_file_is_what_its_name_says(name: str, head: bytes, said: str) -> None:
    assert misnamed(name, head) == said
