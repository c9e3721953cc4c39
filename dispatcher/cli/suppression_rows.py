"""A file of addresses that are not to be written to: CSV with a head, JSON Lines, or an address a line; told apart by
the first line. Read in flat memory; what is wrong with a row is said, and the next one is read."""

import csv
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import IO, Any, NamedTuple

from dispatcher.address import mailbox
from dispatcher.errors import InvalidAddress
from dispatcher.suppression import Reason, Suppression, scope_of

COLUMNS = ("address", "scope", "reason", "evidence", "origin", "at", "until", "actor")  # of what is exported
_ADDRESS = frozenset({"address", "email", "e-mail", "mail", "email address", "email_address", "emailaddress"})
_MAX_LINE = 64 * 1024  # bytes
_TOO_LONG = f"is longer than {_MAX_LINE >> 10} kB"
_SEPARATORS = ",;\t|"


class Row(NamedTuple):
    """One row: the line that it begins on, what it says, or what is wrong with it."""

    number: int
    found: Suppression | None
    error: str = ""


def rows(file: IO[bytes], usual: Suppression) -> Iterator[Row]:
    """Every row that says something; what a row leaves out is as in ``usual``."""
    lines = enumerate(_lines(file), 1)
    for number, line in lines:
        if line is None:
            yield Row(number, None, _TOO_LONG)
        elif line.strip():
            yield from _rows(number, line, lines, usual)
            return


def _lines(file: IO[bytes]) -> Iterator[str | None]:
    """None for one that is too long to be kept. Bytes that are no UTF-8 become surrogates, so that their row can be
    named."""
    mark = b"\xef\xbb\xbf"
    while raw := file.readline(_MAX_LINE + 1):
        if len(raw) <= _MAX_LINE or raw.endswith(b"\n"):
            yield raw.removeprefix(mark).decode("utf-8", "surrogateescape")
            mark = b""
            continue
        while (rest := file.readline(_MAX_LINE)) and not rest.endswith(b"\n"):
            continue
        yield None


def _rows(number: int, first: str, lines: Iterator[tuple[int, str | None]], usual: Suppression) -> Iterator[Row]:
    separator = max(_SEPARATORS, key=first.count)
    head = [name.strip().lower() for name in next(csv.reader([first], delimiter=separator), [])]
    if not first.lstrip().startswith("{") and _ADDRESS & set(head):
        names = ["address" if name in _ADDRESS else name for name in head]
        yield from _of_csv(names, separator, lines, usual)
        return
    read = _of_json if first.lstrip().startswith("{") else _of_line
    yield read(number, first, usual)
    for later, line in lines:
        if line is None:
            yield Row(later, None, _TOO_LONG)
        elif line.strip():
            yield read(later, line, usual)


def _of_csv(
    names: list[str], separator: str, lines: Iterator[tuple[int, str | None]], usual: Suppression
) -> Iterator[Row]:
    """A line is a record: a quote that is left open must not make those behind it a part of its row."""
    for number, line in lines:
        if line is None:
            yield Row(number, None, _TOO_LONG)
            continue
        try:
            cells = next(csv.reader([line], delimiter=separator, strict=True), [])
        except csv.Error as error:
            yield Row(number, None, _fault(error))
            continue
        if any("\r" in cell for cell in cells):
            yield Row(number, None, "has a cell with a line end")
        elif any(cells):
            yield _checked(number, {name: text for name, text in zip(names, cells, strict=False) if text}, usual)


def _fault(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "has a quote that is not closed on its line"
    if "expected after" in str(error):
        return 'has a quote within a quoted cell; write it twice: ""'
    return f"is no CSV: {error}"


def _of_json(number: int, line: str, usual: Suppression) -> Row:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row(number, None, f"is not JSON: {error}")
    if not isinstance(found, dict):
        return Row(number, None, "is no JSON object")
    given = {"address" if name.lower() in _ADDRESS else name: value for name, value in found.items()}
    return _checked(number, {name: value for name, value in given.items() if value is not None}, usual)


def _of_line(number: int, line: str, usual: Suppression) -> Row:
    return _checked(number, {"address": line.strip()}, usual)


def _checked(number: int, given: Mapping[str, Any], usual: Suppression) -> Row:
    try:
        return Row(number, _suppression(given, usual))
    except InvalidAddress as error:
        return Row(number, None, str(error))
    except ValueError as error:
        return Row(number, None, str(error))


def _suppression(given: Mapping[str, Any], usual: Suppression) -> Suppression:
    texts = {
        name: given[name] for name in ("address", "scope", "reason", "evidence", "origin", "actor") if name in given
    }
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{name}: must be a string")  # noqa: TRY004 - as all that is wrong with a row
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name}: is not UTF-8") from None
    if not texts.get("address", "").strip():
        raise ValueError("address: is missing")
    address, _ = mailbox(texts["address"].strip(), "address")
    if "scope" in texts:
        texts["scope"] = scope_of(texts["scope"])
    times = {name: _moment(given[name], name) for name in ("at", "until") if name in given}
    found = replace(usual, **{**texts, **times, "address": address})
    try:
        found = replace(found, reason=Reason(found.reason))
    except ValueError:
        raise ValueError(f"reason: {found.reason!r} is none of {', '.join(Reason)}") from None
    if found.until is not None and found.until <= time.time():
        raise ValueError("until: is over")
    return found


def _moment(value: Any, name: str) -> float:
    """Seconds since the epoch, or ISO 8601."""
    try:
        if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
            return datetime.fromisoformat(value).astimezone().timestamp()
        moment = float(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{name}: {value!r} is no time: write 2026-12-01T09:00:00+08:00") from None
    if not 0 <= moment < 1e11:  # noqa: PLR2004 - the year 5138
        raise ValueError(f"{name}: {value!r} is no time in seconds since 1970")
    return moment
