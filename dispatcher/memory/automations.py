"""Automations, events and enrolments, in memory."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from dispatcher.automation import Automation, Inside, Scan, again
from dispatcher.delivery import Actor
from dispatcher.emitted import EventReceipt
from dispatcher.enrolment import (
    FORGOTTEN,
    Enrolment,
    EnrolmentState,
    Entry,
    Passed,
    Touch,
    blank,
    entered,
    revised,
    touched,
)
from dispatcher.errors import EventConflict, IdempotencyConflict, NotFound, SubmissionError
from dispatcher.flow import Move, told
from dispatcher.interfaces import EventRow, Loaded, Step, receipt_of
from dispatcher.ledger import signature, storable
from dispatcher.mail import Accepted, Receipt
from dispatcher.names import unknown

Record = Callable[[Actor, str, str], Any]
_ACTIVE, _EXPECTED = EnrolmentState.ACTIVE, EnrolmentState.EXPECTED
_INSIDE = _ACTIVE, EnrolmentState.FAILED


class MemoryAutomations:
    """``interfaces.Automations`` under the ledger's lock, by its clock; ``record`` notes an act, ``add`` takes mail in,
    ``busy`` says whether a submission is still on its way."""

    def __init__(
        self,
        lock: threading.RLock,
        now: Callable[[], float],
        record: Record,
        add: Callable[[Sequence[Accepted]], list[Receipt | IdempotencyConflict]],
        busy: Callable[[str], bool],
    ) -> None:
        self._lock, self._now, self._record, self._add, self._busy = lock, now, record, add, busy
        self._rows: dict[str, Automation] = {}
        self._documents: dict[tuple[int, int], Mapping[str, Any]] = {}
        self._types: dict[str, Mapping[str, Any]] = {}
        self._events: dict[tuple[str, str], EventRow] = {}
        self._people: dict[tuple[int, str], Enrolment] = {}
        self._steps: list[tuple[int, Passed]] = []
        self._held: dict[int, float] = {}  # by number of the automation: until when its rate allows no more
        self._numbers = count(1)

    def load(
        self, specs: Sequence[tuple[Mapping[str, Any], Scan | None]], types: Sequence[Mapping[str, Any]], actor: Actor
    ) -> list[str]:
        with self._lock:
            changed = [f"event {each['event']}" for each in types if self._types.get(each["event"]) != each]
            self._types |= {each["event"]: dict(each) for each in types}
            changed += filter(None, [self._load(document, scan, actor) for document, scan in specs])
            if changed:
                self._record(actor, "load", ", ".join(changed))
            return changed

    def _load(self, document: Mapping[str, Any], scan: Scan | None, actor: Actor) -> str | None:
        name, now = document["automation"], self._now()
        found = self._rows.get(name)
        if found is not None and self._documents[found.id, found.version] == document:
            return None
        number = 1 if found is None else found.version + 1
        made = found or Automation(
            next(self._numbers), name, 0, paused=False, reason="", scan=None, created_at=now, changed_at=now, actor=""
        )
        self._documents[made.id, number] = dict(document)
        kept = again(made.scan, scan) if scan and made.scan else scan
        self._held.pop(made.id, None)
        self._rows[name] = replace(made, version=number, scan=kept, changed_at=now, actor=storable(signature(actor)))
        return f"{name} version {number}"

    def get(self, name: str) -> Automation:
        with self._lock:
            if name not in self._rows:
                raise NotFound(unknown("automation", name, self._rows))
            return self._rows[name]

    def listed(self) -> list[Automation]:
        with self._lock:
            return [self._rows[name] for name in sorted(self._rows)]

    def loaded(self) -> Loaded:
        with self._lock:
            return Loaded(self.listed(), self.documents(), self.event_types())

    def documents(self) -> dict[tuple[int, int], Mapping[str, Any]]:
        with self._lock:
            return dict(self._documents)

    def event_types(self) -> dict[str, Mapping[str, Any]]:
        with self._lock:
            return dict(self._types)

    def act(self, name: str, verb: str, actor: Actor) -> Automation:
        with self._lock:
            found, paused = self.get(name), verb == "pause"
            if found.paused == paused:
                raise SubmissionError(
                    name, f"is {f'paused by {found.actor}' if paused else 'not paused'}; nothing was done"
                )
            reason = storable(actor.reason) if paused else ""
            signed = storable(signature(actor))
            self._rows[name] = replace(found, paused=paused, reason=reason, changed_at=self._now(), actor=signed)
            self._held.pop(found.id, None)
            self._record(actor, verb, f"automation {name}")
            return self._rows[name]

    def remove(self, name: str, actor: Actor) -> None:
        with self._lock:
            found = self.get(name)
            mine = {key: each for key, each in self._people.items() if each.automation_id == found.id}
            inside = sum(each.state in _INSIDE for each in mine.values())
            if inside:
                raise SubmissionError(name, f"{inside} are in it; let them leave first: dispatcher automations exit")
            gone = {each.id for each in mine.values()}
            self._people = {key: each for key, each in self._people.items() if key not in mine}
            self._steps = [each for each in self._steps if each[0] not in gone]
            self._documents = {key: each for key, each in self._documents.items() if key[0] != found.id}
            del self._rows[name]
            self._record(actor, "remove", f"automation {name}")

    # -- events

    def record(
        self, rows: Sequence[EventRow], touches: Sequence[Sequence[Touch]], held: float = 0.0
    ) -> list[EventReceipt | EventConflict]:
        with self._lock:
            return [self._take(row, mine, held) for row, mine in zip(rows, touches, strict=True)]

    def _take(self, row: EventRow, touches: Sequence[Touch], held: float) -> EventReceipt | EventConflict:
        name = row.id, row.producer
        first = self._events.get(name)
        if first is not None:
            if first.fingerprint != row.fingerprint:
                return EventConflict(row.id)
            return EventReceipt(row.id, row.name, duplicate=True)
        now = self._now()
        self._events[name] = row._replace(received_at=now)
        found = receipt_of(row, [pair for touch in touches if (pair := self._touch(touch, now, held))], now, held)
        going = (each for each in found.due if not self._rows[each.automation].paused)
        return found._replace(due=tuple(self._seen(each, now) for each in going))

    def _seen(self, found: Enrolment, now: float) -> Enrolment:
        return replace(found, busy=found.mail is not None and self._busy(found.mail), read_at=now)

    def _touch(self, touch: Touch, now: float, held: float) -> tuple[Enrolment, Enrolment] | None:
        owner = next((each for each in self._rows.values() if each.id == touch.automation_id), None)
        if owner is None:
            return None
        before = self._people.get((owner.id, touch.key)) or self._expected(owner, touch.key)
        self._people[owner.id, touch.key] = made = touched(before, touch, now, held)
        return before, made

    def _expected(self, owner: Automation, key: str) -> Enrolment:
        return blank(owner.name, owner.id, key, self._now(), id=next(self._numbers))

    def events(self, name: str | None, limit: int) -> list[EventRow]:
        with self._lock:
            found = [each for each in reversed(self._events.values()) if name in (None, each.name)]
            return found[:limit]

    # -- people

    def enrol(self, seen: Automation, rows: Sequence[tuple[str, Entry]], scan: Scan) -> int | None:
        with self._lock:
            if self._rows.get(seen.name) != seen:
                return None
            new = [(key, entry) for key, entry in dict(rows).items() if (seen.id, key) not in self._people]
            for key, entry in new:
                self._people[seen.id, key] = entered(self._expected(seen, key), entry, self._now())
            self._rows[seen.name] = replace(seen, scan=scan)
            return len(new)

    def due(self, limit: int) -> list[Enrolment]:
        with self._lock:
            now = self._now()
            found = [
                each
                for each in self._people.values()
                if each.is_due(now)
                and not self._rows[each.automation].paused
                and self._held.get(each.automation_id, 0.0) <= now
            ]
            found.sort(key=lambda each: (each.due_at or 0.0, each.id))
            return [self._seen(each, now) for each in found[:limit]]

    def moved(self, moves: Sequence[tuple[Move, Accepted | None]]) -> list[Receipt | IdempotencyConflict | None]:
        with self._lock:
            return [self._move(move, accepted) for move, accepted in moves]

    def _move(self, move: Move, accepted: Accepted | None) -> Receipt | IdempotencyConflict | None:
        name = move.seen.automation_id, move.seen.key
        if self._people.get(name, move.made).revision != move.seen.revision:
            return None
        made, passed = move.made, move.passed
        receipt = self._add([accepted])[0] if accepted is not None else None
        if receipt is not None:
            passed, made = told(move, receipt)
        self._people[name] = revised(made, move.seen, self._now())
        self._steps += [(made.id, each._replace(detail=storable(each.detail))) for each in passed]
        return receipt

    def enrolled(self, name: str, key: str) -> Enrolment:
        with self._lock:
            found = self._people.get((self.get(name).id, key))
            if found is None or found.state is _EXPECTED:
                raise NotFound(f"nobody is or was in {name} as {key!r}")
            return found

    def enrolments(self, name: str, *states: EnrolmentState, limit: int) -> list[Enrolment]:
        with self._lock:
            number = self.get(name).id
            found = [
                each
                for each in self._people.values()
                if each.automation_id == number
                and each.outcome != FORGOTTEN
                and (each.state in states if states else each.state is not _EXPECTED)
            ]
            return sorted(found, key=lambda each: (-each.changed_at, -each.id))[:limit]

    def counts(self, name: str) -> dict[tuple[EnrolmentState, str | None], int]:
        with self._lock:
            number = self.get(name).id
            mine = [each for each in self._people.values() if each.automation_id == number]
            return dict(Counter((each.state, each.step) for each in mine if each.state is not _EXPECTED))

    def steps(self, name: str, key: str | None = None, limit: int | None = None) -> Iterator[Step]:
        with self._lock:
            number = self.get(name).id
            mine = {each.id: each for each in self._people.values() if each.automation_id == number}
            found = [
                ((passed.planned_at, passed.at, who), Step(mine[who].key, mine[who].address, passed))
                for who, passed in self._steps
                if who in mine and key in (None, mine[who].key)
            ]
        found.sort(key=lambda each: each[0])
        yield from [step for _, step in found[-limit if limit else 0 :]]

    def change(self, seen: Enrolment, made: Enrolment, actor: Actor, verb: str) -> bool:
        with self._lock:
            name = seen.automation_id, seen.key
            if self._people[name].revision != seen.revision:
                return False
            self._people[name] = revised(made, seen, self._now())
            self._record(actor, verb, f"{seen.key} of automation {seen.automation}")
            return True

    def standing(self) -> Inside:
        with self._lock:
            paused = tuple((each.name, each.reason) for each in self.listed() if each.paused)
            states = Counter(each.state for each in self._people.values())
            due = self.due(1)
            return Inside(
                len(self._rows), paused, states[_ACTIVE], states[EnrolmentState.FAILED],
                due[0].due_at if due else None, self._now(),
            )  # fmt: skip

    def inside(self) -> set[tuple[int, int]]:
        with self._lock:
            return {(each.automation_id, each.version) for each in self._people.values() if each.state in _INSIDE}

    def hold(self, number: int, version: int, seconds: float) -> None:
        with self._lock:
            if any((each.id, each.version) == (number, version) for each in self._rows.values()):
                self._held[number] = self._now() + seconds

    def pending(self) -> bool:
        with self._lock:
            return bool(self.due(1) or self.scans())

    def next_at(self) -> float | None:
        with self._lock:
            on = {each.id: each for each in self._rows.values() if not each.paused}
            people = [
                max(each.due_at or 0.0, self._held.get(each.automation_id, 0.0))
                for each in self._people.values()
                if each.automation_id in on and each.is_waiting
            ]
            days = [each.scan.at for each in on.values() if each.scan is not None]
            return min((at for at in (*people, *days) if at is not None), default=None)

    def scans(self) -> list[Automation]:
        with self._lock:
            now = self._now()
            return [each for each in self.listed() if each.scan and each.scan.at <= now and not each.paused]

    def forget(self, seconds: float, limit: int) -> int:
        with self._lock:
            since = self._now() - seconds
            old = [event for event, row in self._events.items() if row.received_at <= since][:limit]
            for event in old:
                del self._events[event]
            past = {name: each for name, each in self._people.items() if each.changed_at <= since}
            unmet = [name for name, each in past.items() if each.state is _EXPECTED][:limit]
            done = [each for each in past.values() if each.state in (EnrolmentState.FINISHED, EnrolmentState.EXITED)]
            full = [each for each in done if each.outcome != FORGOTTEN][:limit]
            for name in unmet:
                del self._people[name]
            for each in full:
                wiped = replace(each, address="", data={}, seen={}, outcome=FORGOTTEN)
                self._people[each.automation_id, each.key] = wiped
            gone = {each.id for each in full}
            self._steps = [each for each in self._steps if each[0] not in gone]
            return len(old) + len(unmet) + len(full)
