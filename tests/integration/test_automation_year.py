"""A leap year of birthdays and of a welcome series on real ledgers, whose clock is the test's: three zones and their
nights, 29 February, two beats that get into each other's way, deaths at the worst moments, fifty downtimes. What should
have happened is counted without the code under test: by the zones' clocks."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from dispatcher.audience import Column, Kind, Member
from dispatcher.delivery import Actor, Lane
from dispatcher.dispatcher import Dispatcher
from dispatcher.emitted import Event
from dispatcher.enrolment import EnrolmentState, StepOutcome
from tests.flows import KINDS, automation
from tests.servers import Postgres
from tests.sizes import sized
from tests.year import BEGIN, DAY, END, HOUR, House, Killed, careless, copied, stands_still

PEOPLE = sized(240, 10_000)
REST = sized(8, 1) * HOUR  # between two ticks of a beat, on average
LATE = 12 * HOUR
ZONES = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
ME = Actor("anna", "desk")
pytestmark = pytest.mark.timeout(sized(300, 3600))


class Person(NamedTuple):
    n: int
    born: str
    zone: str

    @property
    def address(self) -> str:
        return f"p{self.n}@example.com"


def at_nine(day: datetime, zone: str) -> float:
    return datetime.combine(day.date(), time(9), ZoneInfo(zone)).timestamp()


def rest(house: House) -> float:
    """PostgreSQL takes longer for as much."""
    return REST * (sized(3, 1) if house.url.startswith("postgresql") else 1)


def everybody(house: House) -> list[Person]:
    """One in fifty was born on 29 February."""
    found = []
    for n in range(PEOPLE):
        day = "1992-02-29" if n % 50 == 0 else f"19{50 + n % 50}-{1 + n % 12:02d}-{1 + house.random.randrange(28):02d}"
        found.append(Person(n, day, ZONES[n % 3]))
    return found


def work(beat: Dispatcher) -> None:
    while beat.ledger.automations.pending():
        beat.automations.run(lambda: False)
        beat.deliver(Lane.TRANSACTIONAL)


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
    made = House(url, 7, work, (("automations", "enrol"), ("automations", "moved")))
    stands_still(monkeypatch, made)
    yield made
    made.close()


def test_every_birthday_of_a_year_is_there_once_or_accounted_for_by_name(
    house: House, record_property: Callable[[str, object], None]
) -> None:
    people, beat = everybody(house), house.beats[0]
    columns = [Column("email", Kind.ADDRESS, "email"), Column("born", Kind.DATE, "born"), Column("tz", Kind.ZONE, "tz")]
    version = beat.ledger.audiences.begin("people", "people.csv", columns, ME)
    rows = [Member(each.n + 2, each.address, each.address, {"born": each.born, "tz": each.zone}) for each in people]
    beat.ledger.audiences.add(version.id, rows, [])
    beat.ledger.audiences.ready(version.id, ME)
    document = automation({"step": "greeting"}, trigger={"date": "born", "audience": "people"})
    beat.automations.load([{name: value for name, value in document.items() if name not in ("key", "person")}], ME)

    house.live(rest(house))

    accepted, found = house.accepted(), {}
    for step in beat.automations.steps("welcome"):
        assert step.key not in found
        found[step.key] = step
    sent = 0
    for person in people:
        wanted = at_nine(datetime.fromisoformat(f"2028{person.born[4:]}"), person.zone)
        if wanted < BEGIN:
            continue
        step = found.pop(f"{person.address}/2028")
        assert (step.address, step.passed.planned_at) == (person.address, wanted)
        enrolled = beat.automations.enrolled("welcome", step.key)
        assert enrolled.state is EnrolmentState.FINISHED
        moment = accepted.get(f"automation/welcome/{enrolled.id}/greeting")
        assert (step.passed.outcome is StepOutcome.SENT) == (moment is not None)
        if moment is not None:
            sent += 1
            assert wanted <= moment <= wanted + LATE
        else:
            assert step.passed.outcome is StepOutcome.LATE
            assert house.nobody_could(wanted, wanted + LATE)
    assert all(step.key.endswith("/2029") for step in found.values())  # the new year has begun in the east
    assert sent == len(accepted) - sum(step.passed.outcome is StepOutcome.SENT for step in found.values())
    assert min(house.deaths[f"{when} {what}"] for when in ("before", "after") for what in ("enrol", "moved")) > 0
    record_property("people", len(people))
    record_property("sent", sent)
    record_property("late", len(people) - sent)
    record_property("deaths", dict(house.deaths))


def test_every_step_of_a_years_series_is_at_nine_of_their_clock_and_once(house: House) -> None:
    beat = house.beats[0]
    later = ({"step": name, "after": after, "at": "09:00"} for name, after in (("tips", "3d"), ("offer", "7d")))
    beat.automations.load([*KINDS, automation({"step": "hello"}, *later)], ME)
    registered: dict[str, tuple[float, str]] = {}
    ticks = sorted(house.random.uniform(BEGIN, END - 15 * DAY) for _ in range(PEOPLE // 4))
    live = house.tick

    def tick(at: float) -> None:
        """Whoever registers does so between two ticks."""
        while ticks and ticks[0] <= at:
            n, zone = len(registered), ZONES[len(registered) % 3]
            house.now = ticks.pop(0)
            data = {"customer": {"id": n, "email": f"c{n}@example.com", "zone": zone}}
            with suppress(Killed):  # the event is there then, and others look after it
                beat.emit(Event("registered", data, str(n)))
            registered[str(n)] = house.now, zone
        live(at)

    house.tick = tick  # type: ignore[method-assign]
    house.live(rest(house))

    accepted = house.accepted()
    assert len(accepted) == 3 * len(registered)
    for key, (begin, zone) in registered.items():
        found = [step.passed for step in beat.automations.steps("welcome", key)]
        assert [each.step for each in found] == ["hello", "tips", "offer"]
        assert {each.outcome for each in found} == {StepOutcome.SENT}
        base = begin
        for each, days in zip(found, (None, 3, 7), strict=True):
            wanted = (
                base
                if days is None
                else at_nine(datetime.fromtimestamp(base, ZoneInfo(zone)) + timedelta(days=days), zone)
            )
            assert each.planned_at == pytest.approx(wanted, abs=0.001), (key, each)
            assert each.at >= each.planned_at
            base = each.planned_at if each.at - each.planned_at <= HOUR else each.at
