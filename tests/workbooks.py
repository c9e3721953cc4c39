"""Workbooks as small as they can be, written by hand."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
DATE = 1  # the style of a cell that is a date


class Day(int):
    """A date as a workbook has it: days since 1899-12-30, and a style."""


def write_workbook(path: Path, sheets: dict[str, Sequence[Sequence[Any]]], first_row: int = 1) -> None:
    """Sheets of rows; a cell is text, a number, a bool, a Day, or None."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        names = list(sheets)
        parts = "".join(
            f'<Override PartName="/xl/worksheets/s{n}.xml" ContentType="{_TYPES}.worksheet+xml"/>'
            for n in range(len(names))
        )
        packed.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/>'
            f'<Override PartName="/xl/styles.xml" ContentType="{_TYPES}.styles+xml"/>{parts}</Types>',
        )
        packed.writestr("_rels/.rels", _relations({"r1": ("officeDocument", "xl/workbook.xml")}))
        listed = "".join(
            f'<sheet name="{escape(name)}" sheetId="{n + 1}" r:id="s{n}"/>' for n, name in enumerate(names)
        )
        packed.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{_MAIN}" xmlns:r="{_REL}"><sheets>{listed}</sheets></workbook>'
        )
        relations = {f"s{n}": ("worksheet", f"worksheets/s{n}.xml") for n in range(len(names))}
        packed.writestr("xl/_rels/workbook.xml.rels", _relations(relations | {"st": ("styles", "styles.xml")}))
        packed.writestr(
            "xl/styles.xml",
            f'<styleSheet xmlns="{_MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>',
        )
        for n, rows in enumerate(sheets.values()):
            packed.writestr(f"xl/worksheets/s{n}.xml", _sheet(rows, first_row))


def _relations(found: dict[str, tuple[str, str]]) -> str:
    listed = "".join(
        f'<Relationship Id="{name}" Type="{_REL}/{kind}" Target="{target}"/>' for name, (kind, target) in found.items()
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{listed}</Relationships>'


def _sheet(rows: Sequence[Sequence[Any]], first_row: int) -> str:
    written = "".join(
        f'<row r="{n}">{"".join(_cell(f"{chr(65 + c)}{n}", value) for c, value in enumerate(row))}</row>'
        for n, row in enumerate(rows, first_row)
    )
    return f'<worksheet xmlns="{_MAIN}"><sheetData>{written}</sheetData></worksheet>'


def _cell(place: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, Day):
        return f'<c r="{place}" s="{DATE}"><v>{int(value)}</v></c>'
    if isinstance(value, (int, float)):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
