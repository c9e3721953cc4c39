"""From a producer's JSON to an accepted submission: every field is checked, and every error names its field.

Pure but for the three callables of ``Context``, which find templates and attachments.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dispatcher.address import parse
from dispatcher.delivery import Lane
from dispatcher.errors import MessageTooLarge, SubmissionError
from dispatcher.mail import Accepted, AcceptedDelivery, AcceptedMessage, Address
from dispatcher.mime import check_header
from dispatcher.render import Template

MAX_KEY = 256
MAX_TAGS, MAX_TAG = 32, 64
MAX_METADATA_BYTES = 8192
PAST_SECONDS = 60.0  # a producer's clock may be a little behind
_BASE64 = 4 / 3 * 78 / 76  # what the base64 of an attachment adds, with its line ends

_TEXT = (
    "template",
    "locale",
    "from",
    "mail_from",
    "subject",
    "text",
    "html",
    "lane",
    "relay",
    "idempotency_key",
    "if_in_doubt",
    "send_at",
    "expires_at",
)
_TEXTS = ("to", "cc", "bcc", "reply_to", "tags")
_OBJECTS = ("data", "headers", "metadata")
_LISTS = ("attachments", "recipients")
FIELDS = frozenset((*_TEXT, *_TEXTS, *_OBJECTS, *_LISTS))
RECIPIENT_FIELDS = frozenset(("to", "locale", "data", "metadata", "headers", "attachments"))
ATTACHMENT_FIELDS = frozenset(("path", "content", "blob", "filename", "content_type", "content_id", "version"))
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
        raise SubmissionError("", f"a submission is a JSON object, not {_kind(document)}")
    document = {name: value for name, value in document.items() if value is not None}
    _check_shape(document, FIELDS, "")
    _check_json(document)
    draft = _Draft(document, context)
    lane = _choice(document, "lane", tuple(Lane), Lane.TRANSACTIONAL)
    send_at, expires_at = _times(document)
    shared, secrets = _shared(draft)
    messages = _batch(draft) if document.get("recipients") else (_single(draft, secrets),)
    chosen = _key(document.get("idempotency_key", key))
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
        if_in_doubt=_choice(document, "if_in_doubt", ("resend", "hold"), context.if_in_doubt),
        tags=_tags(document),
        metadata=_metadata(document, "metadata"),
        secrets=secrets if document.get("recipients") else None,
    )


def check_times(accepted: Accepted, now: float) -> None:
    """Refuse what is too late: separate from ``accept``, since a repeated submission was in time once."""
    if accepted.send_at is not None and accepted.send_at < now - PAST_SECONDS:
        raise SubmissionError("send_at", f"{_iso(accepted.send_at)} is in the past")
    if accepted.expires_at is not None and accepted.expires_at <= now:
        raise SubmissionError("expires_at", f"{_iso(accepted.expires_at)} is in the past")


# -- shape


def _check_shape(document: Mapping[str, Any], known: frozenset[str], at: str) -> None:
    if unknown := [name for name in document if name not in known]:
        raise SubmissionError(f"{at}{unknown[0]}", f"unknown field; known are {', '.join(sorted(known))}")
    for name, value in document.items():
        if name in _OBJECTS:
            _require(value, Mapping, f"{at}{name}", "an object")
        elif name in _LISTS or (name in _TEXTS and not at):
            _require(value, (list, tuple), f"{at}{name}", "a list")
        else:
            _require(value, str, f"{at}{name}", "a string")
    for name in _TEXTS:
        if not at:
            for n, value in enumerate(document.get(name, ())):
                _require(value, str, f"{name}[{n}]", "a string")


def _check_json(document: Mapping[str, Any]) -> None:
    try:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise SubmissionError("", "holds half of a surrogate pair, which is no text") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise SubmissionError("", f"cannot be written as JSON: {error}") from None


def _require(value: Any, kind: type | tuple[type, ...], at: str, what: str) -> None:
    if not isinstance(value, kind):
        raise SubmissionError(at, f"must be {what}, not {_kind(value)}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _choice(document: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    value = document.get(name, default)
    if value not in choices:
        raise SubmissionError(name, f"{value!r} is unknown; choose one of {', '.join(choices)}")
    return str(value)


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
        "reply_to": [str(parse(text, f"reply_to[{n}]")) for n, text in enumerate(document.get("reply_to", ()))],
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
    return parse(text, "from")


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
        _require(value, str, f"{at}headers.{name}", "a string")
        check_header(name, value, f"{at}headers.{name}")
    return dict(headers)


def _attachments(draft: _Draft, document: Mapping[str, Any], at: str) -> list[dict[str, Any]]:
    stored = []
    for n, attachment in enumerate(document.get("attachments", ())):
        place = f"{at}attachments[{n}]"
        _require(attachment, Mapping, place, "an object")
        given = {name: value for name, value in attachment.items() if value is not None}
        _check_shape(given, ATTACHMENT_FIELDS, f"{place}.")
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
    _require(item, Mapping, at, "an object")
    item = {name: value for name, value in item.items() if value is not None}
    _check_shape(item, RECIPIENT_FIELDS, f"{at}.")
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
        "metadata": _metadata(item, f"{at}.metadata"),
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


# -- the rest


def _times(document: Mapping[str, Any]) -> tuple[float | None, float | None]:
    send_at, expires_at = (_instant(document, name) for name in ("send_at", "expires_at"))
    if send_at is not None and expires_at is not None and expires_at <= send_at:
        raise SubmissionError("expires_at", "is not after send_at")
    return send_at, expires_at


def _instant(document: Mapping[str, Any], name: str) -> float | None:
    if (text := document.get(name)) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SubmissionError(name, f"{text!r} is no ISO 8601 time such as 2026-12-01T09:00:00+08:00") from None
    if moment.tzinfo is None:
        raise SubmissionError(name, f"{text!r} has no offset: write 2026-12-01T09:00:00+08:00 or end it in Z")
    return moment.timestamp()


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")


def _key(key: str | None) -> str | None:
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise SubmissionError("idempotency_key", f"must be 1 to {MAX_KEY} printable characters")
    return key


def _relay(document: Mapping[str, Any], context: Context) -> str | None:
    relay = document.get("relay")
    if relay is not None and relay not in context.relays:
        raise SubmissionError("relay", f"{relay!r} is not configured; known are {', '.join(context.relays) or 'none'}")
    return relay


def _tags(document: Mapping[str, Any]) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(document.get("tags", ())))
    if len(tags) > MAX_TAGS:
        raise SubmissionError("tags", f"more than {MAX_TAGS}")
    for n, tag in enumerate(tags):
        if not 0 < len(tag) <= MAX_TAG or not tag.isprintable():
            raise SubmissionError(f"tags[{n}]", f"must be 1 to {MAX_TAG} printable characters")
    return tags


def _metadata(document: Mapping[str, Any], at: str) -> dict[str, Any]:
    metadata = dict(document.get("metadata", {}))
    if len(json.dumps(metadata)) > MAX_METADATA_BYTES:
        raise SubmissionError(at, f"over {MAX_METADATA_BYTES} bytes of JSON")
    return metadata


def _fingerprints(draft: _Draft, shared: Mapping[str, Any], messages: tuple[AcceptedMessage, ...]) -> dict[str, str]:
    """A short hash of each field as it was understood: spelling and order of keys do not count, bytes do.

    A template counts by its name, so that publishing a new version is no conflict for a producer that repeats itself.
    """
    document = draft.document
    fields = {
        name: document[name] for name in FIELDS - {"idempotency_key", "attachments", "recipients"} if document.get(name)
    }
    fields |= {name: shared[name] for name in ("from", "mail_from", "reply_to") if name in shared}
    fields |= {kind: messages[0].own[kind] for kind in ("to", "cc") if kind in fields}
    if "bcc" in fields:
        fields["bcc"] = sorted(d.rcpt for d in messages[0].deliveries if d.kind == "bcc")
    if "attachments" in shared:
        fields["attachments"] = [_comparable(a) for a in shared["attachments"]]
    if document.get("recipients"):
        fields["recipients"] = [
            {
                **m.own,
                "data": item.get("data") or {},
                "attachments": [_comparable(a) for a in m.own.get("attachments", ())],
            }
            for m, item in zip(messages, document["recipients"], strict=True)
        ]
    return {name: _hash(value) for name, value in fields.items()}


def _comparable(attachment: Mapping[str, Any]) -> dict[str, Any]:
    same = dict(attachment)
    if version := same.pop("version", None):
        same["blob"] = f"version {version}"
        same.pop("size")
    return same


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=9).hexdigest()
