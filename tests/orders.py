"""Order confirmations by the thousand, and the check that each mailbox got its own."""

import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from dispatcher.servers.recording import Received, Recording

NAMES = ("李雷", "韩梅梅", "Ada Lovelace", "Søren Ångström", "Jean-Luc O'Neill")
GOODS = (
    ("MUG-1", "Mug", Decimal("12.50")),
    ("茶-7", "龙井茶", Decimal("88.00")),
    ("PEN-2", "Pen & Ink", Decimal("3.20")),
)


def order(n: int) -> dict[str, Any]:
    """Order number ``n`` as an ERP would submit it; every other one in Chinese."""
    items = [
        {"sku": sku, "name": name, "quantity": 1 + (n + k) % 3, "unit_price": str(price)}
        for k, (sku, name, price) in enumerate(GOODS[: 1 + n % 3])
    ]
    total = sum((Decimal(item["unit_price"]) * item["quantity"] for item in items), Decimal(0))
    return {
        "template": "order_confirmation",
        "locale": "zh-CN" if n % 2 else "en",
        "to": [f"{NAMES[n % len(NAMES)].replace(chr(39), '')} <buyer{n}@example.com>"],
        "from": "Shop <shop@example.com>",
        "data": {
            "customer": {"name": NAMES[n % len(NAMES)]},
            "order": {
                "id": f"SO-{n:06}",
                "placed_at": "2026-11-23T10:00:00+08:00",
                "currency": "CNY",
                "items": items,
                "total": str(total),
            },
        },
        "idempotency_key": f"SO-{n:06}/confirmation",
        "tags": ["order"],
    }


def write(path: Path, count: int, change: Callable[[int, dict[str, Any]], Any] = lambda _, made: made) -> None:
    """``count`` orders as JSON Lines; ``change`` may spoil some."""
    with path.open("w", encoding="utf-8") as lines:
        for n in range(count):
            made = change(n, order(n))
            lines.write(made if isinstance(made, str) else json.dumps(made, ensure_ascii=False))
            lines.write("\n")


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def check_one(received: Received, n: int) -> None:
    """The mail of order ``n``: its id, total and name stand in both bodies, the id in the subject."""
    mail, wanted = received.email, order(n)["data"]
    html = mail.get_body(("html",))
    assert html is not None
    total = f"{Decimal(wanted['order']['total']):,.2f}"
    for body in (text_of(mail), str(html.get_content())):
        assert wanted["order"]["id"] in body
        assert total in body
    assert wanted["customer"]["name"] in text_of(mail)
    assert wanted["order"]["id"] in str(mail["Subject"])


def check(received: list[Received], count: int, *, doubles: int = 0) -> None:
    """Every order once (up to ``doubles`` mails more), to its buyer, and right."""
    by_buyer = {r.rcpt_to[0]: r for r in received}
    wanted = {f"buyer{n}@example.com" for n in range(count)}
    assert not wanted - set(by_buyer), "these were lost"
    assert not set(by_buyer) - wanted
    assert len(Counter(r.message_id for r in received)) == count
    assert len(received) - count <= doubles
    for n in range(count):
        check_one(by_buyer[f"buyer{n}@example.com"], n)


def read(path: Path) -> list[Received]:
    """What the sink has recorded so far."""
    return list(Recording.read(path)) if path.exists() else []


def count(path: Path) -> int:
    """How many mails that is, without parsing them: for whoever asks again and again."""
    if not path.exists():
        return 0
    with path.open("rb") as lines:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: lines.read(1 << 20), b""))
