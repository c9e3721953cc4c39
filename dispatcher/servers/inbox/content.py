"""A recorded mail taken apart for a reader. It may be hostile: nothing in it is trusted, and no fault in it raises."""

import base64
import email
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.policy import compat32
from mimetypes import guess_extension
from urllib.parse import quote, unquote

from dispatcher.servers.inbox.listing import decoded

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_HEAD = re.compile(r"<head\b[^>]*>|<!doctype\b[^>]*>", re.IGNORECASE)
_CID = re.compile(r"cid:([^\s\"'<>()]+)", re.IGNORECASE)
_PLAIN = re.compile(r"[^A-Za-z0-9._ -]")
_BASE = '<base target="_blank">'  # a link opens a window of its own: the frame goes nowhere


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is not the mail's text. ``content_id`` is what the HTML calls it by; empty if it does not."""

    filename: str
    content_type: str
    content_id: str
    content: bytes = field(repr=False)

    @property
    def disposition(self) -> str:
        """The Content-Disposition of its download (RFC 6266): a name in ASCII, and the whole one percent-encoded."""
        return f"attachment; filename=\"{_PLAIN.sub('_', self.filename)}\"; filename*=UTF-8''{quote(self.filename, '')}"


@dataclass(frozen=True, slots=True)
class Content:
    """What a mail consists of. ``headers`` in their order, decoded; ``html`` and ``text`` None when there is none."""

    headers: tuple[tuple[str, str], ...]
    html: str | None
    text: str | None
    attachments: tuple[Attachment, ...]

    @classmethod
    def of(cls, content: bytes) -> "Content":
        parsed = email.message_from_bytes(content, policy=compat32)
        bodies: dict[str, str] = {}
        attachments: list[Attachment] = []
        for part in _leaves(parsed):
            kind = part.get_content_type()
            if kind in ("text/html", "text/plain") and kind not in bodies and not _is_attached(part):
                bodies[kind] = _text(part)
            else:
                attachments.append(_attachment(part, kind, len(attachments) + 1))
        headers = tuple((name, decoded(_eight_bit(str(value)))) for name, value in parsed.raw_items())
        return cls(headers, bodies.get("text/html"), bodies.get("text/plain"), tuple(attachments))

    def header(self, name: str) -> str:
        """The first of this name; empty when there is none."""
        return next((value for found, value in self.headers if found.lower() == name.lower()), "")

    @property
    def document(self) -> str:
        """The HTML for a frame: the images that it brings within it, its links in windows of their own."""
        html = _CID.sub(self._inlined, self.html or "")
        found = _HEAD.search(html)
        at = found.end() if found else 0
        return html[:at] + _BASE + html[at:]

    def _inlined(self, found: re.Match[str]) -> str:
        for attachment in self.attachments:
            if attachment.content_id == unquote(found[1]) and attachment.content_type.startswith("image/"):
                return f"data:{attachment.content_type};base64,{base64.b64encode(attachment.content).decode('ascii')}"
        return found[0]


def _leaves(part: "Message[str, str]") -> Iterator["Message[str, str]"]:
    """The parts that hold something; an attached message is one of them."""
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for inner in _within(part):
            yield from _leaves(inner)
    else:
        yield part


def _within(part: "Message[str, str]") -> list["Message[str, str]"]:
    payload = part.get_payload()
    return [inner for inner in payload if isinstance(inner, Message)] if isinstance(payload, list) else []


def _is_attached(part: "Message[str, str]") -> bool:
    return part.get_content_disposition() == "attachment" or part.get_filename() is not None


def _bytes(part: "Message[str, str]") -> bytes:
    if part.is_multipart():  # message/rfc822
        return b"".join(inner.as_bytes() for inner in _within(part))
    found = part.get_payload(decode=True)
    return found if isinstance(found, bytes) else b""


def _text(part: "Message[str, str]") -> str:
    content, charset = _bytes(part), str(part.get_content_charset() or "utf-8")
    try:
        return content.decode(charset, "replace")
    except (LookupError, ValueError):  # a charset that nobody knows
        return content.decode("utf-8", "replace")


def _attachment(part: "Message[str, str]", kind: str, number: int) -> Attachment:
    kind = kind if _TYPE.fullmatch(kind) else "application/octet-stream"
    name = decoded(_eight_bit(str(part.get_filename() or "")))
    name = re.sub(r"[/\\]+", "_", name) or f"part-{number}{guess_extension(kind) or '.bin'}"
    return Attachment(name, kind, _eight_bit(str(part.get("Content-ID", ""))).strip(" <>"), _bytes(part))


def _eight_bit(value: str) -> str:
    """A header that came in bytes beyond ASCII, which the parser keeps as surrogates."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
