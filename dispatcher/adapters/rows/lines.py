"""JSON Lines: one object a line, its values as JSON has them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any

from dispatcher.audience import BadRow
from dispatcher.errors import AudienceError

_MAX_LINE = 1 << 20  # bytes
_KEPT = 1000
_FIRST = 1000  # objects that show which names there are
_MAX_TEXT = 65_536
_NO_TEXT = re.compile("\\\\u0000|[\ud800-\udfff]")  # as JSON writes it


class JsonLines:
    """``interfaces.Rows`` of a file. The header are the names that its first 1,000 objects have."""

    def __init__(self, path: Path) -> None:
        self.source = path.name
        self.details: Mapping[str, str] = {"encoding": "utf-8", "format": "JSON Lines"}
        self._path = path
        self._file: IO[bytes] | None = None
        names: dict[str, None] = {}
        try:
            self.size: int | None = path.stat().st_size
            for found in islice(self._objects(), _FIRST):
                if not isinstance(found, BadRow):
                    names |= dict.fromkeys(found[1])
        except OSError as error:
            raise AudienceError(str(path), f"cannot be read: {error.strerror}") from None
        self.header: Sequence[str] = list(names)
        self._places = {name: place for place, name in enumerate(names)}

    @property
    def done(self) -> int:
        """Bytes that were read."""
        return 0 if self._file is None or self._file.closed else self._file.tell()

    def __iter__(self) -> Iterator[tuple[int, Sequence[Any]] | BadRow]:
        places, empty = self._places, [None] * len(self._places)
        for found in self._objects():
            if isinstance(found, BadRow):
                yield found
                continue
            number, row = found
            cells: list[Any] = empty.copy()
            fault = None
            for name, value in row.items():
                if isinstance(value, (dict, list)):
                    fault = BadRow(number, name, "holds other values: only text, numbers, true and false can be", "")
                elif name not in places:
                    fault = BadRow(number, name, f"is in none of the first {_FIRST:,} objects", "")
                elif isinstance(value, str) and len(value) > _MAX_TEXT:
                    fault = BadRow(number, name, f"has more than {_MAX_TEXT:,} characters", "")
                else:
                    cells[places[name]] = value
            yield (number, cells) if fault is None else fault._replace(payload=_legible(json.dumps(row, default=str)))

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
        with self._path.open("rb") as self._file:
            number = 0
            while raw := self._file.readline(_MAX_LINE + 1):
                number += 1
                if len(raw) > _MAX_LINE and not raw.endswith(b"\n"):
                    while (rest := self._file.readline(_MAX_LINE)) and not rest.endswith(b"\n"):
                        pass
                    yield BadRow(number, "", f"is longer than {_MAX_LINE >> 20} MiB", _text(raw))
                    continue
                if number == 1:
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                if raw.strip():
                    yield _object(number, raw)


def _object(number: int, raw: bytes) -> tuple[int, dict[str, Any]] | BadRow:
    try:
        found = json.loads(raw.decode("utf-8"), parse_float=Decimal, parse_constant=_refused, object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        return BadRow(number, "", f"is not UTF-8 (byte {error.start + 1})", _text(raw))
    except json.JSONDecodeError as error:
        return BadRow(number, "", f"is not JSON: {error.msg} at column {error.colno}", _text(raw))
    except (ValueError, RecursionError) as error:
        return BadRow(number, "", f"is not JSON that can be read: {error}", _text(raw))
    if not isinstance(found, dict):
        return BadRow(number, "", "is no JSON object", _text(raw))
    if b"\\u" in raw and _NO_TEXT.search(json.dumps(found, ensure_ascii=False, default=str)):
        return BadRow(number, "", "holds a NUL or half a character", _text(raw))
    return number, found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _text(raw: bytes) -> str:
    return _legible(raw.decode("utf-8", "backslashreplace").rstrip("\r\n"))


def _legible(text: str) -> str:
    return text if len(text) <= _KEPT else f"{text[:_KEPT]}…"
