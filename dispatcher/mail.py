"""Mail as values: addresses, what a producer submits, and the message that goes over the wire."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

_ATOM = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+)*"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox (RFC 5322 section 3.4): a display name in any script, the local part unquoted, the domain in ASCII.

    The domain is kept in its A-label form, so that only a non-ASCII local part asks for SMTPUTF8 (RFC 6531).
    """

    local: str
    domain: str
    display: str = ""

    @property
    def spec(self) -> str:
        """The address as it stands in MAIL, RCPT and in ``<...>``; the local part is quoted where it must be."""
        local = self.local
        if not _ATOM.fullmatch(local):
            local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
        return f"{local}@{self.domain}"

    @property
    def utf8(self) -> bool:
        """Whether the address needs SMTPUTF8."""
        return not self.local.isascii()

    def __str__(self) -> str:
        if not self.display:
            return self.spec
        display = re.sub(r'(["\\])', r"\\\1", self.display)
        return f'"{display}" <{self.spec}>'


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file to attach, given as exactly one of ``path``, ``content`` (bytes) or ``blob`` (a stored one's id).

    It is inline, as a related part, when it has a ``content_id`` (RFC 2392). ``version``, if given, is compared
    for idempotency instead of the bytes.
    """

    path: str | None = None
    content: bytes | None = None
    blob: str | None = None
    filename: str | None = None
    content_type: str | None = None
    content_id: str | None = None
    version: str | None = None

    def document(self) -> dict[str, Any]:
        """As the JSON of a submission has it."""
        found = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        if self.content is not None:
            found["content"] = base64.b64encode(self.content).decode("ascii")
        return found


@dataclass(frozen=True, slots=True)
class Recipient:
    """One personal message of a batch: its ``data``, ``headers`` and ``metadata`` go over the submission's."""

    to: str
    locale: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[Attachment] = ()

    def document(self) -> dict[str, Any]:
        """As the JSON of a submission has it."""
        found: dict[str, Any] = {f.name: value for f in fields(self) if (value := getattr(self, f.name))}
        if self.attachments:
            found["attachments"] = [a.document() for a in self.attachments]
        return found


@dataclass(frozen=True, slots=True)
class Submission:
    """What a producer hands over; the same fields as the JSON of every door (``from_`` is its ``from``).

    Give either ``template`` with ``data``, or ``subject`` with ``text`` or ``html``; either ``to``/``cc``/``bcc``
    (one message to all of them) or ``recipients`` (one personal message each). Times are ISO 8601 with an offset.
    It is checked when it is submitted, not when it is made. ``list`` names the list that this is marketing for.
    """

    template: str | None = None
    locale: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    to: Sequence[str] = ()
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    from_: str | None = None
    mail_from: str | None = None
    reply_to: Sequence[str] = ()
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[Attachment] = ()
    recipients: Sequence[Recipient] = ()
    send_at: str | None = None
    expires_at: str | None = None
    lane: str | None = None
    relay: str | None = None
    idempotency_key: str | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    if_in_doubt: str | None = None
    list: str | None = None

    def document(self) -> dict[str, Any]:
        """The JSON document of this submission; fields that were left alone are left out."""
        found: dict[str, Any] = {
            f.name.rstrip("_"): value for f in fields(self) if (value := getattr(self, f.name)) not in (None, (), {})
        }
        for name in ("attachments", "recipients"):
            if name in found:
                found[name] = [item.document() for item in found[name]]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


@dataclass(frozen=True)
class Message:
    """One envelope (RFC 5321) and one content (RFC 5322): what a transport sends in one transaction.

    ``rcpt_to`` pairs the delivery's id with the address; ``content`` is the whole mail with CRLF line ends,
    before dot-stuffing; ``utf8`` asks for SMTPUTF8.
    """

    id: int
    mail_from: str
    rcpt_to: tuple[tuple[int, str], ...]
    content: bytes = field(repr=False)
    utf8: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored attachment: the SHA-256 of its bytes (hex) is its id; ``size`` is in bytes."""

    id: str
    size: int


@dataclass(frozen=True, slots=True)
class AcceptedDelivery:
    """One recipient of an accepted message; ``kind`` is ``to``, ``cc`` or ``bcc``."""

    rcpt: str
    kind: str = "to"


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """One message of an accepted submission. ``own`` is JSON: what goes over the shared content.

    Keys of ``own``: ``to``, ``cc`` (header addresses as strings), ``locale``, ``data``, ``headers``, ``metadata``,
    ``attachments``. ``secrets`` is the part of the data that a schema marks as sensitive; it is wiped at settle.
    """

    own: dict[str, Any]
    deliveries: tuple[AcceptedDelivery, ...]
    secrets: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A checked and normalised submission, ready for the ledger.

    Keys of ``shared`` (JSON): ``from``, ``mail_from``, ``reply_to``, ``headers``, ``attachments`` (each ``blob``,
    ``filename``, ``content_type``, ``content_id``, ``size``), ``subject``, ``text``, ``html``, ``data``, ``locale``,
    ``unsubscribe`` (of mail for a list: its ``list``, the ``url`` of our pages, the ``key`` by its id).
    ``fingerprints`` maps each field to a short hash of its normalised value: equal for the same content.
    ``template`` is the content hash of a version. Times are seconds since the epoch; ``due_in`` and ``lifetime``
    count from the ledger's now, ``send_at``, when given, stands for itself.
    """

    lane: str
    shared: dict[str, Any]
    messages: tuple[AcceptedMessage, ...]
    fingerprints: dict[str, str]
    lifetime: float
    producer: str = ""
    key: str | None = None
    template: str | None = None
    template_name: str | None = None
    relay: str | None = None
    send_at: float | None = None
    expires_at: float | None = None
    if_in_doubt: str = "resend"
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, Any] | None = None
    list: str | None = None


@dataclass(frozen=True, slots=True)
class ReceiptRecipient:
    """One line of a receipt."""

    id: str
    to: str
    state: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a submission: committed, and this is its public id. ``recipients`` lists the first 100.

    ``message_ids`` are the ledger's numbers of the new messages (none for a duplicate): what the bell carries.
    """

    id: str
    accepted: int
    state: str
    duplicate: bool = False
    suppressed: int = 0
    recipients: Sequence[ReceiptRecipient] = ()
    message_ids: tuple[int, ...] = field(default=(), repr=False)

    def document(self) -> dict[str, Any]:
        """The JSON answer of every door."""
        return {
            "id": self.id,
            "accepted": self.accepted,
            "suppressed": self.suppressed,
            "state": self.state,
            "duplicate": self.duplicate,
            "recipients": [{"id": r.id, "to": r.to, "state": r.state} for r in self.recipients],
        }
