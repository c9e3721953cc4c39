"""A day in a shop: who registers, orders, cancels, and which parcels leave; in the order in which an ERP tells it."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from heapq import heappop, heappush
from itertools import count
from typing import Any, NamedTuple

NAMES = "Ada Lovelace", "李雷", "Søren Ångström", "韩梅梅", "Grace Hopper", "Amélie Poulain"
ZONES = "Europe/London", "Asia/Shanghai", "Europe/Copenhagen", "Asia/Shanghai", "America/New_York", "Europe/Paris"
GOODS = (
    ("HP-4410", "Linen throw, oat", Decimal("89.00")),
    ("HP-1207", "Stoneware dinner set", Decimal("164.00")),
    ("HP-0093", "Candle", Decimal("14.75")),
)
CARRIERS = "DHL Express", "顺丰速运", "UPS"
# Of all orders: no parcel yet; two parcels; cancelled, before its parcel or after; told only after all that followed.
NO_PARCEL, TWO_PARCELS, CANCELLED, LATE = 0.1, 0.1, 0.1, 0.05
TWICE = 0.05  # of all events: told again


class Told(NamedTuple):
    """An event as it is handed over: its kind, the ERP's own number of it, what it is about, and the data."""

    event: str
    id: str
    key: str
    data: dict[str, Any]

    def document(self) -> dict[str, Any]:
        return {"event": self.event, "id": self.id, "data": self.data}


def day(seed: int, part: int, parts: int) -> Iterator[Told]:
    """Without end: what one of several of the ERP's processes has to tell. The same seed tells the same, but for the
    time of day. Orders of different processes have different numbers."""
    chance = random.Random(f"{seed}/{part}")
    waiting: list[tuple[int, int, Told]] = []  # the order's turn in which it is told, and what came to be first
    made = count()
    for turn, number in enumerate(count(part + parts, parts)):
        for later, told in _story(number, chance):
            heappush(waiting, (turn + later, next(made), told))
            if chance.random() < TWICE:
                heappush(waiting, (turn + later + chance.randint(0, 5), next(made), told))
        while waiting and waiting[0][0] <= turn:
            yield heappop(waiting)[2]


def _story(number: int, chance: random.Random) -> Iterator[tuple[int, Told]]:
    """All that happens to one order, and how many orders later it is told."""
    order, customer = f"SO-{number:07}", f"C-{number:07}"
    person = _person(customer, number)
    if number % 4 == 0:
        yield 0, Told("customer.registered", f"{customer}/registered", customer, {"customer": person})
    last = 0
    if chance.random() >= NO_PARCEL:
        for parcel in range(1 + (chance.random() < TWO_PARCELS)):
            last = chance.randint(1, 10)
            yield last, _parcel(order, parcel, chance)
    if chance.random() < CANCELLED:
        last = max(last, cancelled := chance.randint(1, 10))
        yield cancelled, Told("order.cancelled", f"{order}/cancelled", order, {"order": {"id": order}})
    data = {"customer": person, "order": _order(order, chance)}
    yield last if chance.random() < LATE else 0, Told("order.created", f"{order}/created", order, data)


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
    lines = [(*each, chance.randint(1, 3)) for each in chance.sample(GOODS, chance.randint(1, len(GOODS)))]
    items = [
        {"sku": sku, "name": name, "quantity": quantity, "unit_price": str(price)}
        for sku, name, price, quantity in lines
    ]
    total = sum((price * quantity for _, _, price, quantity in lines), Decimal(0))
    placed = datetime.now(UTC).isoformat(timespec="seconds")
    return {"id": order, "placed_at": placed, "currency": "EUR", "items": items, "total": str(total)}


def _parcel(order: str, number: int, chance: random.Random) -> Told:
    shipment = {"carrier": chance.choice(CARRIERS), "tracking_number": f"TN{chance.randrange(10**12):012}"}
    data = {"order": {"id": order}, "shipment": shipment}
    return Told("order.shipped", f"{order}/shipped/{number + 1}", order, data)
