"""A day in a shop: who registers, orders, cancels, and which parcels leave; in the order in which an ERP tells it."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

NAMES = "Ada Lovelace", "李雷", "Søren Ångström", "韩梅梅", "Grace Hopper", "Amélie Poulain"
ZONES = "Europe/London", "Asia/Shanghai", "Europe/Copenhagen", "Asia/Shanghai", "America/New_York", "Europe/Paris"
GOODS = (
    ("HP-4410", "Linen throw, oat", 89.00),
    ("HP-1207", "Stoneware dinner set", 164.00),
    ("HP-0093", "Candle", 14.75),
)
CARRIERS = "DHL Express", "顺丰速运", "UPS"
LATE, TWICE, WITHOUT_PARCEL = 0.05, 0.05, 0.1  # of all events; of all orders


class Told(NamedTuple):
    """An event as it is handed over: its kind, the ERP's own number of it, what it is about, and the data."""

    event: str
    id: str
    key: str
    data: dict[str, Any]

    def document(self) -> dict[str, Any]:
        return {"event": self.event, "id": self.id, "data": self.data}


def day(seed: int, part: int, parts: int) -> Iterator[Told]:
    """Without end: what one of several of the ERP's processes has to tell. Orders of different processes have different
    numbers. Each order's parcel follows a while after it; some are told before the order, and some things twice."""
    chance = random.Random(f"{seed}/{part}")
    shelf: list[Told] = []
    number = part
    while True:
        number += parts
        order, customer = f"SO-{number:07}", f"C-{number:07}"
        person = _person(customer, number)
        created = Told("order.created", f"{order}/created", order, {"customer": person, "order": _order(order, chance)})
        registered = Told("customer.registered", f"{customer}/registered", customer, {"customer": person})
        shelf += [registered] if number % 4 == 0 else []
        following = [] if chance.random() < WITHOUT_PARCEL else [_parcel(order, chance)]
        both = [created, *following]
        if following and chance.random() < LATE:
            both.reverse()
        shelf += both[:1]
        yield from _taken(shelf, chance)
        shelf += both[1:]


def _taken(shelf: list[Told], chance: random.Random) -> Iterator[Told]:
    """What has lain there longest goes; now and then again."""
    while len(shelf) > 20:  # noqa: PLR2004 - so that a parcel is told some orders after its own
        told = shelf.pop(0)
        yield told
        if chance.random() < TWICE:
            yield told


def _person(customer: str, number: int) -> dict[str, Any]:
    n = number % len(NAMES)
    locale = "zh-CN" if ZONES[n] == "Asia/Shanghai" else "en"
    return {
        "id": customer,
        "email": f"{customer.lower()}@example.com",
        "name": NAMES[n],
        "zone": ZONES[n],
        "locale": locale,
    }


def _order(order: str, chance: random.Random) -> dict[str, Any]:
    items = [
        {"sku": sku, "name": name, "quantity": chance.randint(1, 3), "unit_price": f"{price:.2f}"}
        for sku, name, price in chance.sample(GOODS, chance.randint(1, len(GOODS)))
    ]
    total = sum(each["quantity"] * float(each["unit_price"]) for each in items)
    placed = datetime.now(UTC).isoformat(timespec="seconds")
    return {"id": order, "placed_at": placed, "currency": "EUR", "items": items, "total": f"{total:.2f}"}


def _parcel(order: str, chance: random.Random) -> Told:
    shipment = {"carrier": chance.choice(CARRIERS), "tracking_number": f"TN{chance.randrange(10**12):012}"}
    return Told("order.shipped", f"{order}/shipped", order, {"order": {"id": order}, "shipment": shipment})
