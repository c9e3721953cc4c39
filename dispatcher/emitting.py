"""Takes in what producers emit: committed with all that it means for everybody, then the mails that are due at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any
from uuid import uuid4

from dispatcher.emitted import Event, EventReceipt, EventType
from dispatcher.enrolment import Enrolment, Touch
from dispatcher.errors import LedgerError, SubmissionError
from dispatcher.flows import Flows
from dispatcher.handed import Handed
from dispatcher.interfaces import Clock, EventRow, Ledger
from dispatcher.names import unknown

CHUNK = 200  # events in one transaction
HELD_SECONDS = 2.0  # so long others leave those alone for whom events have something due
Answer = EventReceipt | SubmissionError
Given = tuple[Event | Mapping[str, Any], str, str | None]  # an event, its producer, and what stands in for a missing id


class Emitting:
    """``move`` looks after these people, of whom something is due now."""

    def __init__(
        self, ledger: Ledger, clock: Clock, flows: Flows, move: Callable[[Sequence[Enrolment]], object]
    ) -> None:
        self._store, self._clock, self._flows, self._move = ledger.automations, clock, flows, move

    def emit(self, event: Event | Mapping[str, Any], *, producer: str = "", key: str | None = None) -> EventReceipt:
        """Take in one event: committed when this returns. ``key`` stands in for a missing id.

        Raises SubmissionError naming the field, EventConflict for an id that another event has, LedgerUnavailable when
        nothing was changed.
        """
        answer = self._commit([(event, producer, key)])[0]
        if isinstance(answer, SubmissionError):
            raise answer
        return answer

    def emit_many(self, events: Iterable[Event | Mapping[str, Any]], *, producer: str = "") -> Iterator[Answer]:
        """Take in any number, committed in chunks; one answer each, in order: a receipt or the error that it met."""
        return self._all((event, producer, None) for event in events)

    def take_in(self, handed: Iterable[Handed], door: str) -> list[Answer]:
        """The same of what came through a door, each with the error of the door if that refuses it."""
        each = list(handed)
        good = ((one.document, one.producer, f"{door}:{one.reference}") for one in each if one.error is None)
        answers = self._all(good)
        return [one.error or next(answers) for one in each]

    def _all(self, events: Iterable[Given]) -> Iterator[Answer]:
        waiting = iter(events)
        while group := list(islice(waiting, CHUNK)):
            yield from self._commit(group)

    def _commit(self, group: Sequence[Given]) -> list[Answer]:
        self._flows.look()
        read = [self._read(*each) for each in group]
        good = [each for each in read if not isinstance(each, SubmissionError)]
        rows, touches = [row for row, _ in good], [touches for _, touches in good]
        stored = iter(self._store.record(rows, touches, HELD_SECONDS) if good else ())
        answers: list[Answer] = [each if isinstance(each, SubmissionError) else next(stored) for each in read]
        due = {each.id: each for answer in answers if isinstance(answer, EventReceipt) for each in answer.due}
        if due:
            with suppress(LedgerError):  # what was taken in is taken in; workers look after the rest
                self._move(list(due.values()))
        return answers

    def _read(
        self, event: Event | Mapping[str, Any], producer: str, key: str | None
    ) -> tuple[EventRow, list[Touch]] | SubmissionError:
        try:
            made = event if isinstance(event, Event) else Event.parse(event)
            self._kind(made.event).schema.check(made.data, "data")
            now = self._clock.time()
            at = min(made.moment(now), now)
            own = made.id or key or uuid4().hex
            row = EventRow(made.event, own, producer, at, now, made.data, made.fingerprint)
            return row, self._flows.touches(made.event, made.data, at)
        except SubmissionError as error:
            return error

    def _kind(self, name: str) -> EventType:
        found = self._flows.types.get(name)
        if found is None:
            raise SubmissionError("event", unknown("kind of event", name, self._flows.types))
        return found
