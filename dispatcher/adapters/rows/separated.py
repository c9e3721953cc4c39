"""Text with separators (CSV, TSV and what spreadsheets make of them), read one record at a time; and written.

Records are reported by the line on which they begin. What is wrong with one is a row of its own: the next line is read
as if nothing had been, so that a quote that never closes costs one row, and not the rest of the file.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dispatcher.adapters.rows.encoding import SAMPLE, UNDECODED, detected, known
from dispatcher.audience import BadRow
from dispatcher.cells import defused
from dispatcher.errors import AudienceError

MAX_FIELD = 65_536  # characters
_MAX_LINE = 1 << 20
_KEPT = 1000  # characters of a line that is bad
_SEPARATORS = ",;\t|"
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_NAMED = {name: separator for separator, name in _NAMES.items()} | {r"\t": "\t"}
_SAID = re.compile(r"sep=(.)\r?\n?", re.DOTALL)  # a first line that Excel understands
_SURROGATE = re.compile("[\ud800-\udfff]")
_TRIED = 50  # records that show which separator it is
_SHOWN = {"utf-8-sig": "utf-8"}

csv.register_dialect("dispatcher", quoting=csv.QUOTE_MINIMAL, doublequote=True, strict=True)


class _LongLine(str):
    """The beginning of a line that is too long to be read."""

    __slots__ = ()


class Separated:
    """``interfaces.Rows`` of a file; encoding and separator are found out unless they are given."""

    def __init__(self, path: Path, *, encoding: str | None = None, separator: str | None = None) -> None:
        self.source = path.name
        self._path = path
        self._file: io.BufferedReader | None = None
        try:
            self._encoding = known(encoding) if encoding else detected(path)
            self.size: int | None = path.stat().st_size
            with self._open() as text:
                sample = text.read(SAMPLE // 4)
        except OSError as error:
            raise AudienceError(str(path), f"cannot be read: {error.strerror}") from None
        said = _SAID.match(sample)
        self._skipped = int(said is not None)
        given = _separator(separator) if separator else said[1] if said else None
        self._separator = given or _sniffed(sample[said.end() if said else 0 :])
        self.header: Sequence[str] = self._header()
        name = _NAMES.get(self._separator, repr(self._separator))
        self.details: Mapping[str, str] = {"encoding": _SHOWN.get(self._encoding, self._encoding), "separator": name}

    @property
    def done(self) -> int:
        """Bytes that were read, up to some thousand more than were parted into rows."""
        return 0 if self._file is None or self._file.closed else self._file.tell()

    def _open(self) -> io.TextIOWrapper:
        self._file = self._path.open("rb")
        return io.TextIOWrapper(self._file, self._encoding, UNDECODED, newline="")

    def _header(self) -> Sequence[str]:
        for found in self._records():
            if isinstance(found, BadRow):
                raise AudienceError(
                    f"{self._path}:{found.n}", f"the first row, with the columns' names, {found.reason}"
                )
            return [cell.strip() for cell in found[1]]
        return []

    def __iter__(self) -> Iterator[tuple[int, Sequence[Any]] | BadRow]:
        return islice(self._records(), 1, None)

    def _records(self) -> Iterator[tuple[int, list[str]] | BadRow]:
        with self._open() as text:
            lines = _Lines(text)
            line = 1 + lines.skip(self._skipped)
            while not lines.at_end:
                try:
                    for cells in csv.reader(lines.feed(), "dispatcher", delimiter=self._separator):
                        taken = lines.taken
                        record = taken[0] if len(taken) == 1 else "".join(taken)
                        if fault := _fault(record, cells):
                            yield BadRow(line, "", fault, _legible(record))
                        elif cells:
                            yield line, cells
                        line += len(taken)
                        taken.clear()
                except csv.Error as error:
                    yield BadRow(line, "", _reason(error, lines.taken), _legible(lines.taken[0]))
                    line += 1
                    lines.again()


class _Lines:
    """The lines of a file, each remembered until the record that it belongs to is whole."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self.at_end = False

    def skip(self, count: int) -> int:
        """Pass over so many lines; how many."""
        for _ in range(count):
            self._text.readline()
        return count

    def feed(self) -> Iterator[str]:
        """The next lines."""
        read, take, again = self._text.readline, self.taken.append, self._again
        while line := again.popleft() if again else read(_MAX_LINE):
            if len(line) >= _MAX_LINE and not line.endswith(("\n", "\r")):
                while (rest := read(_MAX_LINE)) and not rest.endswith(("\n", "\r")):
                    pass
                line = _LongLine(line[:_KEPT])
            take(line)
            if type(line) is _LongLine:
                raise csv.Error("line too long")
            yield line
        self.at_end = True

    def again(self) -> None:
        """The first line of the record is done with; the others begin records of their own."""
        self._again.extendleft(reversed(self.taken[1:]))
        self.taken.clear()
        self.at_end = False


def _fault(record: str, cells: Sequence[str]) -> str | None:
    """What is wrong with a record as such."""
    if not record.isascii() and (found := _SURROGATE.search(record)):
        byte = f" (byte {ord(found[0]) - 0xDC00:#04x})" if "\udc00" <= found[0] <= "\udcff" else ""
        return f"cannot be decoded at character {found.start() + 1}{byte}: is it all of one encoding? See --encoding"
    if "\0" in record:
        return f"holds a NUL at character {record.index(chr(0)) + 1}"
    if len(record) > MAX_FIELD and max(map(len, cells), default=0) > MAX_FIELD:
        return f"has a cell of more than {MAX_FIELD:,} characters"
    return None


def _reason(error: csv.Error, taken: Sequence[str]) -> str:
    said = str(error)
    if "line too long" in said:
        return f"is longer than {_MAX_LINE:,} characters"
    if "field larger" in said and len(taken) == 1:
        return f"has a cell of more than {MAX_FIELD:,} characters"
    if "field larger" in said or "unexpected end" in said:
        return "has a quote that is never closed"
    if "expected after" in said:
        return 'has a quote within a quoted cell; write it twice: ""'
    return said


def _legible(record: str) -> str:
    text = record[:_KEPT].rstrip("\r\n")
    return text if len(record) <= _KEPT else f"{text}…"


def _separator(given: str) -> str:
    found = _NAMED.get(given, given)
    if len(found) != 1 or found in '"\r\n':
        raise AudienceError("--separator", f"{given!r} is no separator: one character, or comma, semicolon, tab, pipe")
    return found


def _sniffed(sample: str) -> str:
    """The one by which most records have as many cells as the first, and that more than one."""
    best = (0.0, 0, ",")
    for separator in _SEPARATORS:
        rows = _parted(sample, separator)
        if rows and len(rows[0]) > 1:
            share = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
            best = max(best, (share, len(rows[0]), separator))
    return best[2]


def _parted(sample: str, separator: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(sample, newline=""), delimiter=separator):
            if row:
                rows.append(row)
            if len(rows) == _TRIED:
                break
    except csv.Error:  # a cell without an end: what came before it tells enough
        pass
    return rows


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Write rows as a spreadsheet reads them; how many. Text that a spreadsheet would calculate gets an apostrophe."""
    count = 0
    try:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([_harmless(cell) for cell in header])
            for row in rows:
                writer.writerow([_harmless(cell) for cell in row])
                count += 1
    except OSError as error:
        raise AudienceError(str(path), f"cannot be written: {error.strerror}") from None
    return count


def _harmless(cell: Any) -> Any:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return defused(cell) if isinstance(cell, str) else cell
