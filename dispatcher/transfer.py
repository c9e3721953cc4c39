"""Content transfer encodings (RFC 2045 section 6): everything becomes 7-bit lines of at most 76 characters.

A text that a template wrote comes in pieces, most of which stand in the next mail, too: in quoted-printable each piece
is encoded for itself, so that what comes again need not be encoded again. Where a line gets too long between two of
them, it is broken there; white space at the end of one is always encoded, whatever follows.
"""

import binascii
import re
from collections.abc import Iterable, Sequence

Text = str | Sequence[str]  # as a whole, or in the pieces that a template wrote

_COLUMNS = 76  # of an encoded line, RFC 2045 sections 6.7 and 6.8
_KEPT_PIECES, _KEPT_SIZE = 8192, 1024 * 1024  # how many, and their characters together
# Text that needs no encoding: no long line, no trailing space, no control, no "From " that a mailbox would mangle.
_SAFE = re.compile(rb"(?:(?!From )[\t -~]{0,75}[!-~]\n|\n)*")
_GROUP = 8  # base64 goes by three octets: two that are missing count too
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_PLAIN = bytes({*range(0x20, 0x7F), 0x09, 0x0A})


# A piece in quoted-printable; the lengths of its first and its last line, -1 where there is only one; by how many thirds
# of an octet it is longer than it would be in base64; and how many octets it has that no text of 7 bits may have.
_Piece = tuple[bytes, int, int, int, int]


class _Torn(Exception):
    """The piece ends within a line end, perhaps."""


def encode_text(text: Text) -> tuple[str, bytes]:
    """The name of the encoding that fits best, and the text in it: as UTF-8, its line ends CRLF, one of them at the
    end whether or not the text has it. Raises ValueError for a lone surrogate."""
    pieces = _LINE.findall(_lined(text)) if isinstance(text, str) else text
    try:
        quoted, excess, odd = _quoted_printable(map(_PIECES.__getitem__, pieces))
    except _Torn:
        return encode_text("".join(pieces))
    if not odd and _SAFE.fullmatch(raw := _whole(pieces)) and b"=_" not in raw:
        return "7bit", raw.replace(b"\n", b"\r\n")
    if excess <= _GROUP:
        return "quoted-printable", quoted
    return "base64", encode_bytes(_whole(pieces).replace(b"\n", b"\r\n"))


def encode_bytes(content: bytes) -> bytes:
    """Base64 in lines of 76 characters, each with its CRLF (RFC 2045 section 6.8)."""
    line = binascii.b2a_base64(content, newline=False)
    return b"".join([line[n : n + _COLUMNS] + b"\r\n" for n in range(0, len(line), _COLUMNS)])


def _quoted_printable(pieces: Iterable[_Piece]) -> tuple[bytes, int, int]:
    """Whole lines in quoted-printable (RFC 2045 section 6.7), and the sums of both numbers that a piece ends with."""
    lines: list[bytes] = []
    column = total = alien = 0
    for quoted, first, last, excess, odd in pieces:
        if column and column + first >= _COLUMNS:
            lines.append(b"=\r\n")
            column = 0
        lines.append(quoted)
        column = column + first if last < 0 else last
        total += excess
        alien += odd
    if column or not lines:
        lines.append(b"\r\n")
    body = b"".join(lines)
    # A mailbox would take such a line for the beginning of a mail, and put a ">" before it.
    if body.startswith(b"From "):
        body = b"=46rom =\r\n" + body[5:]
    while b"\nF" in body and b"\nFrom " in body:  # the first is found out much faster
        body = body.replace(b"\nFrom ", b"\n=46rom =\r\n")
    return body, total, alien


class _Pieces(dict[str, _Piece]):
    """What was encoded of late. It is emptied when it is full: what is still in use is soon back."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def __missing__(self, text: str) -> _Piece:
        if len(self) >= _KEPT_PIECES or self._size > _KEPT_SIZE:
            self.clear()
            self._size = 0
        made = self[text] = _encoded(text)
        self._size += len(text)
        return made


_PIECES = _Pieces()


def _encoded(text: str) -> _Piece:
    line, end = (text[:-1], b"\r\n") if text.endswith("\n") else (text, b"")
    length = len(line)
    if length < _COLUMNS and line.isascii() and line.isprintable() and "=" not in line and line[-1:] != " ":
        return line.encode() + end, length, 0 if end else -1, -len(text), 0
    if text.endswith("\r"):
        raise _Torn
    raw = _lined(text).encode()
    quoted = binascii.b2a_qp(raw, istext=True).replace(b"\n", b"\r\n")
    last = len(quoted) - quoted.rfind(b"\n") - 1
    if last == _COLUMNS:  # there would be no room for a "=" behind it
        cut = 3 if quoted[-3:-2] == b"=" else 1
        quoted, last = quoted[:-cut] + b"=\r\n" + quoted[-cut:], cut
    first = quoted.find(b"\r\n")
    odd = len(raw.translate(None, _PLAIN))
    excess = 6 * (odd + raw.count(b"=")) - len(raw)
    return quoted, first if first >= 0 else len(quoted), last if first >= 0 else -1, excess, odd


def _whole(pieces: Sequence[str]) -> bytes:
    """The text with an end to its last line."""
    raw = _lined("".join(pieces)).encode()
    return raw if raw.endswith(b"\n") else raw + b"\n"


def _lined(text: str) -> str:
    """The text with LF for its line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
