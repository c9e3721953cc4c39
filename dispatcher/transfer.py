"""Content transfer encodings (RFC 2045 section 6): everything becomes 7-bit lines of at most 76 characters.

A text that a template wrote comes in pieces, most of which are the template's own and stand in every mail: each piece
is put into quoted-printable for itself, so that those are encoded only once. Where a line gets too long between two of
them, it is broken there; white space at the end of one is always encoded, whatever follows.
"""

import binascii
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

Text = str | Sequence[str]  # as a whole, or in the pieces that a template wrote

BASE64_GROWTH = 4 / 3 * 78 / 76  # by which an attachment is longer in a mail, with its line ends
_COLUMNS = 76  # of an encoded line, RFC 2045 sections 6.7 and 6.8
# Text that needs no encoding: no long line, no trailing space, no control, no "From " that a mailbox would mangle.
_SAFE = re.compile(rb"(?:(?!From )[\t -~]{0,75}[!-~]\n|\n)*")
_GROUP = 8  # base64 goes by three octets: two that are missing count too
_PLAIN = bytes({*range(0x20, 0x7F), 0x09, 0x0A})

# What a text may hold: octets that no text of 7 bits may have; a line that begins with an F, or the piece does.
_ODD, _F = 1, 2
# A piece in quoted-printable; the lengths of its first and its last line, -1 where there is only one; by how many
# thirds of an octet it is longer than it would be in base64; what it holds.
_Piece = tuple[bytes, int, int, int, int]


class Fixed(str):
    """A text that is written again and again. It keeps what it is encoded, from the first time on."""

    __slots__ = ("kept",)

    def __init__(self, *_: object) -> None:
        self.kept: _Piece | None = None

    def quoted(self) -> _Piece:
        """In quoted-printable."""
        self.kept = _quoted(str(self))
        return self.kept


class _Torn(Exception):
    """The piece ends within a line end, perhaps."""


def encode_text(text: Text) -> tuple[str, bytes]:
    """The name of the encoding that fits best, and the text in it: as UTF-8, its line ends CRLF, one of them at the
    end whether or not the text has it. Raises ValueError for a lone surrogate."""
    if isinstance(text, str) and text.isascii() and _is_plain(raw := _whole(text)):
        return "7bit", raw.replace(b"\n", b"\r\n")
    try:
        quoted, excess, odd = _joined(_pieces(text))
    except _Torn:
        return encode_text("".join(text))
    if odd and excess <= _GROUP:
        return "quoted-printable", quoted
    raw = _whole("".join(text))
    if not odd and _is_plain(raw):
        return "7bit", raw.replace(b"\n", b"\r\n")
    if excess <= _GROUP:
        return "quoted-printable", quoted
    return "base64", encode_bytes(raw.replace(b"\n", b"\r\n"))


def _whole(text: str) -> bytes:
    raw = _lined(text).encode()
    return raw if raw.endswith(b"\n") else raw + b"\n"


def _is_plain(raw: bytes) -> bool:
    """Whether it may go as it is."""
    return _SAFE.fullmatch(raw) is not None and b"=_" not in raw


def encode_bytes(content: bytes) -> bytes:
    """Base64 in lines of 76 characters, each with its CRLF (RFC 2045 section 6.8)."""
    line = binascii.b2a_base64(content, newline=False)
    return b"".join([line[n : n + _COLUMNS] + b"\r\n" for n in range(0, len(line), _COLUMNS)])


def _joined(pieces: Iterable[_Piece]) -> tuple[bytes, int, bool]:
    """Whole lines in quoted-printable (RFC 2045 section 6.7); the sum of what the pieces are too long; whether any of
    them is odd."""
    lines: list[bytes] = []
    column = total = all_hold = 0
    for quoted, first, last, excess, holds in pieces:
        if column and column + first >= _COLUMNS:
            lines.append(b"=\r\n")
            column = 0
        lines.append(quoted)
        column = column + first if last < 0 else last
        total += excess
        all_hold |= holds
    if column or not lines:
        lines.append(b"\r\n")
    body = b"".join(lines)
    # A mailbox would take such a line for the beginning of a mail, and put a ">" before it.
    if all_hold & _F:
        if body.startswith(b"From "):
            body = b"=46rom =\r\n" + body[5:]
        while b"\nFrom " in body:
            body = body.replace(b"\nFrom ", b"\n=46rom =\r\n")
    return body, total, all_hold & _ODD > 0


def _pieces(text: Text) -> list[_Piece]:
    if isinstance(text, str):
        return [_lines(text)]
    return [
        piece.kept or piece.quoted() if type(piece) is Fixed else (_kept if len(piece) < _COLUMNS else _quoted)(piece)
        for piece in text
    ]


def _quoted(text: str) -> _Piece:
    if text.endswith("\r"):
        raise _Torn
    raw = text.encode()
    if len(raw) < _COLUMNS and b"\n" not in raw and b"\r" not in raw:
        quoted = binascii.b2a_qp(raw)
        length, more = len(quoted), len(quoted) - len(raw)
        if length < _COLUMNS:
            odd = more and more > 2 * raw.count(b"=")
            return quoted, length, -1, 3 * more - len(raw), _ODD * odd | _F * quoted.startswith(b"F")
    return _lines(text)


_kept = lru_cache(maxsize=4096)(_quoted)  # what the data makes comes again, too: prices, names of goods


def _lines(text: str) -> _Piece:
    raw = _lined(text).encode()
    quoted = binascii.b2a_qp(raw).replace(b"\n", b"\r\n")
    last = len(quoted) - quoted.rfind(b"\n") - 1
    if last == _COLUMNS:  # there would be no room for a "=" behind it
        cut = 3 if quoted[-3:-2] == b"=" else 1
        quoted, last = quoted[:-cut] + b"=\r\n" + quoted[-cut:], cut
    first = quoted.find(b"\r\n")
    odd = len(raw.translate(None, _PLAIN))
    excess = 6 * (odd + raw.count(b"=")) - len(raw)
    holds = _ODD * (odd > 0) | _F * (quoted.startswith(b"F") or b"\nF" in quoted)
    return quoted, first if first >= 0 else len(quoted), last if first >= 0 else -1, excess, holds


def _lined(text: str) -> str:
    """The text with LF for its line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
