"""From a header to an audience's columns, and from a row to its member: which cell is what, and whether it can be.

Header names that everybody uses map themselves; everything else becomes a text attribute of its own name.
"""

import json
import keyword
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from dispatcher.address import mailbox
from dispatcher.audience import BadRow, Column, Member
from dispatcher.errors import AudienceError, InvalidAddress, SubmissionError
from dispatcher.kind import Kind, brought, reader, text_reader
from dispatcher.suppression import normal
from dispatcher.written import Written

ADDRESS = "email"  # the name of the column that mail goes to
MAX_COLUMNS = 500
MAX_PAYLOAD = 65_536  # characters of a bad row that are kept
_MAX_SHOWN = 60
_SURELY = frozenset(
    {"email", "e_mail", "email_address", "e_mail_address", "emailaddress", "邮箱", "邮箱地址", "电子邮件", "电子邮箱"}
)
_PERHAPS = frozenset({"mail", "address", "mail_address"})  # the address, unless another one surely is
_KINDS = {
    **dict.fromkeys(("locale", "language", "lang", "语言"), Kind.LOCALE),
    **dict.fromkeys(("timezone", "time_zone", "tz", "时区"), Kind.ZONE),
}
_NO_VARIABLE = {*keyword.kwlist, "true", "false", "none", "loop", "self"}  # templates cannot ask for these
_TRUTH = "false", "true"  # as JSON has it
_APART = re.compile(r"[\s-]+")


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """What the user said of the columns: attribute -> header, and attribute -> kind. What it does not name maps
    itself. ``hint``: how a person names a column."""

    headers: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    hint: str = "as in --map {name}={header!r}"


def usual_name(header: str) -> str:
    """The name that a header's attribute has by itself: in lower case, spaces and dashes become underscores."""
    return _APART.sub("_", unicodedata.normalize("NFKC", header).strip().lower())


def columns(header: Sequence[str], said: ColumnMap, sample: Sequence[Sequence[Any]], where: str) -> tuple[Column, ...]:
    """The columns of a source, in its order. ``sample``: its first rows, for the kinds that it brings; ``where``: what
    the source is called. Raises AudienceError for a header or a mapping with which nothing can be kept."""
    names = _names(header, said, where)
    found = []
    for number, (name, source) in enumerate(zip(names, header, strict=True)):
        if name == ADDRESS:
            kind = Kind.ADDRESS
        elif (given := said.kinds.get(name)) is not None:
            kind = given
        else:
            kind = brought(row[number] for row in sample if number < len(row))
            if kind is Kind.TEXT:
                kind = _KINDS.get(usual_name(source), _KINDS.get(name, Kind.TEXT))
        found.append(Column(name, kind, source))
    if unknown := said.kinds.keys() - set(names):
        raise AudienceError("--type", f"there is no attribute {min(unknown)}; there are: {', '.join(names)}")
    return tuple(found)


def _names(header: Sequence[str], said: ColumnMap, where: str) -> list[str]:
    """The attribute of each header."""
    _check(header, where)
    mapped = {_header(source, header): name for name, source in said.headers.items()}
    if len(mapped) < len(said.headers):
        raise AudienceError("--map", "one column is mapped to two attributes")
    usual = {source: usual_name(source) for source in header}
    if ADDRESS not in mapped.values():
        mapped[_address(header, mapped, usual, said.hint, where)] = ADDRESS
    names = [mapped.get(source, usual[source]) for source in header]
    for source, name in zip(header, names, strict=True):
        _check_name(name, source, names, said.hint, where)
    return names


def _check(header: Sequence[str], where: str) -> None:
    if not any(source.strip() for source in header):
        raise AudienceError(where, "is empty, or its first row is: that is where the columns are named")
    for source in header:
        if "@" in source and _is_address(source):
            raise AudienceError(where, f"its first row has the address {source[:80]}: put a row of names over it")
    for number, source in enumerate(header, 1):
        if not source.strip():
            raise AudienceError(where, f"column {number} has no name; name it in the first row, or take it out")
    if len(header) > MAX_COLUMNS:
        raise AudienceError(where, f"has {len(header):,} columns; {MAX_COLUMNS} are the most")
    first: dict[str, int] = {}
    for number, source in enumerate(header, 1):
        if source in first:
            raise AudienceError(where, f"columns {first[source]} and {number} have the same name, {source!r}")
        first[source] = number


def _is_address(text: str) -> bool:
    try:
        mailbox(text, "")
    except InvalidAddress:
        return False
    return True


def _header(named: str, header: Sequence[str]) -> str:
    """The header that a person named, as they may have typed it."""
    if named in header:
        return named
    same = [source for source in header if usual_name(source) == usual_name(named)]
    if len(same) != 1:
        raise AudienceError("--map", f"there is no column {named!r}; there are: {', '.join(header)}")
    return same[0]


def _address(header: Sequence[str], mapped: Mapping[str, str], usual: Mapping[str, str], hint: str, where: str) -> str:
    """The header of the column that mail goes to, where nobody named it."""
    for known in (_SURELY, _PERHAPS):
        found = [source for source in header if source not in mapped and usual[source] in known]
        if len(found) > 1:
            how = hint.format(name=ADDRESS, header=found[0])
            raise AudienceError(where, f"mail could go to {' or '.join(found)}: say which, {how}")
        if found:
            return found[0]
    how = hint.format(name=ADDRESS, header=header[0])
    raise AudienceError(where, f"no column is called email: name the one with the addresses, {how}")


def _check_name(name: str, source: str, names: Sequence[str], hint: str, where: str) -> None:
    how = f"give it another name, {hint.format(name='first_name', header=source)}"
    if not name.isidentifier() or name.startswith("_") or name in _NO_VARIABLE:
        raise AudienceError(
            where, f"column {source!r}: templates cannot ask for {name!r} (letters, digits and _ can be); {how}"
        )
    if names.count(name) > 1:
        raise AudienceError(where, f"two columns would be called {name}, {source!r} is one of them; {how}")


class Reading:
    """Makes members of rows. What cannot be one becomes a BadRow that names the attribute, the value and the row."""

    def __init__(self, header: Sequence[str], columns: Sequence[Column]) -> None:
        self._header = tuple(header)
        places = {source: number for number, source in enumerate(header)}
        (self._address,) = (places[column.source] for column in columns if column.kind is Kind.ADDRESS)
        self._others = [
            (places[c.source], c.name, f"{_quoted(c.name)}:", text_reader(c.kind), reader(c.kind))
            for c in columns
            if c.kind is not Kind.ADDRESS
        ]
        self._width = len(header)

    def member(self, n: int, cells: Sequence[Any]) -> Member | BadRow:
        """The row with this number."""
        attributes: dict[str, Any] = {}
        pairs: list[str] = []  # of the attributes as JSON: to have an encoder go through them takes twice as long
        name, value = "", None
        try:
            if len(cells) != self._width:
                self._check_width(cells)
            rcpt, shown = _mailbox(cells[self._address])
            for place, name, label, read_text, read in self._others:
                value = cells[place]
                if type(value) is str:
                    found = read_text(value) if value else ""
                else:
                    found = "" if value is None else read(value)
                if type(found) is str:
                    if not found:
                        continue
                    pairs.append(label + _quoted(found))
                else:
                    pairs.append(label + (_TRUTH[found] if type(found) is bool else repr(found)))
                attributes[name] = found
        except SubmissionError as error:
            return BadRow(n, error.field, error.reason, self.payload(cells))
        except ValueError as error:
            if isinstance(value, str) and not value.strip():  # only spaces: it is as good as empty
                return self.member(n, [cell.strip() if isinstance(cell, str) else cell for cell in cells])
            return BadRow(n, name, f"{_shown(value)} {error}", self.payload(cells))
        return Member(n, normal(rcpt), shown, Written(attributes, f"{{{','.join(pairs)}}}"))

    def _check_width(self, cells: Sequence[Any]) -> None:
        """A row of another length is one all the same if what is over is empty."""
        if len(cells) < self._width or any(cells[self._width :]):
            raise SubmissionError("", f"has {len(cells)} cells, and there are {self._width} columns")

    def payload(self, cells: Sequence[Any]) -> str:
        """A row as it is kept with its fault: an object of its cells by their headers."""
        names = [*self._header, *(f"+{number}" for number in range(1, len(cells) - self._width + 1))]
        row = {name: _kept(cell) for name, cell in zip(names, cells, strict=False)}
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))[:MAX_PAYLOAD]


def _mailbox(cell: Any) -> tuple[str, str]:
    """As ``address.mailbox``. Raises SubmissionError."""
    if type(cell) is str and (stripped := cell.strip()):
        return mailbox(stripped, ADDRESS)
    raise SubmissionError(
        ADDRESS, "is empty" if cell is None or isinstance(cell, str) else f"{_shown(cell)} is no text"
    )


def _kept(cell: Any) -> Any:
    return cell if cell is None or isinstance(cell, (str, int)) else str(cell)


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}...")
