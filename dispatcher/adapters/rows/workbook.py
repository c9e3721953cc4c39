"""A sheet of a workbook (.xlsx), read by calamine, which holds all of the sheet in memory: so its size has a limit."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatcher.audience import BadRow
from dispatcher.errors import AudienceError

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

MAX_BYTES = 64 << 20
_MAX_UNPACKED = 1 << 30
_MAX_TEXT = 65_536  # characters


class Workbook:
    """``interfaces.Rows`` of one sheet, the first that is shown unless it is named. Row numbers are the sheet's own."""

    def __init__(self, path: Path, *, sheet: str | None = None) -> None:
        self.source = path.name
        self.size: int | None = None
        self.done = 0
        self._path = path
        self._sheet = self._opened(sheet)
        self.details: Mapping[str, str] = {"format": "workbook", "sheet": self._sheet.name}
        self._first, self.header = self._header()

    def _opened(self, named: str | None) -> "CalamineSheet":
        try:
            from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise AudienceError(
                str(self._path), "is a workbook; to read it: pip install 'maildispatcher[xlsx]', or save it as CSV"
            ) from None
        self._check_size()
        try:
            book = CalamineWorkbook.from_path(str(self._path))
            shown = [each.name for each in book.sheets_metadata if each.visible == SheetVisibleEnum.Visible]
            wanted = named if named is not None else (shown or book.sheet_names)[0]
            if wanted not in book.sheet_names:
                raise AudienceError(
                    "--sheet", f"there is no sheet {wanted!r}; there are: {', '.join(book.sheet_names)}"
                )
            return book.get_sheet_by_name(wanted)
        except (CalamineError, OSError, IndexError) as error:
            raise AudienceError(str(self._path), f"cannot be read as a workbook: {error}") from None

    def _check_size(self) -> None:
        try:
            size = self._path.stat().st_size
            with zipfile.ZipFile(self._path) as packed:
                unpacked = sum(each.file_size for each in packed.infolist())
        except (OSError, zipfile.BadZipFile) as error:
            raise AudienceError(str(self._path), f"cannot be read as a workbook: {error}") from None
        if size > MAX_BYTES or unpacked > _MAX_UNPACKED:
            raise AudienceError(str(self._path), f"is larger than {MAX_BYTES >> 20} MiB: save it as CSV")

    def _rows(self) -> Iterator[tuple[int, list[Any]]]:
        """Rows that are not empty, by their number in the sheet."""
        for number, cells in enumerate(self._sheet.iter_rows(), 1):
            if any(cell not in ("", None) for cell in cells):
                yield number, cells

    def _header(self) -> tuple[int, Sequence[str]]:
        number, cells = next(self._rows(), (0, []))
        while cells and cells[-1] == "":
            cells = cells[:-1]
        return number, [str(cell).strip() for cell in cells]

    def __iter__(self) -> Iterator[tuple[int, Sequence[Any]] | BadRow]:
        for number, cells in self._rows():
            if number > self._first:
                long = any(isinstance(cell, str) and len(cell) > _MAX_TEXT for cell in cells)
                reason = f"has a cell of more than {_MAX_TEXT:,} characters"
                yield BadRow(number, "", reason, str(cells)[:1000]) if long else (number, cells)
