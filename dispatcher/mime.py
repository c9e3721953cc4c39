"""The bytes of a message (RFC 5322, RFC 2045 to 2049): the same content gives the same bytes, at every attempt.

    multipart/mixed                     only with attachments
    |- multipart/alternative            only with both text and html
    |  |- text/plain
    |  +- multipart/related             only with html and inline parts
    |     |- text/html
    |     +- image/png, ...             inline, by Content-ID (RFC 2392)
    +- application/pdf, ...             attachments

Related stands inside alternative: the images belong to the HTML alone, and clients that show the text are offered no
stray attachments. Inline parts of a message without HTML are attached. Bodies are 7-bit by encoding: text as it is
where that is safe, else quoted-printable or base64, the shorter; everything else base64. A whole message (message/*)
may not be base64 (RFC 2046 section 5.2.1), and its bytes are to stay as they are, so it goes as
application/octet-stream under its file name.

Nothing here reads a clock, a locale or chance: Message-ID and boundaries follow from the public id, Date is given.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple

from dispatcher import header
from dispatcher.address import parse
from dispatcher.errors import SubmissionError
from dispatcher.mail import Address
from dispatcher.transfer import Text, encode_bytes, encode_text

_FIELD_OF = {"from": "from", "to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "reply_to", "subject": "subject"}
_OURS = frozenset(("date", "message-id", "mime-version", "return-path", "received", "dkim-signature"))
_OUR_PREFIXES = ("content-", "resent-")
_MAILBOX = frozenset(("sender", "disposition-notification-to", "return-receipt-to", "errors-to"))
_VERBATIM = frozenset(("references", "in-reply-to", "auto-submitted", "precedence"))

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+"  # noqa: S105 - a token as in RFC 2045, not a secret
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"  # of a registered type, RFC 6838 section 4.2
_CONTENT_TYPE = re.compile(rf'({_NAME}/{_NAME})((?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|"[^"\\]*"))*)')
_PARAMETER = re.compile(rf'({_TOKEN})=(?:({_TOKEN})|"([^"\\]*)")')
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,250}")


@dataclass(frozen=True, slots=True)
class Part:
    """A file: inline when it has a ``content_id``, else attached.

    ``encoded`` is what ``encode_bytes`` makes of the content, for a caller that keeps it; without it, it is made here.
    """

    content: bytes = field(repr=False)
    content_type: str
    filename: str | None = None
    content_id: str | None = None
    encoded: bytes | None = field(default=None, repr=False)


class Content(NamedTuple):  # one for each mail: see events.DeliveryTried
    """All that a message says. ``dated`` is in seconds since the epoch; ``headers`` go beside the fixed ones.

    Of two ``headers`` with one name, in any case, the later counts. Who gets a blind copy is not content.
    """

    public_id: str
    dated: float
    from_: Address
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    reply_to: tuple[Address, ...]
    subject: str
    text: Text | None
    html: Text | None
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Part, ...] = ()


def fingerprint() -> str:
    """The version of this builder; it changes whenever the bytes of some message do."""
    return "mime-2"


def build(content: Content) -> tuple[bytes, bool]:
    """The whole message with CRLF line ends, and whether it needs SMTPUTF8 (RFC 6531): a header address does.

    Raises ValueError for what cannot stand in a message: a line end in the subject or in a header, a lone surrogate
    in a body, or what ``check_header`` and ``check_attachment`` refuse.
    """
    head = b"".join(_head(content))
    digest = hashlib.blake2b(content.public_id.encode(), digest_size=12).hexdigest()
    return b"".join((head, b"MIME-Version: 1.0\r\n", *_body(content, digest))), not head.isascii()


def check_header(name: str, value: str, at: str) -> None:
    """Raise SubmissionError, for the field ``at``, unless a producer may set this header to this value."""
    try:
        _given(name, value, at)
    except ValueError as error:
        raise SubmissionError(at, str(error)) from None


def check_attachment(content_type: str, filename: str | None, content_id: str | None, at: str) -> None:
    """Raise SubmissionError, for a field below ``at``, unless a part may have these."""
    name = "content_type"
    try:
        _content_type(content_type)
        name = "filename"
        header.refuse_controls("filename", filename or "")
        name = "content_id"
        _content_id(content_id or "-")
    except ValueError as error:
        raise SubmissionError(f"{at}.{name}", str(error)) from None


def _head(content: Content) -> Iterator[bytes]:
    yield f"Date: {header.date(content.dated)}\r\n".encode()
    yield _from(content.from_)
    if content.to:
        yield header.addresses("To", content.to, utf8=True)
    elif not content.cc:
        yield b"To: undisclosed-recipients:;\r\n"
    if content.cc:
        yield header.addresses("Cc", content.cc, utf8=True)
    if content.reply_to:
        yield header.addresses("Reply-To", content.reply_to, utf8=True)
    yield header.unstructured("Subject", content.subject)
    yield header.identifier("Message-ID", header.message_id(content.public_id, content.from_.domain))
    for name, value in {name.lower(): (name, value) for name, value in content.headers}.values():
        yield _given(name, value, name)


@lru_cache(maxsize=256)
def _from(sender: Address) -> bytes:
    return header.addresses("From", (sender,), utf8=True)


def _given(name: str, value: str, at: str) -> bytes:
    """A header that the producer sets. Raises ValueError, or InvalidAddress for the field ``at``."""
    key = name.lower()
    if key in _FIELD_OF:
        raise ValueError(f"set it by the field {_FIELD_OF[key]!r} of the submission")
    if key in _OURS or key.startswith(_OUR_PREFIXES):
        raise ValueError("the dispatcher or a server sets it")
    if key in _MAILBOX:
        return header.addresses(name, (parse(value, at),), utf8=True)
    if key in _VERBATIM or (key.startswith("list-") and key != "list-id"):
        return header.identifier(name, value)
    return header.unstructured(name, value)


def _body(content: Content, digest: str) -> list[bytes]:
    """The entity that is the message: its Content-* fields, a blank line and its content, in pieces."""
    inline = [part for part in content.attachments if part.content_id and content.html is not None]
    attached = [part for part in content.attachments if not part.content_id or content.html is None]
    entities = []
    if content.text is not None or content.html is None:
        entities.append(_text("plain", content.text or ""))
    if content.html is not None:
        html = _text("html", content.html)
        if inline:
            parts = (_file(part, "inline") for part in inline)
            html = _multipart('related; type="text/html"', f"=_r{digest}", (html, *parts))
        entities.append(html)
    body = entities[0] if len(entities) == 1 else _multipart("alternative", f"=_a{digest}", entities)
    if not attached:
        return body
    return _multipart("mixed", f"=_m{digest}", (body, *(_file(part, "attachment") for part in attached)))


def _multipart(kind: str, boundary: str, entities: Iterable[list[bytes]]) -> list[bytes]:
    """Entities between boundaries. None can hold one: no quoted-printable, base64 or 7-bit text of ours has ``=_``."""
    delimiter = f"--{boundary}\r\n".encode()
    pieces = [f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"\r\n\r\n'.encode()]
    for entity in entities:
        pieces += (delimiter, *entity, b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode())
    return pieces


def _text(kind: str, text: Text) -> list[bytes]:
    encoding, body = encode_text(text)
    return [_fields(kind, encoding), body]


@cache
def _fields(kind: str, encoding: str) -> bytes:
    return f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()


def _file(part: Part, disposition: str) -> list[bytes]:
    kind, params = _content_type(part.content_type)
    if kind.startswith("message/"):
        kind, params = "application/octet-stream", ()
    name = (("filename", part.filename),) if part.filename else ()
    fields = [
        header.parameterised("Content-Type", kind, params),
        b"Content-Transfer-Encoding: base64\r\n",
        header.parameterised("Content-Disposition", disposition, name),
    ]
    if part.content_id:
        fields.append(header.identifier("Content-ID", f"<{_content_id(part.content_id)}>"))
    return [*fields, b"\r\n", encode_bytes(part.content) if part.encoded is None else part.encoded]


@lru_cache(maxsize=256)
def _content_type(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """``type/subtype`` in lower case and its parameters. Raises ValueError."""
    if not (found := _CONTENT_TYPE.fullmatch(text)):
        raise ValueError(f"{text[:80]!r} is not a content type such as application/pdf")
    kind = found[1].lower()
    if kind.startswith("multipart/"):
        raise ValueError("a multipart type holds parts; attach them one by one")
    params = tuple((name.lower(), plain or quoted) for name, plain, quoted in _PARAMETER.findall(found[2]))
    for name, value in params:
        header.refuse_controls(name, value)
    return kind, params


def _content_id(text: str) -> str:
    """What ``cid:`` names (RFC 2392), without angle brackets. Raises ValueError."""
    bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    if not _CONTENT_ID.fullmatch(bare):
        raise ValueError(f"{text[:80]!r} is not a content id: ASCII without spaces and angle brackets")
    return bare
