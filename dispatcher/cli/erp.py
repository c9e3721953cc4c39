"""The ERP that the demo plays: what it hands over, and what each mailbox must hold at the end."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from email.message import EmailMessage
from typing import Any

from dispatcher.cli.invoice import pdf

SENDER = "Harbor & Pine <orders@harborpine.example>"
GONE, BUSY = "gone@example.com", "busy@example.com"
CUSTOMERS = (
    ("Ada Lovelace", "ada@example.com", "en"),
    ("李雷", "lilei@example.com", "zh-CN"),
    ("Søren Ångström", "soren@example.com", "en"),
    ("韩梅梅", "hanmeimei@example.com", "zh-CN"),
    ("Grace Hopper", "grace@example.com", "en"),
    ("Busy Bee", BUSY, "en"),
    ("Gone Fishing", GONE, "en"),
)
_GOODS = (
    ("HP-4410", {"en": "Linen throw, oat", "zh-CN": "燕麦色亚麻盖毯"}, Decimal("89.00")),
    ("HP-1207", {"en": "Stoneware dinner set", "zh-CN": "粗陶餐具四人套装"}, Decimal("164.00")),
    ("HP-0093", {"en": "Beeswax candle", "zh-CN": "蜂蜡香薰蜡烛"}, Decimal("14.75")),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """One mail that must have arrived: what stands in its text, and the SHA-256 of each attachment."""

    to: str
    words: tuple[str, ...]
    attachments: tuple[str, ...] = ()

    def fits(self, mail: EmailMessage) -> bool:
        """Whether this is the mail."""
        body = mail.get_body(("plain",))
        text = f"{mail['Subject']}\n{body.get_content() if body is not None else ''}"
        found = sorted(hashlib.sha256(content).hexdigest() for content in attachments(mail))
        return all(word in text for word in self.words) and found == sorted(self.attachments)


@dataclass(frozen=True, slots=True)
class Order:
    """One submission, and what must come of it."""

    document: Mapping[str, Any]
    expected: tuple[Expected, ...]


def attachments(mail: EmailMessage) -> list[bytes]:
    """The bytes of each."""
    return [bytes(part.get_payload(decode=True) or b"") for part in mail.iter_attachments()]


def business(orders: int, bulk: int) -> list[Order]:
    """A morning's work: order confirmations, a welcome, a birthday, and a bulk run with its own lane."""
    return [*(_confirmation(n) for n in range(orders)), _welcome(), _birthday(), _campaign(bulk)]


def arriving(business: Sequence[Order]) -> Iterator[Expected]:
    """All that must arrive: nothing for the mailbox that does not exist."""
    return (mail for order in business for mail in order.expected if mail.to != GONE)


def _confirmation(n: int) -> Order:
    name, address, locale = CUSTOMERS[n % len(CUSTOMERS)]
    number = f"SO-{1001 + n}"
    items = [
        {"sku": sku, "name": names[locale], "quantity": 1 + (n + k) % 3, "unit_price": str(price)}
        for k, (sku, names, price) in enumerate(_GOODS[: 1 + n % len(_GOODS)])
    ]
    total = str(sum((Decimal(str(item["unit_price"])) * int(str(item["quantity"])) for item in items), Decimal(0)))
    invoice = pdf([f"Invoice for order {number}", *(f"{i['quantity']} x {i['sku']}" for i in items), f"Total: {total}"])
    filename = f"发票-{number}.pdf" if locale == "zh-CN" else f"invoice-{number}.pdf"
    document = {
        "template": "order_confirmation",
        "locale": locale,
        "from": SENDER,
        "to": [f'"{name}" <{address}>'],
        "data": {
            "customer": {"name": name},
            "order": {
                "id": number,
                "placed_at": "2026-11-20T09:30:00+08:00",
                "currency": "CNY" if locale == "zh-CN" else "USD",
                "items": items,
                "total": total,
            },
        },
        "attachments": [
            {
                "content": base64.b64encode(invoice).decode("ascii"),
                "filename": filename,
                "content_type": "application/pdf",
            }
        ],
        "idempotency_key": f"{number}/confirmation",
        "tags": ["order"],
    }
    digest = hashlib.sha256(invoice).hexdigest()
    return Order(document, (Expected(address, (number, name), (digest,)),))


def _welcome() -> Order:
    document = {
        "template": "welcome",
        "from": SENDER,
        "to": ["newcomer@example.com"],
        "data": {"customer": {"name": "Noor"}},
        "tags": ["welcome"],
    }
    return Order(document, (Expected("newcomer@example.com", ("Noor",)),))


def _birthday() -> Order:
    document = {
        "template": "birthday",
        "locale": "zh-CN",
        "from": SENDER,
        "to": ["lilei@example.com"],
        "data": {"customer": {"name": "李雷"}, "voucher": {"code": "BIRTHDAY-10"}},
        "tags": ["birthday"],
    }
    return Order(document, (Expected("lilei@example.com", ("李雷", "BIRTHDAY-10")),))


def _campaign(size: int) -> Order:
    readers = [(f"reader{n:03}@example.com", f"Reader {n:03}", f"READER-{n:03}") for n in range(1, size + 1)]
    document = {
        "template": "birthday",
        "from": SENDER,
        "lane": "bulk",
        "recipients": [
            {"to": address, "data": {"customer": {"name": name}, "voucher": {"code": code}}}
            for address, name, code in readers
        ],
        "tags": ["birthday-2026"],
    }
    return Order(document, tuple(Expected(address, (name, code)) for address, name, code in readers))
