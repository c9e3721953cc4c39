"""A file of recipients, by what it holds: a workbook, JSON Lines, or text with separators."""

from pathlib import Path

from dispatcher.adapters.rows.lines import JsonLines
from dispatcher.adapters.rows.separated import Separated
from dispatcher.adapters.rows.workbook import Workbook
from dispatcher.errors import AudienceError
from dispatcher.interfaces import Rows

_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_BOM = b"\xef\xbb\xbf"


def of_file(path: Path, *, encoding: str | None = None, separator: str | None = None, sheet: str | None = None) -> Rows:
    """Its rows. Raises AudienceError, also for an option that its kind does not have."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise AudienceError(str(path), f"cannot be read: {error.strerror}") from None
    if head.startswith(_OLE):
        raise AudienceError(str(path), "is a workbook of an old kind, or one with a password: save it as .xlsx")
    given = {"--encoding": encoding, "--separator": separator, "--sheet": sheet}
    if head.startswith(_ZIP):
        _refuse(path, "a workbook", given, "--sheet")
        return Workbook(path, sheet=sheet)
    if head.removeprefix(_BOM).lstrip().startswith(b"{"):
        _refuse(path, "JSON Lines", given)
        return JsonLines(path)
    _refuse(path, "text with separators", given, "--encoding", "--separator")
    return Separated(path, encoding=encoding, separator=separator)


def _refuse(path: Path, what: str, given: dict[str, str | None], *known: str) -> None:
    for option, value in given.items():
        if value is not None and option not in known:
            raise AudienceError(option, f"{path} is {what}, which has no use for it")
