"""What a simulation says is what happens: the same events, the same automations, on a real ledger with workers that
look now and then, line by line."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.folder import TemplateFolder, shipped
from dispatcher.adapters.yaml import read
from dispatcher.audience import Column, Kind, Member
from dispatcher.delivery import Actor, Lane
from dispatcher.emitted import Event
from dispatcher.simulation import Simulation
from dispatcher.suppression import MARKETING, Reason, Suppression
from tests.servers import Postgres
from tests.sizes import sized
from tests.year import BEGIN, DAY, POLICY, House, careless, copied, stands_still

PEOPLE, DAYS = sized((24, 45), (1000, 60))
ZONES = "Asia/Shanghai", "America/New_York", "Europe/Berlin", "Nowhere/At all"
SAMPLES = Path(__file__).parents[2] / "dispatcher" / "samples"
ME = Actor("anna", "desk")
pytestmark = pytest.mark.timeout(sized(120, 1800))


def happening(chance: random.Random) -> Iterator[tuple[float, Event]]:
    """Two months of a shop: some register and order, some orders are cancelled, parcels may be told before orders, and
    some things are told twice."""

    def told(at: float, name: str, own: str, data: dict[str, Any]) -> Iterator[tuple[float, Event]]:
        made = Event(name, data, own, datetime.fromtimestamp(at, UTC).isoformat())
        for _ in range(2 if chance.random() < 0.1 else 1):
            yield made.moment(0.0), made

    for n in range(PEOPLE):
        at = BEGIN + chance.uniform(0, 30) * DAY
        customer = {"id": n, "email": f"c{n}@example.com", "name": f"N {n}", "zone": ZONES[n % 4], "locale": "zh-CN"}
        yield from told(at, "customer.registered", f"r{n}", {"customer": customer})
        if chance.random() < 0.1:
            yield from told(at + chance.uniform(0, 9) * DAY, "customer.left", f"l{n}", {"customer": {"id": n}})
        if chance.random() < 0.6:
            ordered = at + chance.uniform(0, 12) * DAY
            item = {"sku": 1, "name": "I", "quantity": 1, "unit_price": 2}
            placed = {"placed_at": "2028-01-01", "currency": "EUR", "items": [item], "total": 2}
            order = {"id": f"SO-{n}", **placed}
            yield from told(ordered, "order.created", f"o{n}", {"customer": customer, "order": order})
            later = ordered + chance.uniform(-0.1, 3) * DAY
            if chance.random() < 0.8:
                parcel = {"order": {"id": f"SO-{n}"}, "shipment": {"carrier": "C", "tracking_number": n}}
                yield from told(later, "order.shipped", f"s{n}", parcel)
            else:
                yield from told(later, "order.cancelled", f"x{n}", {"order": {"id": f"SO-{n}"}})


def look(beat: Any) -> None:
    while beat.ledger.automations.pending():
        beat.automations.run(lambda: False)
        for lane in Lane:
            while beat.deliver(lane):
                pass


@pytest.fixture(params=sized(["sqlite"], ["sqlite", "postgres"]))
def house(
    request: pytest.FixtureRequest, sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    careless(monkeypatch)
    if request.param == "sqlite":
        url = copied(sqlite_template, tmp_path / "ledger.db")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create(request.getfixturevalue("postgres_template"))
    made = House(url, 1, look, templates=TemplateFolder(shipped()).load)
    stands_still(monkeypatch, made)
    yield made
    made.close()


def documents() -> list[Any]:
    names = "events.yaml", "welcome.yaml", "order_flow.yaml", "birthday.yaml"
    return [each.value for name in names for each in read((SAMPLES / name).read_text(), name)]


def test_a_simulation_and_what_happens_agree_line_by_line(house: House) -> None:
    beat, chance = house.beats[0], random.Random(5)
    columns = [Column("email", Kind.ADDRESS, ""), Column("name", Kind.TEXT, ""), Column("birthday", Kind.DATE, "")]
    version = beat.ledger.audiences.begin("customers", "c.csv", columns, ME)
    days = (datetime(1990, 1, 1) + timedelta(days=n % 365) for n in range(PEOPLE))  # noqa: DTZ001 - a birthday has no zone
    rows = [
        Member(n, f"b{n}@example.com", f"b{n}@example.com", {"name": f"B{n}", "birthday": day.date().isoformat()})
        for n, day in enumerate(days)
    ]
    beat.ledger.audiences.add(version.id, rows, [])
    beat.ledger.audiences.ready(version.id, ME)
    beat.ledger.suppressions.add([Suppression(f"c{n}@example.com", MARKETING, Reason.UNSUBSCRIBE) for n in (3, 8)], ME)

    events = sorted(happening(chance), key=lambda each: each[0])
    simulation = Simulation(beat.ledger, TemplateFolder(shipped()).load, POLICY, BEGIN)
    simulation.load(documents())
    assert simulation.run(events, BEGIN + DAYS * DAY) == []

    beat.automations.load(documents(), ME)
    waiting, end = list(events), BEGIN + DAYS * DAY
    while house.now < end:
        due = (beat.ledger.automations.next_at() or end) + chance.uniform(0, 5)  # somebody looks, some seconds later
        if waiting and waiting[0][0] <= due:
            house.now, event = waiting.pop(0)
            beat.emit(event)
        else:
            house.now = max(house.now, min(due, end))
        look(chance.choice(house.beats))

    said = simulation.lines()
    for name in ("welcome", "order_flow", "birthday"):
        assert list(beat.automations.lines(name)) == [line for line in said if line.automation == name]
    assert {line.outcome for line in said} == {"sent", "skipped", "suppressed"}
    assert len(said) > 3 * PEOPLE
