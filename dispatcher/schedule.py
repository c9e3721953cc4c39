"""A schedule as a value: what is to happen when, what has become of it, and the rules for what is behind time.

An *occurrence* is one moment of a schedule. It stands in the ledger once, as ``due`` until it has fired.
"""

import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dispatcher import cron
from dispatcher.cron import Time
from dispatcher.duration import seconds
from dispatcher.errors import SubmissionError
from dispatcher.zones import moment, wall, zone

LATE_SECONDS = 86400.0
SKIP_SECONDS = 300.0  # what is over by so much was missed; less is a worker that was busy
_LEAST_EVERY = 1.0
_LONGEST = 3660 * 86400.0
_YEARS = 1970, 2999
_TEXTS = "cron", "every", "zone", "catch_up", "late", "start", "end"
_OBJECTS = "submission", "campaign", "report"


class CatchUp(enum.StrEnum):
    """What happens about occurrences of a time in which nobody looked."""

    ALL = "all"
    LATEST = "latest"
    SKIP = "skip"


class OccurrenceState(enum.StrEnum):
    """What has become of an occurrence. ``late``: nobody could fire it in time; ``skipped``: it was not to be caught up
    with; ``failed``: it cannot be done, and the outcome says why."""

    DUE = "due"
    FIRED = "fired"
    LATE = "late"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What a person asks for.

    When: a ``cron`` line by the clock of ``zone``, or ``every`` so long (``90s``, ``2h``, ``7d``), counted from
    ``start``, else from when it was made; between ``start`` and ``end``, ISO 8601, by the clock of ``zone`` without an
    offset. What: the JSON of a ``submission``, of a ``campaign`` as ``CampaignSpec`` has it, or of a ``report`` as
    ``RecurringReports`` has it; ``with_occurrence`` gives its data ``schedule.name`` and ``schedule.at``. After a time
    in which nobody looked: ``catch_up``, and nothing that is ``late`` by more than so long.
    """

    cron: str | None = None
    every: str | None = None
    zone: str = "UTC"
    catch_up: str = CatchUp.LATEST.value
    late: str | None = None
    start: str | None = None
    end: str | None = None
    submission: Mapping[str, Any] | None = None
    campaign: Mapping[str, Any] | None = None
    report: Mapping[str, Any] | None = None
    with_occurrence: bool = False

    def document(self) -> dict[str, Any]:
        """As JSON, without what was left alone."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if value not in (None, False)}

    @classmethod
    def kept(cls, document: Mapping[str, Any]) -> "ScheduleSpec":
        """As it was kept: what was right then may be wrong now, such as a zone that this machine does not know."""
        return cls(**{f.name: document[f.name] for f in fields(cls) if f.name in document})

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "ScheduleSpec":
        """Read what ``document`` wrote. Raises SubmissionError naming the field."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(document.keys() - known):
            raise SubmissionError(unknown[0], f"unknown field; known are {', '.join(sorted(known))}")
        for name, value in document.items():
            _check_kind(name, value)
        made = cls(**document)
        made.check()
        return made

    def check(self) -> None:
        """Refuse what can be seen to be wrong without the ledger or a template. Raises SubmissionError."""
        if (self.cron is None) == (self.every is None):
            raise SubmissionError("cron", "give either a cron line or every, such as 2h")
        if sum(job is not None for job in (self.submission, self.campaign, self.report)) != 1:
            raise SubmissionError("submission", "give either a submission, a campaign or a report")
        try:
            zone(self.zone)
        except ValueError as error:
            raise SubmissionError("zone", str(error)) from None
        if self.cron is not None:
            cron.check(self.cron)
        if self.every is not None and _duration("every", self.every) < _LEAST_EVERY:
            raise SubmissionError("every", f"{self.every!r} is less than a second")
        if self.catch_up not in tuple(CatchUp):
            raise SubmissionError("catch_up", f"{self.catch_up!r} is none of {', '.join(CatchUp)}")
        if self.late is not None:
            _duration("late", self.late)
        start, end = self.begins, self.ends
        if start is not None and end is not None and end < start:
            raise SubmissionError("end", "is before start")

    @property
    def late_seconds(self) -> float:
        """After so long an occurrence is not fired any more."""
        if self.late is not None:
            return _duration("late", self.late)
        return SKIP_SECONDS if self.catch_up == CatchUp.SKIP else LATE_SECONDS

    @property
    def begins(self) -> float | None:
        """Seconds since the epoch."""
        return None if self.start is None else _moment("start", self.start, self.zone)

    @property
    def ends(self) -> float | None:
        """Seconds since the epoch; at this moment one may still be."""
        return None if self.end is None else _moment("end", self.end, self.zone)

    def times(self, made_at: float, after: float) -> Iterator[Time]:
        """All that are behind ``after``, in order, of a schedule that was made then. Whatever ``after`` is, the same
        moments are found again. Each is a whole second."""
        begins, ends = self.begins, self.ends
        found = self._cron_times(after, begins) if self.cron is not None else self._every_times(made_at, after, begins)
        for time in found:
            if ends is not None and time.at > ends:
                return
            yield time

    def _cron_times(self, after: float, begins: float | None) -> Iterator[Time]:
        if begins is None or begins <= after:
            yield from cron.times(self.cron or "", self.zone, after)
            return
        for time in cron.times(self.cron or "", self.zone, begins - 1.0):
            if time.at >= begins:
                yield time

    def _every_times(self, made_at: float, after: float, begins: float | None) -> Iterator[Time]:
        step = _duration("every", self.every or "")
        base, first = (math.ceil(made_at), 1) if begins is None else (math.ceil(begins), 0)
        number = max(first, math.floor((after - base) / step))
        while True:
            at = base + number * step
            number += 1
            if at > after:
                yield Time(at, wall(at, self.zone))


def _check_kind(name: str, value: Any) -> None:
    if name in _OBJECTS:
        fits, what = isinstance(value, Mapping), "an object"
    elif name in _TEXTS:
        fits, what = isinstance(value, str), "a text"
    else:
        fits, what = isinstance(value, bool), "true or false"
    if not fits:
        raise SubmissionError(name, f"must be {what}")


def _duration(name: str, text: str) -> float:
    """Whole seconds."""
    try:
        found = seconds(text)
    except ValueError as error:
        raise SubmissionError(name, str(error)) from None
    if found > _LONGEST:
        raise SubmissionError(name, f"{text!r} is more than ten years")
    return float(math.floor(found))


def _moment(name: str, text: str, zone_name: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SubmissionError(name, f"{text[:60]!r} is no ISO 8601 time such as 2026-12-01T09:00") from None
    if not _YEARS[0] < found.year < _YEARS[1]:
        raise SubmissionError(name, f"{text!r} is out of range: {_YEARS[0]} to {_YEARS[1]}")
    return moment(found, zone_name) if found.tzinfo is None else found.timestamp()


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as the ledger has it. Times are seconds since the epoch, by the ledger's clock.

    Its occurrences up to ``seen_until`` stand in the ledger; the next one is at ``next_at``, if there is any.
    ``reason`` says why it is paused. ``read_at``: when the ledger was asked.
    """

    id: int
    name: str
    spec: ScheduleSpec
    paused: bool
    reason: str
    seen_until: float
    next_at: float | None
    created_at: float
    changed_at: float
    actor: str
    read_at: float = field(default=0.0, compare=False)

    @property
    def ripe(self) -> bool:
        """Whether occurrences have come up that do not stand in the ledger yet."""
        return self.next_at is not None and self.next_at <= self.read_at

    def times(self, after: float) -> Iterator[Time]:
        """Those behind ``after``."""
        return self.spec.times(self.created_at, after)


class Occurrence(NamedTuple):
    """One moment of a schedule: ``outcome`` names what came of it, or says why nothing did."""

    at: float
    state: OccurrenceState
    by_hand: bool
    outcome: str
    changed_at: float


class Due(NamedTuple):
    """An occurrence that is to be fired; ``newest``: no later one of its schedule has come up."""

    schedule: Schedule
    at: float
    by_hand: bool
    newest: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How all schedules stand at ``read_at``, by the ledger's clock.

    ``due``: how many occurrences wait to be fired, the oldest since ``due_since``; of a schedule whose times have come
    up and were not looked at yet one is counted. Of one that is paused only what was asked for by hand is due.
    ``failed``: how many did lately, the last one as the schedule's name and why. ``over``: names of those without a
    next time.
    """

    count: int
    paused: int
    due: int
    due_since: float | None
    failed: int
    last_failed: tuple[str, str] | None
    over: tuple[str, ...]
    read_at: float


class Noted(NamedTuple):
    """What has come up of a schedule ``upto`` a moment, and when the next one is."""

    upto: float
    found: tuple[tuple[float, OccurrenceState], ...]
    next_at: float | None


def first_after(spec: ScheduleSpec, made_at: float, after: float) -> float | None:
    """When the first one is behind ``after``."""
    return next((time.at for time in spec.times(made_at, after)), None)


def come_up(schedule: Schedule, limit: int) -> Noted:
    """What has come up since it was looked at, up to so many."""
    now, found, following = schedule.read_at, list[float](), None
    for time in schedule.times(schedule.seen_until):
        if time.at > now or len(found) == limit:
            following = time.at
            break
        found.append(time.at)
    complete = following is None or following > now
    upto = max(now, schedule.seen_until) if complete else found[-1]
    states = [verdict(schedule.spec, now - at, newest=complete and at == found[-1]) for at in found]
    return Noted(upto, tuple(zip(found, states, strict=True)), following)


def verdict(spec: ScheduleSpec, age: float, *, newest: bool) -> OccurrenceState:
    """What becomes of an occurrence that is so many seconds behind: due, or what it ends as."""
    if spec.catch_up == CatchUp.SKIP:
        return OccurrenceState.SKIPPED if age > spec.late_seconds else OccurrenceState.DUE
    if spec.catch_up == CatchUp.LATEST and not newest:
        return OccurrenceState.SKIPPED
    return OccurrenceState.LATE if age > spec.late_seconds else OccurrenceState.DUE


def key_of(due: Due) -> str:
    """The idempotency key of a submission: by it an occurrence has one, whoever fires it how often."""
    return f"schedule/{due.schedule.name}/{datetime.fromtimestamp(due.at, UTC).isoformat()}"


def job_name(due: Due) -> str:
    """``news-2026-12-01T0900``, by the schedule's clock; of a time that comes twice the second says its offset."""
    local = datetime.fromtimestamp(due.at, zone(due.schedule.spec.zone))
    form = "%Y-%m-%dT%H%M" + ("%S" if local.second or due.by_hand else "") + ("%z" if local.fold else "")
    return f"{due.schedule.name}-{local.strftime(form)}"


def job(spec: ScheduleSpec, name: str, at: float) -> dict[str, Any]:
    """The JSON of the submission, campaign or report of one occurrence."""
    found = dict(next(given for given in (spec.submission, spec.campaign, spec.report, {}) if given is not None))
    if spec.with_occurrence:
        local = datetime.fromtimestamp(at, zone(spec.zone))
        mine = {"name": name, "at": local.isoformat(timespec="seconds")}
        found["data"] = {**(found.get("data") or {}), "schedule": mine}
    return found
