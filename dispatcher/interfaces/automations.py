"""What keeps automations: their versions, the events that came, and who is where."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from dispatcher.automation import Automation, Inside, Scan
from dispatcher.delivery import Actor
from dispatcher.emitted import EventReceipt
from dispatcher.enrolment import Enrolment, EnrolmentState, Entry, Passed, Touch
from dispatcher.errors import EventConflict, IdempotencyConflict
from dispatcher.flow import Move
from dispatcher.mail import Accepted, Receipt


class EventRow(NamedTuple):
    """An event as it is kept. ``at``: when it happened; ``id``: the producer's."""

    name: str
    id: str
    producer: str
    at: float
    received_at: float
    data: Mapping[str, Any]
    fingerprint: str


class Step(NamedTuple):
    """A line of what has become of people: whose it was, and the step."""

    key: str
    address: str
    passed: Passed


class Loaded(NamedTuple):
    """Automations by name, their versions as ``documents`` has them, and the kinds of events."""

    automations: Sequence[Automation]
    documents: Mapping[tuple[int, int], Mapping[str, Any]]
    event_types: Mapping[str, Mapping[str, Any]]


def receipt_of(row: EventRow, changes: Sequence[tuple[Enrolment, Enrolment]], now: float, held: float) -> EventReceipt:
    """Of an event that is new, and what it did to whom: before and after."""
    inside = EnrolmentState.EXPECTED, EnrolmentState.ACTIVE
    enrolled = [f"{made.automation}/{made.key}" for before, made in changes if (before.state, made.state) == inside]
    due = [made for _, made in changes if made.is_due(now) or (made.is_waiting and made.due_at == now + held)]
    return EventReceipt(row.id, row.name, duplicate=False, enrolled=tuple(enrolled), due=tuple(due))


class Automations(Protocol):
    """Automations in the ledger. A method is one transaction; raises LedgerUnavailable, changing nothing, and NotFound
    for a name that is nobody's."""

    def load(self, specs: Sequence[tuple[Mapping[str, Any], Scan | None]], types: Sequence[Mapping[str, Any]],
             actor: Actor) -> list[str]:  # fmt: skip
        """Go by these documents from now on: those that differ from what is there, each a new version. Names what has
        changed, such as ``welcome version 2``. An act, if anything has."""
        ...

    def get(self, name: str) -> Automation: ...

    def listed(self) -> list[Automation]:
        """All of them, by name."""
        ...

    def loaded(self) -> "Loaded":
        """All that is gone by, as it was at one moment."""
        ...

    def documents(self) -> dict[tuple[int, int], Mapping[str, Any]]:
        """All versions, by number of the automation and of the version. What is there once never changes."""
        ...

    def event_types(self) -> dict[str, Mapping[str, Any]]: ...

    def act(self, name: str, verb: str, actor: Actor) -> Automation:
        """``pause``: nothing of it is sent, while events are noted and people taken in; ``resume``. Raises
        SubmissionError where it is so already. An act."""
        ...

    def remove(self, name: str, actor: Actor) -> None:
        """With all who are and were in it. Raises SubmissionError while anybody is. An act."""
        ...

    # -- events
    def record(
        self, rows: Sequence[EventRow], touches: Sequence[Sequence[Touch]], held: float = 0.0
    ) -> list[EventReceipt | EventConflict]:
        """Keep events, and what each means for whom, in order. The same id of the same producer is the same event:
        nothing is done again. Touches must not refer to an automation that was removed meanwhile: those are nothing.
        ``held``: for so many seconds those for whom something is due now are left to the caller; who is paused is
        not due."""
        ...

    def events(self, name: str | None, limit: int) -> list[EventRow]:
        """The newest first."""
        ...

    # -- people
    def enrol(self, seen: Automation, rows: Sequence[tuple[str, Entry]], scan: Scan) -> int | None:
        """Take these in, by key, and move on what was looked through; how many were new. None, and nothing is
        changed, when somebody else did, or it is not as it was seen."""
        ...

    def due(self, limit: int) -> list[Enrolment]:
        """Who is to be looked at now, the longest first, but for those of an automation that its rate holds."""
        ...

    def moved(self, moves: Sequence[tuple[Move, Accepted | None]]) -> list[Receipt | IdempotencyConflict | None]:
        """Apply these, with their mails, all or nothing; each only if the enrolment is as it was seen. The receipts of
        those that went: None for one that did not, or has no mail."""
        ...

    def enrolled(self, name: str, key: str) -> Enrolment: ...

    def enrolments(self, name: str, *states: EnrolmentState, limit: int) -> list[Enrolment]:
        """Who changed last first, as far as more is known of them than that they were in it."""
        ...

    def inside(self) -> set[tuple[int, int]]:
        """The versions (numbers of the automation and of the version) that somebody is in."""
        ...

    def hold(self, number: int, version: int, seconds: float) -> None:
        """The rate of the automation of this number, as its newest version (this one) has it, allows no more for so
        long: nobody of it is due until then, or it is changed."""
        ...

    def counts(self, name: str) -> dict[tuple[EnrolmentState, str | None], int]:
        """By state and next step."""
        ...

    def steps(self, name: str, key: str | None = None, limit: int | None = None) -> Iterator[Step]:
        """What has become of whom, the oldest first."""
        ...

    def change(self, seen: Enrolment, made: Enrolment, actor: Actor, verb: str) -> bool:
        """By hand; False if it is not as it was seen. An act."""
        ...

    def standing(self) -> Inside:
        """How all of them stand."""
        ...

    def pending(self) -> bool:
        """Whether anybody is due, or a day is to be looked through."""
        ...

    def next_at(self) -> float | None:
        """When somebody is due next, or a day is to be looked through; None: never."""
        ...

    def scans(self) -> list[Automation]:
        """Those by dates that are to look on now, unless they are paused."""
        ...

    def forget(self, seconds: float, limit: int) -> int:
        """Remove events that came, and wipe what is known of people who were done, longer ago than that; how many.
        That they were in it is remembered. Whose step has failed waits for a person."""
        ...
