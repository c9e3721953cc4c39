"""From a producer's JSON to an accepted submission: every field is checked, and every error names its field.

Pure but for the three callables of ``Context``, which find templates and attachments.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher import fields
from dispatcher.address import parse, parse_sender
from dispatcher.delivery import Lane
from dispatcher.errors import MessageTooLarge, SubmissionError
from dispatcher.mail import Accepted, AcceptedDelivery, AcceptedMessage, Address
from dispatcher.mime import check_header
from dispatcher.render import Template

PAST_SECONDS = 60.0  # a producer's clock may be a little behind
_BASE64 = 4 / 3 * 78 / 76  # what the base64 of an attachment adds, with its line ends

_MAIL_FROM = re.compile(r"\{(?!id\})|(?<!\{id)\}")


@dataclass(frozen=True, slots=True)
class Context:
    """What checking needs to know. ``template`` finds a template and its digest by name (raises UnknownTemplate);
    ``store`` turns the JSON of one attachment into its stored form (see ``Accepted.shared``)."""

    now: float
    template: Callable[[str], tuple[str, Template]]
    store: Callable[[Mapping[str, Any], str], dict[str, Any]]
    relays: Collection[str]
    lifetimes: Mapping[str, float]
    sender: str | None = None
    mail_from: str | None = None
    if_in_doubt: str = "resend"
    max_bytes: int = 25 * 1024 * 1024


@dataclass(slots=True)
class _Draft:
    """The parts of one submission while they are being checked."""

    document: Mapping[str, Any]
    context: Context
    template: Template | None = None
    digest: str | None = None
    bytes: int = 0
    prints: dict[str, Any] = field(default_factory=dict)


def accept(document: Any, context: Context, *, producer: str = "", key: str | None = None) -> Accepted:
    """Check and normalise one submission. ``key`` stands in when the document names none.

    Raises SubmissionError or one of its kinds, naming the field.
    """
    if not isinstance(document, Mapping):
        raise SubmissionError("", f"a submission is a JSON object, not {fields.kind_of(document)}")
    document = {name: value for name, value in document.items() if value is not None}
    fields.check_shape(document, fields.FIELDS, "")
    fields.check_json(document)
    draft = _Draft(document, context)
    lane = fields.choice(document, "lane", tuple(Lane), Lane.TRANSACTIONAL)
    send_at, expires_at = fields.times(document)
    shared, secrets = _shared(draft)
    messages = _batch(draft) if document.get("recipients") else (_single(draft, secrets),)
    chosen = fields.key_of(document.get("idempotency_key", key))
    return Accepted(
        lane=lane,
        shared=shared,
        messages=messages,
        fingerprints=_fingerprints(draft, shared, messages) if chosen else {},
        lifetime=context.lifetimes[lane],
        producer=producer,
        key=chosen,
        template=draft.digest,
        template_name=document.get("template"),
        relay=_relay(document, context),
        send_at=send_at,
        expires_at=expires_at,
        if_in_doubt=fields.choice(document, "if_in_doubt", ("resend", "hold"), context.if_in_doubt),
        tags=fields.tags_of(document),
        metadata=fields.metadata_of(document, "metadata"),
        secrets=secrets if document.get("recipients") else None,
    )


def check_times(accepted: Accepted, now: float) -> None:
    """Refuse what is too late: separate from ``accept``, since a repeated submission was in time once."""
    if accepted.send_at is not None and accepted.send_at < now - PAST_SECONDS:
        raise SubmissionError("send_at", f"{fields.iso(accepted.send_at)} is in the past")
    if accepted.expires_at is not None and accepted.expires_at <= now:
        raise SubmissionError("expires_at", f"{fields.iso(accepted.expires_at)} is in the past")


# -- content


def _shared(draft: _Draft) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What all recipients share, and the sensitive part of its data."""
    document, context = draft.document, draft.context
    _content(draft)
    sender = _sender(draft)
    data, secrets = _data(draft, document.get("data", {}))
    if draft.template is not None and not document.get("recipients"):
        draft.template.check(document.get("data", {}), "data")
    shared = {
        "from": str(sender),
        "mail_from": _mail_from(draft),
        "reply_to": [str(parse_sender(text, f"reply_to[{n}]")) for n, text in enumerate(document.get("reply_to", ()))],
        "headers": _headers(document, ""),
        "attachments": _attachments(draft, document, ""),
        "subject": document.get("subject"),
        "text": document.get("text"),
        "html": document.get("html"),
        "data": data if document.get("recipients") else {},
        "locale": _locale(draft, document.get("locale"), "locale"),
    }
    if draft.bytes > context.max_bytes:
        raise MessageTooLarge("attachments", f"the mail would be over the limit of {context.max_bytes:,} bytes")
    return {name: value for name, value in shared.items() if value not in (None, [], {})}, secrets


def _content(draft: _Draft) -> None:
    document = draft.document
    inline = [name for name in ("subject", "text", "html") if name in document]
    if name := document.get("template"):
        if inline:
            raise SubmissionError(inline[0], "a submission has either a template or content of its own, not both")
        draft.digest, draft.template = draft.context.template(name)
        return
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


def _data(draft: _Draft, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    return draft.template.split(data) if draft.template is not None else (dict(data), None)


def _locale(draft: _Draft, locale: str | None, at: str) -> str | None:
    if locale is None:
        return None
    if draft.template is None:
        raise SubmissionError(at, "goes with a template; this submission names none")
    try:
        draft.template.locale(locale)
    except SubmissionError as error:
        raise SubmissionError(at, error.reason) from None
    return locale


def _sender(draft: _Draft) -> Address:
    text = draft.document.get("from") or draft.context.sender
    if not text:
        raise SubmissionError("from", "required: the submission names no sender and DISPATCHER_FROM is not set")
    return parse_sender(text, "from")


def _mail_from(draft: _Draft) -> str | None:
    """The envelope sender: an address, in which ``{id}`` stands for the message's id (VERP), or empty (null sender)."""
    text = draft.document.get("mail_from", draft.context.mail_from)
    if not text:
        return None if text is None else ""
    if _MAIL_FROM.search(text):
        raise SubmissionError("mail_from", "the only placeholder is {id}")
    address = parse(text.replace("{id}", "id"), "mail_from")
    if address.display:
        raise SubmissionError("mail_from", "must be a bare address, without a name")
    return str(text)


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
            draft.bytes += int(kept["size"] * _BASE64)
    return stored


# -- recipients


def _single(draft: _Draft, secrets: dict[str, Any] | None) -> AcceptedMessage:
    """One message to all of ``to``, ``cc`` and ``bcc``; an address that stands there twice gets it once."""
    document = draft.document
    deliveries: dict[str, AcceptedDelivery] = {}
    own: dict[str, Any] = {}
    for kind in ("to", "cc", "bcc"):
        addresses = [parse(text, f"{kind}[{n}]") for n, text in enumerate(document.get(kind, ()))]
        for address in addresses:
            deliveries.setdefault(address.spec, AcceptedDelivery(address.spec, kind))
        if addresses and kind != "bcc":
            own[kind] = [str(address) for address in addresses]
    if not deliveries:
        raise SubmissionError("to", "required: a mail needs at least one recipient in to, cc, bcc or recipients")
    if data := _data(draft, document.get("data", {}))[0]:
        own["data"] = data
    return AcceptedMessage(own, tuple(deliveries.values()), secrets)


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
    address = parse(item["to"], f"{at}.to")
    data, secrets = item.get("data", {}), None
    if draft.template is not None:
        draft.template.check({**draft.document.get("data", {}), **data}, f"{at}.data")
        data, secrets = draft.template.split(data)
    elif data:
        raise SubmissionError(f"{at}.data", "goes with a template; this submission names none")
    before = draft.bytes
    own = {
        "to": [str(address)],
        "locale": _locale(draft, item.get("locale"), f"{at}.locale"),
        "data": data,
        "headers": _headers(item, f"{at}."),
        "metadata": fields.metadata_of(item, f"{at}.metadata"),
        "attachments": _attachments(draft, item, f"{at}."),
    }
    personal = sum(int(a["size"] * _BASE64) for a in own["attachments"])
    if before + personal > draft.context.max_bytes:
        raise MessageTooLarge(
            f"{at}.attachments", f"the mail would be over the limit of {draft.context.max_bytes:,} bytes"
        )
    return AcceptedMessage(
        {name: value for name, value in own.items() if value}, (AcceptedDelivery(address.spec),), secrets
    )


def _relay(document: Mapping[str, Any], context: Context) -> str | None:
    relay = document.get("relay")
    if relay is not None and relay not in context.relays:
        raise SubmissionError("relay", f"{relay!r} is not configured; known are {', '.join(context.relays) or 'none'}")
    return relay


def _fingerprints(draft: _Draft, shared: Mapping[str, Any], messages: tuple[AcceptedMessage, ...]) -> dict[str, str]:
    """A short hash of each field as it was understood: spelling and order of keys do not count, bytes do.

    A template counts by its name, so that publishing a new version is no conflict for a producer that repeats itself.
    """
    document = draft.document
    content = {
        name: document[name]
        for name in fields.FIELDS - {"idempotency_key", "attachments", "recipients"}
        if document.get(name)
    }
    content |= {name: shared[name] for name in ("from", "mail_from", "reply_to") if name in shared}
    content |= {kind: messages[0].own[kind] for kind in ("to", "cc") if kind in content}
    if "bcc" in content:
        content["bcc"] = sorted(d.rcpt for d in messages[0].deliveries if d.kind == "bcc")
    if "attachments" in shared:
        content["attachments"] = [_comparable(a) for a in shared["attachments"]]
    if document.get("recipients"):
        content["recipients"] = [
            {
                **m.own,
                "data": item.get("data") or {},
                "attachments": [_comparable(a) for a in m.own.get("attachments", ())],
            }
            for m, item in zip(messages, document["recipients"], strict=True)
        ]
    return {name: _hash(value) for name, value in content.items()}


def _comparable(attachment: Mapping[str, Any]) -> dict[str, Any]:
    same = dict(attachment)
    if version := same.pop("version", None):
        same["blob"] = f"version {version}"
        same.pop("size")
    return same


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=9).hexdigest()
