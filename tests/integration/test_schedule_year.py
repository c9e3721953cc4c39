"""A leap year of schedules on a real ledger, whose clock is the test's: three zones and their nights, 29 February, two
beats that get into each other's way, deaths at the worst moments, fifty downtimes. What should have happened is counted
without the code under test: by going through the days with the zones' clocks."""

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from dispatcher.adapters.attachments import Attachments
from dispatcher.adapters.sql import engine
from dispatcher.adapters.sql.database import Transaction
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.delivery import Actor
from dispatcher.dispatcher import Dispatcher
from dispatcher.memory import MemoryBlobs, MemoryJournals, MemoryLimiter
from dispatcher.policy import Policy
from dispatcher.schedule import Occurrence, OccurrenceState, ScheduleSpec
from dispatcher.template import TemplateVersion
from dispatcher.testing import MemoryQueue, MemoryTransport
from tests.sizes import sized

MAIL = {"to": ["li@example.com"], "subject": "S", "text": "T"}
HOUR, DAY = 3600.0, 86400.0
BEGIN = datetime(2028, 1, 1, tzinfo=UTC).timestamp()
END = datetime(2029, 1, 1, tzinfo=UTC).timestamp()
REST = sized(18, 1) * HOUR  # between two ticks of a beat, on average
DOWNTIMES = 50
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


class Killed(BaseException):
    """A process ends here."""


class House:
    """Two beats with workers on one ledger, whose clock stands still but for ``tick``."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path, self.now, self.random = path, BEGIN, random.Random(seed)
        self.beats = [self._beat(f"sqlite:///{path}") for _ in range(2)]
        self.complete: list[float] = []  # when somebody did all that was to be done
        self.deaths = Counter[str]()
        self._within = False

    def _beat(self, url: str) -> Dispatcher:
        ledger, blobs = SqlLedger(url), MemoryBlobs()
        made = Dispatcher(
            ledger=ledger, queue=MemoryQueue(), blobs=blobs, templates=lambda name: TemplateVersion(name, {}),
            attach=Attachments(blobs, (), 1 << 20), transports={"main": MemoryTransport("main")},
            journals=MemoryJournals(), limiter=MemoryLimiter(self.time), policy=Policy(sender="shop@example.com"),
            clock=self,
        )  # fmt: skip
        for owner, method in ((ledger.schedules, "note"), (ledger, "add"), (ledger.schedules, "done")):
            setattr(owner, method, self._risky(method, getattr(owner, method)))
        return made

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def _risky(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """The same, but that others come first now and then, and that its process may end before or after."""

        def call(*given: Any) -> Any:
            chance = self.random.random()
            if not self._within and chance < 0.10:
                self._within = True
                self.run(self.random.choice(self.beats))
                self._within = False
            self._die(0.10 <= chance < 0.13, f"before {name}")
            answer = real(*given)
            self._die(0.13 <= chance < 0.16, f"after {name}")
            return answer

        return call

    def _die(self, now: bool, where: str) -> None:
        if now and not self._within:
            self.deaths[where] += 1
            raise Killed

    def run(self, beat: Dispatcher) -> None:
        while beat.ledger.schedules.pending():
            beat.schedules.fire(lambda: False)
        self.complete.append(self.now)

    def tick(self, at: float) -> None:
        self.now = at
        try:
            self.run(self.random.choice(self.beats))
        except Killed:
            return

    def accepted(self) -> dict[str, float]:
        """When each submission was, by its key; every key once."""
        with sqlite3.connect(self._path) as connection:
            found = connection.execute("SELECT key, accepted_at FROM submissions").fetchall()
        connection.close()
        assert len(dict(found)) == len(found)
        return dict(found)

    def close(self) -> None:
        for beat in self.beats:
            beat.close()


def ticks(house: House) -> list[float]:
    """Of both beats, at random, but for the downtimes."""
    chance = house.random
    down = [(begin, begin + chance.choice((2, 12, 30, 80)) * HOUR) for begin in
            (chance.uniform(BEGIN, END - 4 * DAY) for _ in range(DOWNTIMES))]  # fmt: skip
    found = {END}
    for _ in house.beats:
        at = BEGIN
        while (at := at + chance.expovariate(1 / REST)) < END:
            if not any(begin <= at < end for begin, end in down):
                found.add(at)
    return sorted(found)


@pytest.fixture(params=SEEDS)
def house(
    request: pytest.FixtureRequest, sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    def configure(connection: sqlite3.Connection, record: Any) -> None:
        configured(connection, record)
        connection.execute("PRAGMA synchronous = OFF").close()  # nobody cuts the power here

    configured = engine._configure_sqlite
    monkeypatch.setattr(engine, "_configure_sqlite", configure)
    path = tmp_path / "ledger.db"
    shutil.copy(sqlite_template, path)
    made = House(path, request.param)
    monkeypatch.setattr(Transaction, "now", property(lambda _: made.now))
    yield made
    made.close()


def test_every_occurrence_of_a_year_is_there_once_and_accounted_for(
    house: House, record_property: Callable[[str, object], None]
) -> None:
    me = Actor("anna", "desk")
    for name, case in CASES.items():
        house.beats[0].schedules.add(name, case.spec, me)
    house.beats[0].schedules.add("every", EVERY, me)
    for at in ticks(house):
        house.tick(at)
    while house.complete[-1] < END:
        house.tick(END)

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
    assert not any(each.at <= at <= until - (until == following) for at in house.complete), (case.spec, each)
