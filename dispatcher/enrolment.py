"""One person in an automation, as a value: where they are, what has happened to them, and what an event does to it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

FORGOTTEN = "over its retention"  # the outcome of who was done so long ago that only the key is known


class EnrolmentState(enum.StrEnum):
    """``expected``: events of this key were seen, but not yet the one that takes somebody in."""

    EXPECTED = "expected"
    ACTIVE = "active"
    FINISHED = "finished"
    EXITED = "exited"
    FAILED = "failed"


class StepOutcome(enum.StrEnum):
    """What has become of a step. ``timed_out``: what it waited for did not come."""

    SENT = "sent"
    SUPPRESSED = "suppressed"
    SKIPPED = "skipped"
    TIMED_OUT = "timed_out"
    LATE = "late"
    FAILED = "failed"


class Passed(NamedTuple):
    """A step that somebody is past. ``planned_at``: when it was to be; ``detail``: its submission, or why there is
    none."""

    step: str
    planned_at: float
    at: float
    outcome: StepOutcome
    detail: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A key of an automation in the ledger. Times are seconds since the epoch, by its clock.

    ``step``: the one that is next (None: just taken in). Either it ``awaits`` an event, at most until ``planned_at``,
    or it is to be done at ``planned_at``. ``since``: from when its waiting counts. ``due_at``: when it is to be looked
    at; None: only when an event comes. ``seen``: when the events of this key came first, and what they brought.
    ``mail``: the last submission; ``busy``: it is still on its way. ``revision`` counts every change; ``read_at``: when
    the ledger was asked.
    """

    id: int
    automation: str
    automation_id: int
    version: int
    key: str
    state: EnrolmentState
    revision: int
    step: str | None
    awaits: str | None
    planned_at: float | None
    due_at: float | None
    since: float
    address: str
    data: Mapping[str, Any]
    seen: Mapping[str, Mapping[str, Any]]
    mail: str | None
    outcome: str
    entered_at: float | None
    changed_at: float
    busy: bool = field(default=False, compare=False)
    read_at: float = field(default=0.0, compare=False)

    @property
    def is_waiting(self) -> bool:
        """Whether something is to be done for them, now or later."""
        return self.state is EnrolmentState.ACTIVE and self.due_at is not None

    def is_due(self, now: float) -> bool:
        """Whether something is to be done for them now."""
        return self.is_waiting and (self.due_at or 0.0) <= now

    def brought(self, event: str) -> Mapping[str, Any]:
        """The data of an event that was seen and is waited for."""
        found: Mapping[str, Any] | None = self.seen[event]["data"]
        return found or {}

    def saw(self, event: str | None) -> bool:
        return event is not None and event in self.seen


class Entry(NamedTuple):
    """Somebody is taken in: by this ``version``, at this moment, with this data."""

    version: int
    at: float
    address: str
    data: Mapping[str, Any]


class Touch(NamedTuple):
    """What one event means for one key of an automation: it is ``noted`` (with what it brought, where a step waits for
    it), it may take somebody in (``entry``), and it ends the waiting for it; ``exits``: versions that end with it."""

    automation_id: int
    key: str
    event: str
    at: float
    noted: bool
    brings: Mapping[str, Any] | None
    entry: Entry | None
    exits: frozenset[int] = frozenset()


def blank(automation: str, automation_id: int, key: str, now: float, *, id: int = 0) -> Enrolment:  # noqa: A002 - the field's name
    """A key of which nothing is known yet."""
    return Enrolment(
        id=id, automation=automation, automation_id=automation_id, version=0, key=key, state=EnrolmentState.EXPECTED,
        revision=0, step=None, awaits=None, planned_at=None, due_at=None, since=now, address="", data={}, seen={},
        mail=None, outcome="", entered_at=None, changed_at=now,
    )  # fmt: skip


def revised(made: Enrolment, seen: Enrolment, now: float) -> Enrolment:
    """What replaces the one that was seen."""
    return replace(made, revision=seen.revision + 1, changed_at=now)


def touched(found: Enrolment, touch: Touch, now: float, held: float = 0.0) -> Enrolment:
    """The enrolment after an event. Whoever worked on it meanwhile sees another revision, and looks again. ``held``:
    for so many seconds whoever took the event in looks after it, and nobody else."""
    if found.outcome == FORGOTTEN:  # nothing new is kept of them
        return found
    made = replace(found, revision=found.revision + 1, changed_at=now)
    if touch.noted and touch.event not in found.seen:
        # By the ledger's clock, which may be behind the producer's: what has happened is never still to come.
        made = replace(made, seen={**found.seen, touch.event: {"at": min(touch.at, now), "data": touch.brings}})
    if touch.entry is not None and found.state is EnrolmentState.EXPECTED:
        made = entered(made, touch.entry._replace(at=min(touch.entry.at, now)), now)
        return replace(made, due_at=now + held)
    if found.state is EnrolmentState.ACTIVE and (found.awaits == touch.event or found.version in touch.exits):
        return replace(made, due_at=now + held)
    return made


def entered(found: Enrolment, entry: Entry, now: float) -> Enrolment:
    """Taken in: its first step is told when it is looked at, which is at once, or at the moment that it is for."""
    return replace(
        found, state=EnrolmentState.ACTIVE, version=entry.version, address=entry.address, data=entry.data,
        step=None, awaits=None, planned_at=None, since=entry.at, due_at=max(entry.at, now), entered_at=now,
    )  # fmt: skip
