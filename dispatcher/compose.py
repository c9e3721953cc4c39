"""From what the ledger keeps to the bytes on the wire: the same message gives the same bytes at every attempt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dispatcher import mime, render
from dispatcher.address import parse
from dispatcher.delivery import LeasedMessage
from dispatcher.mail import Message
from dispatcher.render import Rendered, Template


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the parts of a message come from: a template by its digest, an attachment's bytes by its blob id."""

    template: Callable[[str], Template]
    blob: Callable[[str], bytes]


def fingerprint() -> str:
    """Names the build: two builds with the same fingerprint make the same bytes of the same message."""
    return f"{mime.fingerprint()} {render.fingerprint()}"


def compose(leased: LeasedMessage, sources: Sources) -> Message:
    """Render and build one leased message.

    Raises RenderError, NotFound for an attachment that is gone, ValueError for a header that cannot be one.
    """
    shared, own = leased.shared, leased.own
    sender = parse(shared["from"], "from")
    rendered = _render(leased, sources)
    content, utf8 = mime.build(
        mime.Content(
            public_id=leased.public_id,
            dated=leased.dated,
            from_=sender,
            to=tuple(parse(text, "to") for text in own.get("to", ())),
            cc=tuple(parse(text, "cc") for text in own.get("cc", ())),
            reply_to=tuple(parse(text, "reply_to") for text in shared.get("reply_to", ())),
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            headers=tuple({**shared.get("headers", {}), **own.get("headers", {})}.items()),
            attachments=tuple(
                _part(attachment, sources)
                for attachment in (*shared.get("attachments", ()), *own.get("attachments", ()))
            ),
        )
    )
    mail_from = shared.get("mail_from")
    mail_from = sender.spec if mail_from is None else mail_from.replace("{id}", leased.public_id)
    rcpt_to = tuple((delivery.id, delivery.rcpt) for delivery in leased.deliveries)
    utf8 = utf8 or not mail_from.isascii() or any(not rcpt.isascii() for _, rcpt in rcpt_to)
    return Message(leased.id, mail_from, rcpt_to, content, utf8)


def _render(leased: LeasedMessage, sources: Sources) -> Rendered:
    shared, own = leased.shared, leased.own
    if leased.template is None:
        html = shared.get("html")
        return Rendered(shared["subject"], shared.get("text") or render.plain(html or ""), html)
    data: Mapping[str, Any] = {**shared.get("data", {}), **own.get("data", {})}
    return sources.template(leased.template).render(own.get("locale", shared.get("locale")), data)


def _part(attachment: Mapping[str, Any], sources: Sources) -> mime.Part:
    return mime.Part(
        content=sources.blob(attachment["blob"]),
        content_type=attachment["content_type"],
        filename=attachment.get("filename"),
        content_id=attachment.get("content_id"),
    )
