"""What people do with automations: check and load what is written, pause and resume it, and see to who is inside."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from dispatcher import automation_check, dates
from dispatcher.address import mailbox
from dispatcher.audience import Column
from dispatcher.automation import Automation, AutomationSpec, Scan
from dispatcher.automation_check import Fault, Surroundings
from dispatcher.delivery import Actor
from dispatcher.emitted import EventType
from dispatcher.emitting import Emitting
from dispatcher.enrolment import FORGOTTEN, Enrolment, EnrolmentState, StepOutcome
from dispatcher.errors import AutomationError, SubmissionError
from dispatcher.flow import Flow
from dispatcher.flows import Flows
from dispatcher.interfaces import Clock, EventRow, EventSink, Ledger, Step
from dispatcher.kind import Kind
from dispatcher.mail import Accepted, Receipt
from dispatcher.moving import Checked, Mail, Moving
from dispatcher.zones import zone

_TRIES = 10
_MAILED = StepOutcome.SENT, StepOutcome.SUPPRESSED


class Line(NamedTuple):
    """A step that was to be at ``at``, by the person's own clock: what has become of it, and its template, or why."""

    at: str
    automation: str
    key: str
    to: str
    step: str
    outcome: str
    what: str


class Automations:
    """``accept`` checks a submission without keeping it, ``check`` answers submissions with their keys as the ledger
    takes them, ``ring`` rings for what was taken; ``wait`` says for how many seconds a rate allows no more; ``begun``
    is called when there is something to do for workers."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        sink: EventSink,
        *,
        accept: Callable[[Mapping[str, Any]], object],
        check: Callable[[Sequence[Mail]], Sequence[Checked]],
        ring: Callable[[Sequence[Accepted], Sequence[Receipt]], object],
        wait: Callable[[str, tuple[str, ...]], float],
        begun: Callable[[], object],
    ) -> None:
        self._ledger, self._store, self._clock = ledger, ledger.automations, clock
        self._accept, self._begun = accept, begun
        self._flows = Flows(ledger, clock)
        moving = Moving(ledger, clock, sink, self._flows, check=check, ring=ring, wait=wait)
        emitting = Emitting(ledger, clock, self._flows, move=moving.some)
        self.run, self.emit, self.emit_many = moving.run, emitting.emit, emitting.emit_many
        self.take_in = emitting.take_in

    # -- writing

    def check(self, documents: Sequence[Any]) -> list[list[Fault]]:
        """What is wrong with each; they may refer to kinds of events that are among them, or were loaded."""
        found = [list(automation_check.shape(document)) for document in documents]
        sound = [document for document, faults in zip(documents, found, strict=True) if not faults]
        kinds = {each["event"]: EventType.of(each) for each in sound if "event" in each}
        before = Surroundings(self._flows.types, self._columns, self._accept)
        around = replace(before, events={**before.events, **kinds})
        names = [_name(each) for each in sound]
        for document, faults in zip(documents, found, strict=True):
            if faults:
                continue
            if names.count(_name(document)) > 1:
                faults.append(Fault("", f"{' '.join(_name(document))} is there twice"))
            elif "event" in document:
                faults.extend(automation_check.of_event(document))
                faults.extend(self._broken(document, before, around, names) if not faults else ())
            else:
                faults.extend(automation_check.of_automation(document, around))
        return found

    def _broken(
        self, document: Mapping[str, Any], before: Surroundings, after: Surroundings, names: Sequence[tuple[str, str]]
    ) -> Iterator[Fault]:
        """What goes by a kind of event that is to change, and would not fit it any more; ``names``: what is loaded
        with it takes the place of what took people in before."""
        name = document["event"]
        if name not in before.events or before.events[name].document() == after.events[name].document():
            return
        for spec, found, inside in self._flows.going():
            stays = None if ("automation", spec.name) in names else found
            if name in spec.events and (inside or stays is not None):
                for fault in automation_check.broken(spec, stays, before, after):
                    yield Fault("data", f"automation {spec.name} goes by it: {fault.place}: {fault.reason}")

    def load(self, documents: Sequence[Mapping[str, Any]], actor: Actor) -> list[str]:
        """Go by these from now on; what has changed. Who is inside finishes by the version that took them in.

        Raises AutomationError for the first fault; then nothing is loaded.
        """
        for document, faults in zip(documents, self.check(documents), strict=True):
            for fault in faults:
                raise AutomationError(" ".join((*_name(document), fault.place)).strip(), fault.reason)
        types = [EventType.of(each).document() for each in documents if "event" in each]
        specs = [self._placed(each) for each in documents if "automation" in each]
        changed = self._store.load(specs, types, actor)
        self._flows.look(again=True)
        self._begun()
        return changed

    def _placed(self, document: Mapping[str, Any]) -> tuple[Mapping[str, Any], Scan | None]:
        """As it is kept: of an automation by dates with where a member's locale and zone are, and its first day."""
        spec = AutomationSpec.of(document)
        if spec.date is None:
            return document, None
        before, columns = f"{spec.under}." if spec.under else "", self._columns(spec.date.audience)
        wanted = {"locale": Kind.LOCALE, "zone": Kind.ZONE}
        person = {
            name: f"{before}{column.name}"
            for name, kind in wanted.items()
            if (column := next((each for each in columns if each.kind is kind), None)) is not None
        }
        now = self._clock.time()
        return {**document, "person": person}, Scan(dates.first_day(spec.date, now).isoformat(), None, 0, now)

    def _columns(self, audience: str) -> Sequence[Column]:
        return self._ledger.audiences.current(audience).columns

    # -- knowing

    def get(self, name: str) -> Automation:
        """Raises NotFound."""
        return self._store.get(name)

    def listed(self) -> list[Automation]:
        """All of them, by name."""
        return self._store.listed()

    def spec(self, found: Automation, version: int | None = None) -> AutomationSpec:
        """What it goes by, or went by."""
        return self._flows.spec(found.id, version or found.version)

    def event_types(self) -> Mapping[str, EventType]:
        """By name."""
        return self._flows.types

    def counts(self, name: str) -> dict[tuple[EnrolmentState, str | None], int]:
        """How many are where: by state and next step."""
        return self._store.counts(name)

    def enrolled(self, name: str, key: str) -> Enrolment:
        """Raises NotFound."""
        return self._store.enrolled(name, key)

    def enrolments(self, name: str, *states: EnrolmentState, limit: int = 100) -> list[Enrolment]:
        """Who changed last first."""
        return self._store.enrolments(name, *states, limit=limit)

    def steps(self, name: str, key: str | None = None, limit: int | None = None) -> Iterator[Step]:
        """What has become of whom, the oldest first."""
        return self._store.steps(name, key, limit)

    def lines(self, name: str, key: str | None = None, limit: int | None = None) -> Iterator[Line]:
        """The same for people, by their own clocks."""
        owner, known = self._store.get(name), dict[str, tuple[str, Flow]]()
        for step in self.steps(name, key, limit):
            if step.key not in known:
                found = self._store.enrolled(name, step.key)
                flow = self._flows.flow(owner.id, found.version)
                known[step.key] = flow.where(found).zone, flow
            zone_name, flow = known[step.key]
            yield line(step, name, flow.spec, zone_name)

    def events(self, name: str | None = None, limit: int = 20) -> list[EventRow]:
        """What was emitted, the newest first."""
        return self._store.events(name, limit)

    # -- acting

    def pause(self, name: str, actor: Actor) -> Automation:
        """Nothing of it is sent, at once and on all machines; events are noted, and people taken in. Raises
        SubmissionError when it is paused."""
        return self._store.act(name, "pause", actor)

    def resume(self, name: str, actor: Actor) -> Automation:
        """Go on; what is too late by now is passed over. Raises SubmissionError when it is not paused."""
        found = self._store.act(name, "resume", actor)
        self._begun()
        return found

    def remove(self, name: str, actor: Actor) -> None:
        """With its history. Raises SubmissionError while anybody is inside."""
        self._store.remove(name, actor)

    def exit(self, name: str, key: str, actor: Actor) -> Enrolment:
        """Take somebody out; they do not come in again. Raises SubmissionError for who is not inside."""
        if actor.reason == FORGOTTEN:
            raise SubmissionError("reason", f"{FORGOTTEN!r} is said of who is forgotten; say it in other words")

        def out(found: Enrolment) -> Enrolment:
            if found.state not in (EnrolmentState.ACTIVE, EnrolmentState.FAILED):
                raise SubmissionError(key, f"is {found.state} already; nothing was done")
            return replace(
                found, state=EnrolmentState.EXITED, step=None, awaits=None, planned_at=None, due_at=None,
                outcome=actor.reason or "by hand",
            )  # fmt: skip

        return self._change(name, key, actor, "exit", out)

    def retry(self, name: str, key: str, actor: Actor, *, address: str | None = None) -> Enrolment:
        """Let somebody go on whose step has failed, with that step, perhaps at another address. Raises SubmissionError
        for who has not."""
        to = None if address is None else mailbox(address, "address")[1]

        def again(found: Enrolment) -> Enrolment:
            if found.state is not EnrolmentState.FAILED:
                raise SubmissionError(key, f"has not failed but is {found.state}; nothing was done")
            now = self._clock.time()
            going = replace(found, state=EnrolmentState.ACTIVE, planned_at=now, due_at=now, outcome="")
            return going if to is None else replace(going, address=to)

        found = self._change(name, key, actor, "retry", again)
        self._begun()
        return found

    def _change(
        self, name: str, key: str, actor: Actor, verb: str, change: Callable[[Enrolment], Enrolment]
    ) -> Enrolment:
        for _ in range(_TRIES):
            seen = self._store.enrolled(name, key)
            if self._store.change(seen, change(seen), actor, verb):
                return self._store.enrolled(name, key)
        raise SubmissionError(key, "is moved on all the time; try again")


def line(step: Step, name: str, spec: AutomationSpec, zone_name: str) -> Line:
    """A step as people read it."""
    key, address, passed = step
    at = datetime.fromtimestamp(passed.planned_at, zone(zone_name)).isoformat(sep=" ", timespec="minutes")
    sent = spec.by_name[passed.step].send or {} if passed.outcome in _MAILED else {}
    what = sent.get("template") or sent.get("subject") or passed.detail
    return Line(at, name, key, address, passed.step, passed.outcome.value, what)


def _name(document: Mapping[str, Any]) -> tuple[str, str]:
    kind = "automation" if "automation" in document else "event"
    return kind, str(document[kind])
