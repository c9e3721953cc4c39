"""Which encoding a text file is in, by its first megabyte that is not only ASCII."""

import codecs
from pathlib import Path
from typing import BinaryIO

from dispatcher.errors import AudienceError

UNDECODED = "dispatcher.undecoded"  # the error handler: what cannot be decoded becomes lone surrogates
SAMPLE = 1 << 20  # bytes
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FEW = 20  # of so many characters one may be damaged, and the rest still shows what it is
_MOSTLY = 0.8
_ZEROS = 0.2


def _undecoded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    damaged = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in damaged), error.end


codecs.register_error(UNDECODED, _undecoded)


def known(name: str) -> str:
    """A codec for text that a person named. Raises AudienceError."""
    try:
        found = codecs.lookup(name)
        "a".encode(found.name)
        b"a\n".decode(found.name, "replace")
    except (LookupError, ValueError):
        raise AudienceError("--encoding", f"{name!r} is no encoding; try utf-8, gb18030, cp1252 or utf-16") from None
    if found.name in ("utf-8", "utf_8"):
        return "utf-8-sig"  # the same, and a mark at the beginning is none of the text
    return found.name


def detected(path: Path) -> str:
    """UTF-8 or UTF-16 by its mark, UTF-8 where it is, GB18030 where it is Chinese, else Windows' Western one."""
    with path.open("rb") as file:
        head = file.read(4)
        for mark, name in _MARKS:
            if head.startswith(mark):
                return name
        file.seek(0)
        sample = _telling(file)
    if wide := _wide(sample):
        return wide
    if _is_utf8(sample):
        return "utf-8"
    return "gb18030" if _is_chinese(sample) else "cp1252"


def _telling(file: BinaryIO) -> bytes:
    """The first part that is not only ASCII; else the last one."""
    found = b""
    while sample := file.read(SAMPLE):
        found = sample
        if not sample.isascii() or b"\0" in sample:
            break
    return found


def _wide(sample: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of its ASCII is zero."""
    for name, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[::2])):
        if zeros and zeros.count(0) > len(zeros) * _ZEROS and zeros.count(0) > 2 * (sample.count(0) - zeros.count(0)):
            return name
    return None


def _decoded(sample: bytes, name: str) -> str:
    """A part of a file, which may end within a character."""
    return codecs.getincrementaldecoder(name)("replace").decode(sample)


def _is_utf8(sample: bytes) -> bool:
    text = _decoded(sample, "utf-8")
    damaged = text.count("\N{REPLACEMENT CHARACTER}")
    beyond = len(text) - len(text.encode("ascii", "ignore"))
    return damaged * _FEW <= beyond


def _is_chinese(sample: bytes) -> bool:
    """Whether what is beyond ASCII are common Chinese characters: of a Western text it would be rare ones, since a
    letter of it and the next one would be taken for half a character each."""
    text = _decoded(sample, "gb18030")
    beyond = [character for character in text if not character.isascii()]
    common = sum(_is_common(character) for character in beyond)
    return common > len(beyond) * _MOSTLY


def _is_common(character: str) -> bool:
    try:
        return len(character.encode("gb2312")) > 1
    except UnicodeEncodeError:
        return False
