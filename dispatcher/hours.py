"""When a campaign's mail may go: hours of the day on days of the week, by the recipient's own clock."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from dispatcher.errors import SubmissionError
from dispatcher.zones import moment, wall

_DAYS = "mon", "tue", "wed", "thu", "fri", "sat", "sun"
_SPAN = re.compile(r"(?:(?P<days>[a-z,-]+)\s+)?(?P<begin>\d{1,2}:\d{2})\s*-\s*(?P<end>\d{1,2}:\d{2})", re.IGNORECASE)
_DAY_MINUTES = 24 * 60
_HINT = "write it as mon-fri 09:00-18:00; sat 10:00-14:00"


@dataclass(frozen=True, slots=True)
class Hours:
    """``spans``: day of the week (0: Monday), first and last minute of the day; a last one before the first is the next
    day's. Hashable, and the same text makes the same hours."""

    text: str
    spans: tuple[tuple[int, int, int], ...]

    @classmethod
    def parse(cls, text: str, field: str = "hours") -> "Hours":
        """Read ``mon-fri 09:00-18:00; sat 10:00-14:00``; without days, all of them. Raises SubmissionError."""
        spans: list[tuple[int, int, int]] = []
        for part in text.split(";"):
            found = _SPAN.fullmatch(part.strip())
            if found is None:
                raise SubmissionError(field, f"{part.strip()[:60]!r} are no hours; {_HINT}")
            begin, end = (_minute(found[name], field) for name in ("begin", "end"))
            if begin == end:
                raise SubmissionError(field, f"{part.strip()!r} is over when it begins; 00:00-24:00 is the whole day")
            spans += [(day, begin, end) for day in _days(found["days"], field)]
        return cls(text, tuple(sorted(spans)))

    def wait(self, now: float, zone: str) -> float:
        """Seconds until mail may go to somebody in this zone; 0: now."""
        return max(0.0, self.next(now, zone) - now)

    def next(self, now: float, zone: str) -> float:
        """The first moment from ``now`` on at which it may. Raises ValueError for a zone that is none."""
        return _next(self, now, zone)


@lru_cache(maxsize=4096)  # a chunk of recipients asks for a few zones, all at the same moment
def _next(hours: Hours, now: float, zone: str) -> float:
    today = wall(now, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    first = float("inf")
    for ahead in range(-1, 8):  # a span of yesterday may end today
        day = today + timedelta(days=ahead)
        for weekday, begin, end in hours.spans:
            if weekday != day.weekday():
                continue
            opens, closes = _at(day, begin, zone), _at(day, end + (_DAY_MINUTES if end < begin else 0), zone)
            if opens <= now < closes:
                return now
            if opens > now:
                first = min(first, opens)
        if first < float("inf"):
            break
    return first


def _at(day: datetime, minutes: int, zone: str) -> float:
    return moment(day + timedelta(minutes=minutes), zone)


def _minute(text: str, field: str) -> int:
    hour, minute = map(int, text.split(":"))
    found = hour * 60 + minute
    if minute >= 60 or found > _DAY_MINUTES:  # noqa: PLR2004 - minutes of an hour
        raise SubmissionError(field, f"{text!r} is no time of day")
    return found


def _days(text: str | None, field: str) -> list[int]:
    if text is None:
        return list(range(len(_DAYS)))
    found: list[int] = []
    for part in text.lower().split(","):
        first, dash, last = part.partition("-")
        for name in (first, last) if dash else (first,):
            if name not in _DAYS:
                raise SubmissionError(field, f"{name[:20]!r} is no day of the week; days are {', '.join(_DAYS)}")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        found += [day % len(_DAYS) for day in range(begin, end + 1 + (len(_DAYS) if end < begin else 0))]
    return sorted(set(found))
