"""A manifest: who gets a report, with which files, and what is said to each of them."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from dispatcher.audience import BadRow, Member
from dispatcher.columns import ADDRESS, ColumnMap, Reading, columns, usual_name
from dispatcher.interfaces import Rows

_SAMPLE = 100  # rows that show which kinds of values the columns have
_RECIPIENT = frozenset({"recipient", "收件人"})
_FILE = frozenset({"file", "files", "文件"})
_LOCALE = "locale"
_APART = ";"  # several files of one cell
_HINT = "as in {name!r} for {header!r} in the first row"


class Person(NamedTuple):
    """A row: its number in the manifest, the address as it stands in To, the files that it names, and its values."""

    n: int
    to: str
    locale: str | None
    files: tuple[str, ...]
    values: dict[str, object]


class Manifest:
    """Reads the rows of a source, once. Raises AudienceError for a header with which nothing can be done.

    ``names_files``: whether it has a column of files; ``names``: what a row has values of, beside its address, its
    language and its files.
    """

    def __init__(self, rows: Rows) -> None:
        self._rest = iter(rows)
        first = list(islice(self._rest, _SAMPLE))
        self._rows = chain(first, self._rest)
        sample = [row[1] for row in first if not isinstance(row, BadRow)]
        found = columns(rows.header, _map(rows), sample, rows.source)
        self._reading = Reading(rows.header, found)
        self._file = next((each.name for each in found if usual_name(each.source) in _FILE), None)
        self.names_files = self._file is not None
        self.names = {each.name for each in found} - {ADDRESS, _LOCALE, self._file}
        self.source = rows.source

    def __iter__(self) -> Iterator[Person | BadRow]:
        for row in self._rows:
            read = row if isinstance(row, BadRow) else self._reading.member(*row)
            yield self._person(read) if isinstance(read, Member) else read

    def _person(self, member: Member) -> Person:
        values = dict(member.attributes)
        locale = values.pop(_LOCALE, None)
        cell = str(values.pop(self._file, "")) if self._file else ""
        files = tuple(name for part in cell.split(_APART) if (name := part.strip()))
        return Person(member.n, member.shown, None if locale is None else str(locale), files, values)


def _map(rows: Rows) -> ColumnMap:
    """The column that is called recipient is the address, whatever else is there."""
    named = [source for source in rows.header if usual_name(source) in _RECIPIENT]
    return ColumnMap({ADDRESS: named[0]} if len(named) == 1 else {}, hint=_HINT)
