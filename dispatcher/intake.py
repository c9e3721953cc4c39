"""From a producer's JSON to an accepted submission: every field is checked, and every error names its field.

Pure but for the two callables of ``Context``, which find templates and attachments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dispatcher import fields
from dispatcher.address import mailbox, parse_sender
from dispatcher.errors import MessageTooLarge, SubmissionError
from dispatcher.fingerprints import fingerprints
from dispatcher.head import HEAD_FIELDS, Context, Head, check_head, check_locale
from dispatcher.mail import Accepted, AcceptedDelivery, AcceptedMessage
from dispatcher.mime import check_header
from dispatcher.transfer import BASE64_GROWTH
from dispatcher.written import Written, encode

PAST_SECONDS = 60.0  # a producer's clock may be a little behind
_INLINE = "subject", "text", "html"
_EXTRAS = frozenset(("reply_to", "headers", "attachments", *_INLINE))


@dataclass(slots=True)
class _Draft:
    """The parts of one submission while they are being checked; ``data`` is the JSON of its data, ``personal``: each
    recipient gets a message."""

    document: Mapping[str, Any]
    context: Context
    head: Head
    data: str
    personal: bool
    bytes: int = 0


def accept(
    document: Any, context: Context, *, producer: str = "", key: str | None = None, later: bool = False
) -> Accepted:
    """Check and normalise one submission. ``key`` stands in when the document names none; ``later``: its recipients
    are none yet, and get a message each.

    Raises SubmissionError or one of its kinds, naming the field.
    """
    if not isinstance(document, Mapping):
        raise SubmissionError("", f"a submission is a JSON object, not {fields.kind_of(document)}")
    document = {name: value for name, value in document.items() if value is not None}
    fields.check_shape(document, fields.FIELDS, "")
    data = fields.check_json(document)
    head = _head(document, context)
    draft = _Draft(document, context, head, data, later or bool(document.get("recipients")))
    send_at, expires_at = fields.times(document)
    if head.list is not None and not later:
        _check_personal(document)
    shared, own, secrets = _content(draft)
    messages = () if later else _batch(draft) if draft.personal else (_single(draft, own, secrets),)
    chosen = fields.key_of(document.get("idempotency_key", key))
    return Accepted(
        lane=head.lane,
        shared=shared,
        messages=messages,
        fingerprints=fingerprints(document, shared, messages) if chosen else {},
        lifetime=head.lifetime,
        producer=producer,
        key=chosen,
        template=head.digest,
        template_name=document.get("template"),
        relay=head.relay,
        send_at=send_at,
        expires_at=expires_at,
        if_in_doubt=head.if_in_doubt,
        tags=fields.tags_of(document),
        metadata=fields.metadata_of(document, "metadata"),
        secrets=secrets if draft.personal else None,
        list=head.list,
    )


def check_times(accepted: Accepted, now: float) -> None:
    """Refuse what is too late: separate from ``accept``, since a repeated submission was in time once."""
    if accepted.send_at is not None and accepted.send_at < now - PAST_SECONDS:
        raise SubmissionError("send_at", f"{fields.iso(accepted.send_at)} is in the past")
    if accepted.expires_at is not None and accepted.expires_at <= now:
        raise SubmissionError("expires_at", f"{fields.iso(accepted.expires_at)} is in the past")


# -- content


def _head(document: Mapping[str, Any], context: Context) -> Head:
    """What it says of itself as the others do, checked for the first of them."""
    name = tuple(map(document.get, HEAD_FIELDS))
    if (found := context.heads.get(name)) is None:
        found = context.heads[name] = check_head(document, context)
    return found


def _content(draft: _Draft) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """What all recipients share, what a single message has of its data, and the sensitive part of that."""
    document, template, personal = draft.document, draft.head.template, draft.personal
    public, secrets = document.get("data", {}), None
    if template is None:
        _check_inline(draft)
    elif inline := [name for name in _INLINE if name in document]:
        raise SubmissionError(inline[0], "a submission has either a template or content of its own, not both")
    else:
        public, secrets = template.split(public)
        if not personal:
            template.check(document.get("data", {}), "data")
    shared: dict[str, Any] = draft.head.shared
    if personal or not _EXTRAS.isdisjoint(document):
        shared = shared | _extras(draft, public if personal else {})
    if draft.bytes > draft.context.max_bytes:
        raise MessageTooLarge("attachments", f"the mail would be over the limit of {draft.context.max_bytes:,} bytes")
    return shared, public, secrets


def _extras(draft: _Draft, data: Mapping[str, Any]) -> dict[str, Any]:
    """What few submissions share with their recipients beside what stands in the head."""
    document = draft.document
    extras = {
        "reply_to": [str(parse_sender(text, f"reply_to[{n}]")) for n, text in enumerate(document.get("reply_to", ()))],
        "headers": _headers(document, ""),
        "attachments": _attachments(draft, document, ""),
        **{name: document.get(name) for name in _INLINE},
        "data": data,
    }
    return {name: value for name, value in extras.items() if value not in (None, [], {})}


def _check_inline(draft: _Draft) -> None:
    document = draft.document
    if not document.get("subject", "").strip():
        raise SubmissionError("subject", "required: name a template, or give a subject with text or html")
    if "\n" in document["subject"] or "\r" in document["subject"]:
        raise SubmissionError("subject", "must be one line")
    check_header("X-Subject", document["subject"], "subject")
    if not (document.get("text") or document.get("html")):
        raise SubmissionError("text", "required: a mail without a template needs text or html")
    if document.get("data"):
        raise SubmissionError("data", "goes with a template; this submission names none")
    draft.bytes += sum(len(document.get(name, "").encode()) for name in ("text", "html"))


def _headers(document: Mapping[str, Any], at: str) -> dict[str, str]:
    headers = document.get("headers", {})
    for name, value in headers.items():
        fields.require(value, str, f"{at}headers.{name}", "a string")
        check_header(name, value, f"{at}headers.{name}")
    return dict(headers)


def _attachments(draft: _Draft, document: Mapping[str, Any], at: str) -> list[dict[str, Any]]:
    stored = []
    for n, attachment in enumerate(document.get("attachments", ())):
        place = f"{at}attachments[{n}]"
        fields.require(attachment, Mapping, place, "an object")
        given = {name: value for name, value in attachment.items() if value is not None}
        fields.check_shape(given, fields.ATTACHMENT_FIELDS, f"{place}.")
        sources = [name for name in ("path", "content", "blob") if name in given]
        if len(sources) != 1:
            raise SubmissionError(place, "needs exactly one of path, content (base64) or blob")
        kept = draft.context.store(given, place)
        stored.append(kept)
        if not at:
            draft.bytes += int(kept["size"] * BASE64_GROWTH)
    return stored


# -- recipients


def _single(draft: _Draft, data: dict[str, Any], secrets: dict[str, Any] | None) -> AcceptedMessage:
    """One message to all of ``to``, ``cc`` and ``bcc``; an address that stands there twice gets it once."""
    deliveries: dict[str, AcceptedDelivery] = {}
    own: dict[str, Any] = {}
    written: list[str] = []
    for kind in ("to", "cc", "bcc"):
        if not (texts := draft.document.get(kind)):
            continue
        addresses = [mailbox(text, f"{kind}[{n}]") for n, text in enumerate(texts)]
        for spec, _ in addresses:
            deliveries.setdefault(spec, AcceptedDelivery(spec, kind))
        if kind != "bcc":
            own[kind] = [shown for _, shown in addresses]
            written.append(f'"{kind}":[{",".join(map(encode, own[kind]))}]')
    if not deliveries:
        raise SubmissionError("to", "required: a mail needs at least one recipient in to, cc, bcc or recipients")
    if data:
        own["data"] = data
        written.append(f'"data":{draft.data if secrets is None else encode(data)}')
    return AcceptedMessage(Written(own, f"{{{','.join(written)}}}"), tuple(deliveries.values()), secrets)


def _check_personal(document: Mapping[str, Any]) -> None:
    """Each recipient of a list has a link of their own by which to leave it."""
    if document.get("recipients"):
        return
    if len(document.get("to", ())) != 1 or document.get("cc") or document.get("bcc"):
        raise SubmissionError("list", "goes with recipients, or with a single address in to and none in cc and bcc")


def _batch(draft: _Draft) -> tuple[AcceptedMessage, ...]:
    """One personal message for each of ``recipients``."""
    for kind in ("to", "cc", "bcc"):
        if draft.document.get(kind):
            raise SubmissionError(kind, "a submission has either recipients or to, cc and bcc, not both")
    return tuple(_personal(draft, item, f"recipients[{n}]") for n, item in enumerate(draft.document["recipients"]))


def _personal(draft: _Draft, item: Any, at: str) -> AcceptedMessage:
    fields.require(item, Mapping, at, "an object")
    item = {name: value for name, value in item.items() if value is not None}
    fields.check_shape(item, fields.RECIPIENT_FIELDS, f"{at}.")
    if "to" not in item:
        raise SubmissionError(f"{at}.to", "required")
    spec, shown = mailbox(item["to"], f"{at}.to")
    data, secrets = item.get("data", {}), None
    template = draft.head.template
    if template is not None:
        template.check({**draft.document.get("data", {}), **data}, f"{at}.data")
        data, secrets = template.split(data)
    elif data:
        raise SubmissionError(f"{at}.data", "goes with a template; this submission names none")
    before = draft.bytes
    own = {
        "to": [shown],
        "locale": check_locale(template, item.get("locale"), f"{at}.locale"),
        "data": data,
        "headers": _headers(item, f"{at}."),
        "metadata": fields.metadata_of(item, f"{at}.metadata"),
        "attachments": _attachments(draft, item, f"{at}."),
    }
    personal = sum(int(a["size"] * BASE64_GROWTH) for a in own["attachments"])
    if before + personal > draft.context.max_bytes:
        raise MessageTooLarge(
            f"{at}.attachments", f"the mail would be over the limit of {draft.context.max_bytes:,} bytes"
        )
    return AcceptedMessage({name: value for name, value in own.items() if value}, (AcceptedDelivery(spec),), secrets)
