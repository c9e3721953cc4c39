"""Days that come round: whose birthday it is, and which day is so many before somebody's contract ends."""

import calendar
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

from dispatcher.automation import DateTrigger
from dispatcher.zones import EARLIEST, LATEST, moment, wall

_LEAP = 2, 29


class Person(NamedTuple):
    """A member of an audience: its normal address, as it stands in To, and its attributes."""

    address: str
    shown: str
    attributes: Mapping[str, Any]


class Day(NamedTuple):
    """A member whose day it is. ``key``: of the enrolment, the same whenever it is asked for."""

    key: str
    at: float
    address: str
    attributes: Mapping[str, Any]


def scanned_at(day: date, trigger: DateTrigger) -> float:
    """When it is to be seen whose day it is: before it can be that time of this day anywhere."""
    return moment(datetime.combine(day, _time(trigger)) - EARLIEST, "UTC")


def over_at(day: date, trigger: DateTrigger) -> float:
    """When it has been that time of this day everywhere."""
    return moment(datetime.combine(day, _time(trigger)) + LATEST, "UTC")


def first_day(trigger: DateTrigger, now: float) -> date:
    """The first day that is not over everywhere."""
    day = wall(now, "UTC").date() - timedelta(days=2)
    while over_at(day, trigger) < now:
        day += timedelta(days=1)
    return day


def celebrating(
    people: Iterable[Person], day: date, trigger: DateTrigger, clock: Callable[[Mapping[str, Any]], str]
) -> Iterator[Day]:
    """Those whose day it is; ``clock`` answers the zone of who has these attributes."""
    for person in people:
        value = person.attributes.get(trigger.attribute)
        if not isinstance(value, str) or (target := _target(value, day, trigger)) is None:
            continue
        at = moment(datetime.combine(day, _time(trigger)), clock(person.attributes))
        yield Day(f"{person.address}/{target}", at, person.shown, person.attributes)


def _target(value: str, day: date, trigger: DateTrigger) -> str | None:
    """What comes that many days after ``day``: a year's anniversary, or the date itself; None for neither."""
    try:
        held, wanted = date.fromisoformat(value[:10]), day + timedelta(days=trigger.before)
    except ValueError:  # the column was none of dates when this was imported
        return None
    if trigger.each == "once":
        return held.isoformat() if held == wanted else None
    if wanted.year < held.year or not _falls_on(held, wanted, trigger.february_29):
        return None
    return str(wanted.year)


def _falls_on(held: date, wanted: date, february_29: str) -> bool:
    if (held.month, held.day) == _LEAP and not calendar.isleap(wanted.year):
        return wanted.strftime("%m-%d") == february_29
    return (held.month, held.day) == (wanted.month, wanted.day)


def _time(trigger: DateTrigger) -> time:
    return time.fromisoformat(trigger.at)
