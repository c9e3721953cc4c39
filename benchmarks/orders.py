"""The mail that everything is measured with: an order confirmation with three items, rendered in English."""

from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

from dispatcher.adapters.folder import TemplateFolder, shipped
from dispatcher.render import Template

SENDER = "Shop <shop@example.com>"


def data(n: int) -> dict[str, Any]:
    """Order number ``n``: three of 500 products, at their prices, in quantities from one to four."""
    items, cents = [], 0
    for k in (1, 2, 3):
        product, quantity = (7 * n + 131 * k) % 500, 1 + (n + k) % 4
        price = 500 + 37 * product
        cents += price * quantity
        items.append(
            {"sku": f"P-{product}", "name": f"Item {product}", "quantity": quantity, "unit_price": _euros(price)}
        )
    placed = f"2026-11-{1 + n % 28:02}T10:00:00Z"
    order = {"id": f"SO-{n}", "placed_at": placed, "currency": "EUR", "items": items, "total": _euros(cents)}
    return {"customer": {"name": f"Buyer {n}"}, "order": order}


def _euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def recipient(n: int) -> str:
    """Who placed it."""
    return f"buyer{n}@example.com"


def submissions(count: int, lane: str = "bulk") -> Iterator[dict[str, Any]]:
    """As submissions of ours."""
    for n in range(count):
        yield {"template": "order_confirmation", "to": [recipient(n)], "data": data(n), "lane": lane}


def template() -> Template:
    """The shipped one, compiled: its CSS is inlined once, its filters keep what they wrote."""
    return Template(TemplateFolder(shipped()).load("order_confirmation"))


def message(compiled: Template, n: int) -> EmailMessage:
    """As the standard library builds it."""
    rendered = compiled.render("en", data(n))
    built = EmailMessage()
    built["From"], built["To"], built["Subject"] = SENDER, recipient(n), rendered.subject
    built["Date"], built["Message-ID"] = formatdate(), make_msgid(domain="example.com")
    built.set_content(rendered.text)
    built.add_alternative(rendered.html, subtype="html")
    return built
