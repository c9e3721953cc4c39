"""Cron lines by the clock of a zone. The library goes from one wall time to the next; which moments those are, also in
the nights in which clocks are changed, is decided here.

A line that says ``*`` for the hour runs whenever a clock there shows such a minute. Any other line runs each of its
times once a day: one that is skipped right after the jump, one that comes twice the first time.
"""

import heapq
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

from cronsim import CronSim, CronSimError

from dispatcher.errors import SubmissionError
from dispatcher.zones import zone

_NAMES = "minute", "hour", "day of the month", "month", "day of the week"
_FIELDS = len(_NAMES)
_ANY_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 - wall times have no zone
_LAST_YEAR = 9000  # the calendar ends a little later
_HINT = "write minute, hour, day of the month, month and day of the week: 30 9 * * mon-fri"


class Time(NamedTuple):
    """One time of a line: the moment, seconds since the epoch, and what the line says, without an offset."""

    at: float
    wall: datetime


@lru_cache(maxsize=1024)
def check(line: str, field: str = "cron") -> str:
    """A line that fires. Raises SubmissionError naming the field."""
    parts = line.split()
    if len(parts) != _FIELDS:
        raise SubmissionError(field, f"{line[:60]!r} has not five fields; {_HINT}")
    for number, part in enumerate(parts):
        alone = " ".join(part if number == n else "*" for n in range(_FIELDS))
        try:
            CronSim(alone, _ANY_DAY)
        except CronSimError:
            raise SubmissionError(field, f"{part[:60]!r} is no {_NAMES[number]}; {_HINT}") from None
    try:
        first = next(CronSim(line, _ANY_DAY), None)
    except CronSimError:
        first = None
    if first is None:
        raise SubmissionError(field, f"{line[:60]!r} never fires: there is no such day")
    return line


def times(line: str, zone_name: str, after: float) -> Iterator[Time]:
    """All times behind ``after``, each moment once, in order. Whatever ``after`` is, the same moment is found again.
    Raises ValueError for a zone that is none."""
    there = zone(zone_name)
    if line.split()[1] == "*":
        yield from _shown(line, there, after)
        return
    last = after
    for wall in _walls(line, _local(after, there)):
        at = _once(wall, there)
        if at > last:
            last = at
            yield Time(at, wall)


def _walls(line: str, after: datetime) -> Iterator[datetime]:
    """The wall times behind this one; there are none any more where the calendar ends."""
    found: Iterator[datetime] = CronSim(line, after)
    for wall in found:
        if wall.year >= _LAST_YEAR:
            return
        yield wall


def _local(at: float, there: tzinfo) -> datetime:
    return datetime.fromtimestamp(at, there).replace(tzinfo=None, fold=0)


def _once(wall: datetime, there: tzinfo) -> float:
    """When clocks show it first, or have jumped over it."""
    at = wall.replace(tzinfo=there).timestamp()
    return at if _local(at, there) == wall else _jump(wall, there)


def _jump(wall: datetime, there: tzinfo) -> float:
    """The first moment after clocks jumped over this time. With the offset of before it is after the jump, with the one
    of after it is before."""
    late = wall.replace(tzinfo=there, fold=0).timestamp()
    early = wall.replace(tzinfo=there, fold=1).timestamp()
    new = datetime.fromtimestamp(late, there).utcoffset()
    low, high = int(early), int(late)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if datetime.fromtimestamp(middle, there).utcoffset() == new else (middle, high)
    return float(high)


def _shown(line: str, there: tzinfo, after: float) -> Iterator[Time]:
    """All moments at which a clock shows such a time: none for one that is skipped, two for one that comes twice."""
    waiting: list[Time] = []
    for wall in _walls(line, _local(after, there) - _again(after, there)):
        early, late = (wall.replace(tzinfo=there, fold=fold).timestamp() for fold in (0, 1))
        for at in {early, late}:
            if at > after and _local(at, there) == wall:
                heapq.heappush(waiting, Time(at, wall))
        while waiting and waiting[0].at <= min(early, late):  # what follows is not before this one
            yield heapq.heappop(waiting)
    yield from sorted(waiting)


def _again(at: float, there: tzinfo) -> timedelta:
    """How much of the time before ``at`` comes once more."""
    local = datetime.fromtimestamp(at, there)
    first, second = local.utcoffset(), local.replace(fold=1).utcoffset()
    return max(timedelta(0), (first or timedelta(0)) - (second or timedelta(0)))


def moved(time: Time, zone_name: str) -> str:
    """What a change of clocks does to it, for people; empty, mostly."""
    local = datetime.fromtimestamp(time.at, zone(zone_name))
    if local.replace(tzinfo=None, fold=0) != time.wall:
        return f"clocks skip {time.wall:%H:%M} that night"
    if local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset():
        return f"{time.wall:%H:%M} comes twice that night; this is the {'second' if local.fold else 'first'}"
    return ""
