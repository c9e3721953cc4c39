"""What stands where in a sink's record: a table of contents, so that no page reads the record as a whole.

It lies in a temporary file that goes with its process, and is followed up as the record grows. Of each mail only the
envelope and the first kilobytes are read, however large it is.
"""

import base64
import json
import os
import re
import sqlite3
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

from dispatcher.servers.recording import Received

PAGE = 50
_WORDS = 20  # of a query
_HEAD_BYTES = 8192  # of a line, to begin with: its envelope, and the header of its content
_CONTENT = b', "content": "'  # within a JSON string these quotes would be escaped, so it is found where it belongs
_END = b'"}\n'
_MIXED = re.compile(rb"^content-type:\s*multipart/mixed", re.IGNORECASE | re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_TABLE = """CREATE TABLE mails (number INTEGER PRIMARY KEY, place INTEGER, length INTEGER, time REAL, size INTEGER,
    sender TEXT, recipients TEXT, subject TEXT, attached INTEGER, words TEXT)"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One mail in the list. ``number`` counts from 1 in the order of acceptance, ``time`` is in seconds since the
    epoch, ``size`` in bytes; ``attached``: it probably has attachments."""

    number: int
    time: float
    size: int
    sender: str
    recipients: tuple[str, ...]
    subject: str
    attached: bool


class Listing:
    """The table of contents of one record, for one thread at a time."""

    def __init__(self, record: Path) -> None:
        """Raises OSError when there is no such file, ValueError when it is no sink's record."""
        self._file = os.open(record, os.O_RDONLY)
        self._end = 0
        self.newest = 0
        # A temporary file, gone when it is closed. It is made in one thread and used in another.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute(_TABLE)
        self.follow(1)

    def follow(self, limit: int) -> int:
        """Take in up to so many mails that were recorded since; how many there were."""
        rows: list[tuple[Any, ...]] = []
        size = os.fstat(self._file).st_size
        while len(rows) < limit and (found := _peek(self._file, self._end, size)) is not None:
            length, envelope, head = found
            rows.append((self.newest + len(rows) + 1, self._end, length, *_columns(envelope, head)))
            self._end += length
        if rows:
            self._table.execute("BEGIN")
            self._table.executemany("INSERT INTO mails VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._table.execute("COMMIT")
            self.newest += len(rows)
        return len(rows)

    def page(self, query: str = "", before: int | None = None) -> list[Entry]:
        """Up to ``PAGE`` mails and one more, newest first, older than number ``before``.

        Each word of ``query`` must be in a recipient, the sender or the subject.
        """
        words = query.casefold().split()[:_WORDS]
        conditions = " AND ".join(["number < ?", *["instr(words, ?) > 0"] * len(words)])
        found = self._table.execute(
            "SELECT number, time, size, sender, recipients, subject, attached FROM mails "  # noqa: S608 - no value in it
            f"WHERE {conditions} ORDER BY number DESC LIMIT {PAGE + 1}",
            (before or self.newest + 1, *words),
        )
        return [
            Entry(number, time, size, sender, tuple(json.loads(recipients)), subject, bool(attached))
            for number, time, size, sender, recipients, subject, attached in found
        ]

    def mail(self, number: int) -> Received:
        """Raises KeyError when there is none."""
        found = self._table.execute("SELECT place, length FROM mails WHERE number = ?", (number,)).fetchone()
        if found is None:
            raise KeyError(number)
        place, length = found
        return Received.parse(_read(self._file, length, place))

    def close(self) -> None:
        self._table.close()
        os.close(self._file)


def decoded(value: str) -> str:
    """A header's value as a reader sees it: encoded words (RFC 2047) decoded, unfolded, without control characters."""
    try:
        text = str(make_header(decode_header(value))) if "=?" in value else value
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        text = value  # broken, or in a charset that nobody knows: as it stands
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode("utf-8").strip()


def _peek(file: int, place: int, size: int) -> tuple[int, dict[str, Any], bytes] | None:
    """The length of the line there, its envelope, and what the header of its content begins with; None when the line
    is not whole yet. The content's length follows from its size, so that it need not be read."""
    wanted = _HEAD_BYTES
    while (at := (chunk := os.pread(file, wanted, place)).find(_CONTENT)) < 0:
        if b"\n" in chunk:
            raise ValueError(f"byte {place}: not a line of a sink's record")
        if place + wanted >= size:
            return None
        wanted *= 8
    envelope = json.loads(chunk[:at] + b"}")
    start = at + len(_CONTENT)
    encoded = 4 * -(-envelope["size"] // 3)
    length = start + encoded + len(_END)
    if place + length > size:
        return None
    shown = chunk[start : start + encoded]
    head = base64.b64decode(shown[: len(shown) // 4 * 4]).partition(b"\r\n\r\n")[0]
    return length, envelope, head


def _columns(envelope: dict[str, Any], head: bytes) -> tuple[Any, ...]:
    recipients = list(map(str, envelope["rcpt_to"]))
    sender = _header(head, "from") or str(envelope["mail_from"])
    subject = _header(head, "subject")
    words = "\n".join((*recipients, sender, subject)).casefold()
    attached = _MIXED.search(head) is not None
    return envelope["time"], envelope["size"], sender, json.dumps(recipients), subject, attached, words


def _header(head: bytes, name: str) -> str:
    found = re.search(rf"^{name}:[ \t]*([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)".encode(), head, re.IGNORECASE | re.MULTILINE)
    return decoded(found[1].decode("utf-8", "replace").replace("\r\n", "")) if found else ""


def _read(file: int, length: int, place: int) -> bytes:
    """One system call reads no more than 2 GB, and may read less than is asked for."""
    parts: list[bytes] = []
    while length and (part := os.pread(file, length, place)):
        parts.append(part)
        place, length = place + len(part), length - len(part)
    return b"".join(parts)
