"""The head of a submission: the few short fields that are the same in thousands of them, checked once for all that are
accepted together."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher import fields
from dispatcher.address import parse, parse_sender
from dispatcher.delivery import Lane
from dispatcher.errors import SubmissionError
from dispatcher.render import Template
from dispatcher.suppression import list_name
from dispatcher.written import Written

HEAD_FIELDS = "template", "locale", "from", "mail_from", "lane", "relay", "if_in_doubt", "list"
_MAIL_FROM = re.compile(r"\{(?!id\})|(?<!\{id)\}")


@dataclass(frozen=True, slots=True)
class Head:
    """What these fields come to. ``shared`` is the part of the content that follows from them."""

    lane: Lane
    lifetime: float
    if_in_doubt: str
    relay: str | None
    template: Template | None
    digest: str | None
    shared: Written
    list: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What checking needs to know, and the heads that it came by: for submissions that are accepted together.

    ``template`` finds a template and its digest by name (raises UnknownTemplate); ``store`` turns the JSON of one
    attachment into its stored form (see ``Accepted.shared``). ``unsubscribe``: where one leaves a list, and the id of
    the key that signs it (``url``, ``key``).
    """

    now: float
    template: Callable[[str], tuple[str, Template]]
    store: Callable[[Mapping[str, Any], str], dict[str, Any]]
    relays: Collection[str]
    lifetimes: Mapping[str, float]
    sender: str | None = None
    mail_from: str | None = None
    if_in_doubt: str = "resend"
    max_bytes: int = 25 * 1024 * 1024
    unsubscribe: Mapping[str, str] = field(default_factory=dict)
    heads: dict[tuple[str | None, ...], Head] = field(default_factory=dict)


def check_head(document: Mapping[str, Any], context: Context) -> Head:
    """Raises SubmissionError naming the field."""
    lane = Lane(fields.choice(document, "lane", tuple(Lane), Lane.TRANSACTIONAL))
    name = document.get("template")
    digest, template = context.template(name) if name else (None, None)
    list_ = _list(document)
    shared = {
        "from": _sender(document, context),
        "mail_from": _mail_from(document, context),
        "locale": check_locale(template, document.get("locale"), "locale"),
        # Written down, so that every attempt says the same after the keys or our address have changed.
        "unsubscribe": {"list": list_, **context.unsubscribe} if list_ and context.unsubscribe else None,
    }
    return Head(
        lane=lane,
        lifetime=context.lifetimes[lane],
        if_in_doubt=fields.choice(document, "if_in_doubt", ("resend", "hold"), context.if_in_doubt),
        relay=_relay(document, context),
        template=template,
        digest=digest,
        shared=Written({name: value for name, value in shared.items() if value is not None}),
        list=list_,
    )


def check_locale(template: Template | None, locale: str | None, at: str) -> str | None:
    """Raises SubmissionError, for the field ``at``, unless the template can be asked for this locale."""
    if locale is None:
        return None
    if template is None:
        raise SubmissionError(at, "goes with a template; this submission names none")
    try:
        template.locale(locale)
    except SubmissionError as error:
        raise SubmissionError(at, error.reason) from None
    return locale


def _sender(document: Mapping[str, Any], context: Context) -> str:
    text = document.get("from") or context.sender
    if not text:
        raise SubmissionError("from", "required: the submission names no sender and DISPATCHER_FROM is not set")
    return str(parse_sender(text, "from"))


def _mail_from(document: Mapping[str, Any], context: Context) -> str | None:
    """The envelope sender: an address, in which ``{id}`` stands for the message's id (VERP), or empty (null sender)."""
    text = document.get("mail_from", context.mail_from)
    if not text:
        return None if text is None else ""
    if _MAIL_FROM.search(text):
        raise SubmissionError("mail_from", "the only placeholder is {id}")
    address = parse(text.replace("{id}", "id"), "mail_from")
    if address.display:
        raise SubmissionError("mail_from", "must be a bare address, without a name")
    return str(text)


def _list(document: Mapping[str, Any]) -> str | None:
    if (text := document.get("list")) is None:
        return None
    try:
        return list_name(text)
    except ValueError as error:
        raise SubmissionError("list", str(error)) from None


def _relay(document: Mapping[str, Any], context: Context) -> str | None:
    relay = document.get("relay")
    if relay is not None and relay not in context.relays:
        raise SubmissionError("relay", f"{relay!r} is not configured; known are {', '.join(context.relays) or 'none'}")
    return relay
