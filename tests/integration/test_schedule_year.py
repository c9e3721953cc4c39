"""A leap year of schedules on a real ledger, whose clock is the test's: three zones and their nights, 29 February, two
beats that get into each other's way, deaths at the worst moments, fifty downtimes. What should have happened is counted
without the code under test: by going through the days with the zones' clocks."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from dispatcher.delivery import Actor
from dispatcher.dispatcher import Dispatcher
from dispatcher.schedule import Occurrence, OccurrenceState, ScheduleSpec
from tests.sizes import sized
from tests.year import BEGIN, DAY, END, HOUR, House, careless, copied, stands_still

MAIL = {"to": ["li@example.com"], "subject": "S", "text": "T"}
REST = sized(18, 1) * HOUR  # between two ticks of a beat, on average
SEEDS = sized((1,), tuple(range(1, 9)))
pytestmark = pytest.mark.timeout(sized(120, 3600))

SOME, MONTHS = sized(("3,4,10,11", (3, 4, 10, 11)), ("*", tuple(range(1, 13))))  # all year takes minutes

Fits = Callable[[datetime], bool]


class Case(NamedTuple):
    """A schedule, and the same said otherwise: the times of a day that fit, by its clock."""

    spec: ScheduleSpec
    fits: Fits
    late: float = DAY
    every_hour: bool = False


def daily(hour: int, minute: int, days: Fits = lambda _: True) -> Fits:
    return lambda wall: (wall.hour, wall.minute) == (hour, minute) and days(wall)


def made(cron: str, zone: str, catch_up: str = "all", **more: Any) -> ScheduleSpec:
    return ScheduleSpec(cron=cron, zone=zone, catch_up=catch_up, submission=MAIL, **more)


def last_day(wall: datetime) -> bool:
    return (wall + timedelta(days=1)).day == 1


def leap_day(wall: datetime) -> bool:
    return (wall.month, wall.day) == (2, 29)


def some(wall: datetime) -> bool:
    return wall.month in MONTHS


def change_week(wall: datetime) -> bool:
    return wall.minute == 30 and wall.month in (3, 10) and wall.day >= 25


def sundays(wall: datetime) -> bool:
    return wall.minute == 0 and wall.hour % 6 == 0 and wall.weekday() == 6


CASES = {
    "berlin": Case(made("30 2 * * *", "Europe/Berlin"), daily(2, 30)),
    "new york": Case(made(f"30 1 * {SOME} *", "America/New_York"), daily(1, 30, some)),
    "skipped": Case(made(f"15 2 * {SOME} *", "America/New_York", "latest"), daily(2, 15, some)),
    "lord howe": Case(made(f"45 1 * {SOME} *", "Australia/Lord_Howe", late="5d"), daily(1, 45, some), 5 * DAY),
    "half an hour": Case(made(f"15 2 * {SOME} *", "Australia/Lord_Howe", late="20h"), daily(2, 15, some), 20 * HOUR),
    "leap": Case(made("0 9 29 2 *", "America/New_York", late="9d"), daily(9, 0, leap_day), 9 * DAY),
    "month": Case(made("0 18 l * *", "Europe/Berlin", "latest", late="9d"), daily(18, 0, last_day), 9 * DAY),
    "monday": Case(made("0 8 * * mon", "Asia/Shanghai", "latest"), daily(8, 0, lambda wall: wall.weekday() == 0)),
    "hourly": Case(made("30 * 25-31 3,10 *", "Europe/Berlin"), change_week, every_hour=True),
    "skips": Case(made("0 */6 * * sun", "Australia/Lord_Howe", "skip", late="9h"), sundays, 9 * HOUR),
}
EVERY = ScheduleSpec(every="31h", zone="Europe/Berlin", catch_up="all", submission=MAIL)


@cache
def clock(zone: str) -> list[tuple[datetime, list[float]]]:
    """Every quarter of an hour of the year as a clock there may show it, with the moments at which it does."""
    there, found = ZoneInfo(zone), []
    wall = datetime(2027, 12, 31)  # noqa: DTZ001 - wall times have no zone
    while wall.year < 2029 or wall.day < 2:
        moments = {wall.replace(tzinfo=there, fold=fold).timestamp() for fold in (0, 1)}
        real = [at for at in moments if datetime.fromtimestamp(at, there).replace(tzinfo=None) == wall]
        found.append((wall, sorted(real)))
        wall += timedelta(minutes=15)
    return found


def expected(case: Case) -> list[float]:
    """All moments of the year."""
    found, jumped = set[float](), False
    for wall, real in clock(case.spec.zone):
        if jumped and real:
            found.add(real[0])
        jumped = not real and (jumped or (case.fits(wall) and not case.every_hour))
        if real and case.fits(wall):
            found.update(real if case.every_hour else real[:1])
    return sorted(at for at in found if BEGIN < at <= END)


def work(beat: Dispatcher) -> None:
    while beat.ledger.schedules.pending():
        beat.schedules.fire(lambda: False)


@pytest.fixture(params=SEEDS)
def house(
    request: pytest.FixtureRequest, sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    careless(monkeypatch)
    url = copied(sqlite_template, tmp_path / "ledger.db")
    made = House(url, request.param, work, (("schedules", "note"), ("", "add"), ("schedules", "done")))
    stands_still(monkeypatch, made)
    yield made
    made.close()


def test_every_occurrence_of_a_year_is_there_once_and_accounted_for(
    house: House, record_property: Callable[[str, object], None]
) -> None:
    me = Actor("anna", "desk")
    for name, case in CASES.items():
        house.beats[0].schedules.add(name, case.spec, me)
    house.beats[0].schedules.add("every", EVERY, me)
    house.live(REST)
    ledger, accepted = house.beats[0].ledger, house.accepted()
    fired = 0
    for name, case in CASES.items():
        history = ledger.schedules.history(name, 10_000)[::-1]
        assert [each.at for each in history] == expected(case), name
        for each, following in zip(history, [*(h.at for h in history[1:]), END + 1], strict=True):
            key = f"schedule/{name}/{datetime.fromtimestamp(each.at, UTC).isoformat()}"
            assert (each.state is OccurrenceState.FIRED) == (key in accepted), (name, each)
            if key in accepted:
                fired += 1
                assert each.at <= accepted[key] <= each.at + case.late, (name, each)
            else:
                account_for(house, case, each, following)
    every = ledger.schedules.history("every", 10_000)[::-1]
    assert [each.at for each in every] == [BEGIN + n * 31 * HOUR for n in range(1, len(every) + 1)]
    assert END - every[-1].at < 31 * HOUR
    fired += sum(each.state is OccurrenceState.FIRED for each in every)
    assert fired == len(accepted)
    assert min(house.deaths[f"{when} {what}"] for when in ("before", "after") for what in ("note", "add", "done")) > 0
    record_property("fired", fired)
    record_property("deaths", dict(house.deaths))


def account_for(house: House, case: Case, each: Occurrence, following: float) -> None:
    """Nobody could have fired it in time: there was no tick that came to its end while it was wanted."""
    assert each.state in (OccurrenceState.LATE, OccurrenceState.SKIPPED), each
    until = each.at + case.late
    if case.spec.catch_up == "latest" and each.state is OccurrenceState.SKIPPED:
        until = following
    assert house.nobody_could(each.at, until - (until == following)), (case.spec, each)
