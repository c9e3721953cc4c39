"""Header fields as bytes (RFC 5322 section 2.2): encoded, folded and closed to injection. Pure functions.

Every function gives one whole field with CRLF line ends, in 7-bit ASCII unless it is told ``utf8``. Each starts with
``refuse_controls``, so that a line end in the result is always one of its own folds. All raise ValueError, with one
sentence for a person, when the name or the value cannot stand in a header.
"""

import binascii
import re
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote

from dispatcher.mail import Address

LINE = 78  # characters without the line end, RFC 5322 section 2.1.1: should
ENCODED_LINE = 76  # of a line that holds an encoded-word, RFC 2047 section 2
ENCODED_WORD = 75  # RFC 2047 section 2
MAX_LINE = 998  # RFC 5322 section 2.1.1: must
MAX_NAME = 70  # leaves room for a value on the first line

_NAME = re.compile(rf"[!-9;-~]{{1,{MAX_NAME}}}")  # ftext, RFC 5322 section 3.6.8
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
_WORD = re.compile(r"[ \t]+[^ \t]+")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_QUOTABLE = re.compile(r"[!-~]+(?: [!-~]+)*")
_DOMAIN = re.compile(r"[A-Za-z0-9._-]+|\[[A-Fa-f0-9.:IPv]+\]")
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_SIMPLE_VALUE = re.compile(r"[A-Za-z0-9-]+")
_PLAIN_VALUE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")
_ATTRIBUTE_CHARS = "!#$&+-.^_`{|}~"  # attribute-char beside letters and digits, RFC 2231 section 7

# What may stand for itself in a Q encoded-word anywhere, within a phrase too (RFC 2047 section 5 rule 3).
_Q_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/"
_Q_PLAIN = _Q_SAFE + b" "
_Q = tuple("_" if byte == 0x20 else chr(byte) if byte in _Q_SAFE else f"={byte:02X}" for byte in range(256))  # noqa: PLR2004 - space
_ROOM = ENCODED_WORD - len("=?utf-8?q??=")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def refuse_controls(name: str, value: str) -> None:
    """Raise ValueError unless ``name`` is a field name and ``value`` has no line end and no control but the tab.

    Line ends are CR and LF, and what Unicode calls one, since text that was decoded may be split there. A lone
    surrogate is refused too: no encoding can carry it.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:MAX_NAME]!r} is not a header name")
    if found := _CONTROL.search(value):
        kind = "a line break" if found[0] in "\r\n\x85\u2028\u2029" else "a control character"
        raise ValueError(f"the value holds {kind} (U+{ord(found[0]):04X})")


def unstructured(name: str, value: str) -> bytes:
    """A field of free text (RFC 5322 section 3.6.5), such as Subject.

    ASCII stands as it is, folded where it has white space; anything else, and what a reader could take for an
    encoded-word or that is too long to fold, becomes encoded-words (RFC 2047) as a whole, so white space is exact.
    """
    refuse_controls(name, value)
    if not value:
        return f"{name}:\r\n".encode()
    if value.isascii() and "=?" not in value and value == value.strip(" \t"):
        if len(name) + len(value) + 2 <= LINE:
            return f"{name}: {value}\r\n".encode()
        words = _WORD.findall(f" {value}")
        if len(name) + 1 + len(words[0]) <= LINE and max(map(len, words)) <= LINE:
            return _folded(name, words, LINE)
    return _folded(name, [f" {word}" for word in encoded_words(value, len(name) + 2)], ENCODED_LINE)


def addresses(name: str, mailboxes: Sequence[Address], *, utf8: bool = False) -> bytes:
    """A field of addresses (RFC 5322 section 3.4), folded between and within them.

    A display name is written as a phrase of atoms, a quoted-string or encoded-words, whichever is enough. A local
    part that is not ASCII needs ``utf8`` (RFC 6532); display names are encoded all the same.
    """
    if not mailboxes:
        raise ValueError(f"{name} needs an address")
    words: list[str] = []
    for mailbox in mailboxes:
        words += _mailbox(name, mailbox, utf8)
        words[-1] += ","
    words[-1] = words[-1][:-1]
    return _folded(name, words, ENCODED_LINE)


def identifier(name: str, value: str) -> bytes:
    """A field that must not be encoded: Message-ID, References, Date, List-Unsubscribe. Folded at its white space."""
    refuse_controls(name, value)
    if not value.isascii():
        raise ValueError("the value must be ASCII")
    if len(name) + len(value) + 2 <= LINE and "\t" not in value:
        return f"{name}: {value.strip(' ')}\r\n".encode()
    return _folded(name, _WORD.findall(f" {value.strip(' ')}"), LINE)


def parameterised(name: str, value: str, params: Iterable[tuple[str, str]] = ()) -> bytes:
    """Content-Type or Content-Disposition: a value and its parameters (RFC 2045 section 5.1).

    A parameter that is not plain ASCII, or too long for a line, is written by RFC 2231: ``filename*=utf-8''...``, in
    numbered sections where it takes several.
    """
    refuse_controls(name, value)
    words = [f" {value}"]
    for attribute, text in params:
        refuse_controls(attribute, text)
        for section in _parameter(attribute, text):
            words[-1] += ";"
            words.append(f" {section}")
    if not "".join(words).isascii():
        raise ValueError("the value must be ASCII")
    return _folded(name, words, LINE)


def date(seconds: float) -> str:
    """Seconds since the epoch as a date-time in UTC (RFC 5322 section 3.3), whatever the locale."""
    return _date(int(seconds // 1))


@lru_cache(maxsize=64)
def _date(seconds: int) -> str:
    """What is accepted together has the same date."""
    t = time.gmtime(seconds)
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04} {clock} +0000"


def message_id(local: str, domain: str) -> str:
    """``<local@domain>`` (RFC 5322 section 3.6.4)."""
    if not _DOT_ATOM.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise ValueError(f"{local!r} at {domain!r} makes no message id")
    return f"<{local}@{domain}>"


def encoded_words(text: str, used: int = 0) -> list[str]:
    """RFC 2047 encoded-words that together decode to ``text``: UTF-8, split between code points, Q or B, the shorter.

    ``used`` is what stands before the first one on its line, in characters.
    """
    raw = text.encode()
    escaped = len(raw.translate(None, _Q_PLAIN))
    quoted = len(raw) + 2 * escaped <= (len(raw) + 2) // 3 * 4
    first = min(_ROOM, max(ENCODED_LINE - used - len("=?utf-8?q??="), 12))
    words = []
    for part in _split(text, raw, quoted, first):
        payload = "".join([_Q[byte] for byte in part]) if quoted else binascii.b2a_base64(part, newline=False).decode()
        words.append(f"=?utf-8?{'q' if quoted else 'b'}?{payload}?=")
    return words


def _split(text: str, raw: bytes, quoted: bool, first: int) -> Iterable[bytes]:
    """Cut UTF-8 between code points so that each part fits its room once it is encoded."""
    if not quoted:
        start, room = 0, first // 4 * 3
        while start < len(raw):
            end = start + room
            while end < len(raw) and raw[end] & 0xC0 == 0x80:  # noqa: PLR2004 - a continuation byte
                end -= 1
            yield raw[start:end]
            start, room = end, _ROOM // 4 * 3
        return
    if len(raw.translate(None, _Q_PLAIN)) * 2 + len(raw) <= first:
        yield raw
        return
    part, size, room = bytearray(), 0, first
    for character in text:
        code = character.encode()
        cost = sum([len(_Q[byte]) for byte in code])
        if size + cost > room:
            yield bytes(part)
            part, size, room = bytearray(), 0, _ROOM
        part += code
        size += cost
    yield bytes(part)


def _mailbox(name: str, mailbox: Address, utf8: bool) -> list[str]:
    """The words of one mailbox, each with the space before it."""
    spec, display = mailbox.spec, mailbox.display
    refuse_controls(name, spec)
    if not _DOMAIN.fullmatch(mailbox.domain):
        raise ValueError(f"{mailbox.domain!r} is not a domain")
    if not utf8 and mailbox.utf8:
        raise ValueError(f"{spec!r} needs SMTPUTF8")
    if not display:
        return [f" {spec}"]
    refuse_controls(name, display)
    words: list[str] = []
    if "=?" not in display and _QUOTABLE.fullmatch(display):
        if not _PHRASE.fullmatch(display):
            display = '"' + display.replace("\\", "\\\\").replace('"', '\\"') + '"'
        words = display.split(" ")
    if not words or max(map(len, words)) + len(name) > ENCODED_WORD - 2:
        words = encoded_words(mailbox.display, len(name) + 2)
    return [*[f" {word}" for word in words], f" <{spec}>"]


def _parameter(attribute: str, text: str) -> list[str]:
    if _SIMPLE_VALUE.fullmatch(text) and len(attribute) + len(text) + 3 <= LINE:
        return [f"{attribute}={text}"]
    if "=?" not in text and len(attribute) + len(text) + 5 <= LINE and (not text or _PLAIN_VALUE.fullmatch(text)):
        return [f'{attribute}="{text}"']
    encoded = quote(text, safe=_ATTRIBUTE_CHARS)
    if len(attribute) + len(encoded) + len(" *=utf-8'';") <= LINE:
        return [f"{attribute}*=utf-8''{encoded}"]
    sections: list[str] = []
    section = f"{attribute}*0*=utf-8''"
    for character in text:
        code = quote(character, safe=_ATTRIBUTE_CHARS)
        if len(section) + len(code) + len(" ;") > LINE:
            sections.append(section)
            section = f"{attribute}*{len(sections)}*="
        section += code
    return [*sections, section]


def _folded(name: str, words: Sequence[str], limit: int) -> bytes:
    """Join words, each of which begins with its white space, into lines. The first stays beside the name."""
    lines = []
    line = f"{name}:"
    for n, word in enumerate(words):
        if n and len(line) + len(word) > limit:
            lines.append(line)
            line = ""
        line += word
    lines.append(line)
    if max(map(len, lines)) > MAX_LINE:
        raise ValueError(f"the value has more than {MAX_LINE} characters without a space")
    return ("\r\n".join(lines) + "\r\n").encode()
