"""From what the ledger keeps to the bytes on the wire: the same message gives the same bytes at every attempt."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from dispatcher import mime, render, unsubscribe
from dispatcher.address import parse, parse_sender
from dispatcher.delivery import LeasedMessage
from dispatcher.errors import ConfigurationError, RenderError
from dispatcher.mail import Message
from dispatcher.render import Rendered, Template
from dispatcher.transfer import encode_bytes

KEPT_BYTES = 32 * 1024 * 1024
_LIST_UNSUBSCRIBE = "list-unsubscribe"


def _nothing_made(leased: LeasedMessage) -> Mapping[str, Any]:
    raise RenderError(leased.public_id, "nothing renders files here")


class Sources:
    """Where the parts of a message come from: a template by its digest, an attachment's bytes by its blob id, the keys
    that sign its links, of which the first signs, and the attachment that is ``made`` for a message when it is sent.

    The attachments that were asked for last are kept as they stand in a mail, up to ``KEPT_BYTES``: the same file may
    go to thousands, and neither its way here nor its encoding need be paid for each. Threads may share it.
    """

    def __init__(
        self,
        template: Callable[[str], Template],
        blob: Callable[[str], bytes],
        keys: Sequence[str] = (),
        made: Callable[[LeasedMessage], Mapping[str, Any]] = _nothing_made,
    ) -> None:
        self.template, self._blob, self._keys, self.made = template, blob, keys, made
        self._kept: dict[str, bytes] = {}  # the one that was asked for last is the last
        self._lock = threading.Lock()

    def key(self, wanted: str) -> str:
        """The key of this id, else the one that signs now. Raises ConfigurationError."""
        if not self._keys:
            raise ConfigurationError("DISPATCHER_SECRET_KEYS", "there is none to sign an unsubscribe link with")
        return unsubscribe.chosen(self._keys, wanted)

    def encoded(self, blob: str) -> bytes:
        """An attachment in base64, with its line ends."""
        with self._lock:
            found = self._kept.pop(blob, None)
            if found is not None:
                self._kept[blob] = found
                return found
        made = encode_bytes(self._blob(blob))
        with self._lock:
            self._kept[blob] = made
            while sum(map(len, self._kept.values())) > KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
        return made


@cache
def fingerprint() -> str:
    """Names the build: two builds with the same fingerprint make the same bytes of the same message."""
    return f"{mime.fingerprint()} {render.fingerprint()}"


def compose(leased: LeasedMessage, sources: Sources) -> Message:
    """Render and build one leased message.

    Raises RenderError, NotFound for an attachment that is gone, ValueError for a header that cannot be one.
    """
    shared, own = leased.shared, leased.own
    sender = parse_sender(shared["from"], "from")
    link = _unsubscribe_url(leased, sources) if "unsubscribe" in shared else None
    rendered = _render(leased, sources, link)
    content, utf8 = mime.build(
        mime.Content(
            leased.public_id,
            leased.dated,
            sender,
            tuple([parse(text, "to") for text in own.get("to", ())]),
            tuple([parse(text, "cc") for text in own.get("cc", ())]),
            tuple([parse_sender(text, "reply_to") for text in shared.get("reply_to", ())]),
            rendered.subject,
            rendered.text,
            rendered.pieces,
            _headers(shared, own, link),
            _attachments(leased, sources),
        )
    )
    mail_from = shared.get("mail_from")
    mail_from = sender.spec if mail_from is None else mail_from.replace("{id}", leased.public_id)
    rcpt_to = tuple([(delivery.id, delivery.rcpt) for delivery in leased.deliveries])
    utf8 = utf8 or not mail_from.isascii() or not all(rcpt.isascii() for _, rcpt in rcpt_to)
    return Message(leased.id, mail_from, rcpt_to, content, utf8)


def _unsubscribe_url(leased: LeasedMessage, sources: Sources) -> str:
    """By which the one recipient of a message leaves the list that it is for."""
    said = leased.shared["unsubscribe"]
    token = unsubscribe.token(leased.deliveries[0].rcpt, said["list"], sources.key(said["key"]))
    return f"{said['url']}{unsubscribe.PATH}{token}"


def _headers(shared: Mapping[str, Any], own: Mapping[str, Any], link: str | None) -> tuple[tuple[str, str], ...]:
    """All of them, a message's own over those that it shares; and how to leave the list, in one click (RFC 8058),
    unless the producer says it."""
    given = {**shared.get("headers", {}), **own.get("headers", {})}
    if link is not None and _LIST_UNSUBSCRIBE not in map(str.lower, given):
        given = {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click", **given}
    return tuple(given.items())


def _attachments(leased: LeasedMessage, sources: Sources) -> tuple[mime.Part, ...]:
    given = (*leased.shared.get("attachments", ()), *leased.own.get("attachments", ()))
    if "render" in leased.own:
        given = (*given, sources.made(leased))
    return tuple([_part(attachment, sources) for attachment in given])


def _render(leased: LeasedMessage, sources: Sources, link: str | None) -> Rendered:
    shared, own = leased.shared, leased.own
    if leased.template is None:
        html = shared.get("html")
        return Rendered(shared["subject"], shared.get("text") or render.plain(html or ""), html)
    data: Mapping[str, Any] = {**shared.get("data", {}), **own.get("data", {})}
    if link is not None:
        data = {"unsubscribe_url": link, **data}
    return sources.template(leased.template).render(own.get("locale", shared.get("locale")), data)


def _part(attachment: Mapping[str, Any], sources: Sources) -> mime.Part:
    return mime.Part(
        content=b"",
        content_type=attachment["content_type"],
        filename=attachment.get("filename"),
        content_id=attachment.get("content_id"),
        encoded=sources.encoded(attachment["blob"]),
    )
