"""Whether an automation can do what its file says, before anybody is taken in: pure, but for what it asks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, NamedTuple

from dispatcher.address import mailbox
from dispatcher.audience import Column, where
from dispatcher.automation import END, AutomationSpec, Step, look_up
from dispatcher.automation_schema import AUTOMATION, EVENT
from dispatcher.emitted import EventType
from dispatcher.enrolment import Enrolment, blank
from dispatcher.errors import AudienceError, DispatcherError, InvalidAddress, NotFound, SubmissionError
from dispatcher.flow import Flow, laid_over
from dispatcher.hours import Hours
from dispatcher.kind import Kind
from dispatcher.names import unknown
from dispatcher.naming import literal_fault
from dispatcher.rate import Rate
from dispatcher.schema import DataSchema, SchemaError
from dispatcher.zones import zone

_AUTOMATION, _EVENT = DataSchema(AUTOMATION), DataSchema(EVENT)
_SAMPLE_ADDRESS = "sample@example.com"
_SAMPLES: Mapping[Kind, Any] = {
    Kind.TEXT: "text",
    Kind.NUMBER: 1,
    Kind.DATE: "2000-01-01",
    Kind.BOOL: True,
    Kind.LOCALE: "en",
    Kind.ZONE: "UTC",
}


class Fault(NamedTuple):
    """What is wrong, and at which place of the document."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an automation refers to. ``columns`` answers those of an audience, ``accept`` checks a submission; each
    raises what says why not."""

    events: Mapping[str, EventType]
    columns: Callable[[str], Sequence[Column]]
    accept: Callable[[Mapping[str, Any]], object]


def shape(document: Any) -> Iterator[Fault]:
    """What no schema lets through."""
    if not isinstance(document, Mapping) or not document.keys() & {"automation", "event"}:
        yield Fault("", "is neither an automation nor an event: it begins with automation: NAME or event: NAME")
        return
    try:
        (_AUTOMATION if "automation" in document else _EVENT).check(document, "")
    except SubmissionError as error:
        yield Fault(error.field.lstrip("."), error.reason)


def of_event(document: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with a kind of event."""
    kind = EventType.of(document)
    try:
        schema = kind.schema
        if schema.sensitive:
            yield Fault("data", "an event is kept, so nothing of it can be x-sensitive")
        if "sample" in document:
            schema.check(kind.sample, "sample")
    except SchemaError as error:
        yield Fault("data", str(error))
    except SubmissionError as error:
        yield Fault(error.field, error.reason)


def of_automation(document: Mapping[str, Any], around: Surroundings) -> Iterator[Fault]:
    """What is wrong with an automation whose shape is right."""
    trigger = document["trigger"]
    if ("event" in trigger) == ("date" in trigger):
        yield Fault("trigger", "needs either an event or a date with its audience")
        return
    if "date" in trigger and "audience" not in trigger:
        yield Fault("trigger", "a date needs the audience that it is an attribute of")
        return
    try:
        spec = AutomationSpec.of(document)
    except ValueError as error:
        yield Fault("", str(error))
        return
    faults = [*_alone(spec, document), *_ways(spec), *_events(spec, around.events)]
    yield from faults
    if faults:  # what follows would only say the same otherwise
        return
    try:
        columns = columns_of(spec, around)
    except (AudienceError, NotFound) as error:
        yield Fault("trigger.audience", str(error))
        return
    yield from _Check(spec, around, columns).faults()


def broken(spec: AutomationSpec, document: Mapping[str, Any] | None, before: Surroundings, after: Surroundings
) -> Iterator[Fault]:  # fmt: skip
    """What is wrong with an automation that was loaded once its surroundings are others; ``document``: None where it
    takes nobody in any more, and only has to lead to the end who is inside."""
    if document is not None:
        known = set(of_automation(document, before))
        yield from (fault for fault in of_automation(document, after) if fault not in known)
        return
    known = set(_events(spec, before.events))
    yield from (fault for fault in _events(spec, after.events) if fault not in known)
    try:
        columns = columns_of(spec, after)
    except (AudienceError, NotFound) as error:
        yield Fault("", str(error))
        return
    check = _Check(spec, after, columns)
    check.steps()
    yield from check.found


def columns_of(spec: AutomationSpec, around: Surroundings) -> Sequence[Column]:
    """The plain values that its data has: those of the audience, or those of the event and of what is waited for.
    Raises AudienceError, NotFound."""
    if spec.date is None:
        awaited = [step.wait_for for step in spec.steps if step.wait_for]
        found = {each.name: each for name in (spec.event or "", *awaited) for each in around.events[name].columns}
        return list(found.values())
    before = f"{spec.under}." if spec.under else ""
    return [Column(f"{before}{each.name}", each.kind, each.source) for each in around.columns(spec.date.audience)]


def _alone(spec: AutomationSpec, document: Mapping[str, Any]) -> Iterator[Fault]:
    """What can be seen without anything around it."""
    checks: dict[str, Callable[[], object]] = {
        "zone": lambda: zone(spec.zone),
        "hours": lambda: Hours.parse(spec.hours) if spec.hours else None,
        "rate": lambda: Rate.parse(spec.rate, "rate"),
    }
    for place, check in checks.items():
        try:
            check()
        except (ValueError, DispatcherError) as error:
            yield Fault(place, getattr(error, "reason", str(error)))
    for n, step in enumerate(spec.steps):
        for name in ("subject", "text", "html"):
            if fault := literal_fault((step.send or {}).get(name, "")):
                yield Fault(f"steps[{n}].send.{name}", fault)
    misplaced = ("key", "person") if spec.date else ("under",)
    for name in misplaced:
        if name in document:
            kind = "dates: the audience says who it is" if spec.date else "events: their data stands as it is"
            yield Fault(name, f"is not for {kind}")
    odd = {"each", "before", "at", "february_29", "audience"} if spec.date is None else set()
    yield from (Fault(f"trigger.{name}", "is only for a date") for name in sorted(odd & document["trigger"].keys()))


def _ways(spec: AutomationSpec) -> Iterator[Fault]:
    """Steps that stand twice, lead nowhere, are never come to, or go round in a circle."""
    names = [step.name for step in spec.steps]
    for n, step in enumerate(spec.steps):
        if step.name == END or step.name in names[:n]:
            reason = "is how a flow ends" if step.name == END else "is there twice"
            yield Fault(f"steps[{n}].step", f"{step.name} {reason}")
        for place, target in (("then", step.then), ("otherwise", step.otherwise or END)):
            if target not in (END, *names):
                yield Fault(f"steps[{n}].{place}", unknown("step", target, names))
        yield from (Fault(f"steps[{n}]{place}", reason) for place, reason in _idle(step))
    known = {step.name: [each for each in _targets(step) if each in names] for step in spec.steps}
    if circle := _circle(known, names[0]):
        yield Fault(f"steps[{names.index(circle[-1])}]", f"goes round in a circle: {' -> '.join(circle)}")
    reached = _reached(known, names[0])
    yield from (Fault(f"steps[{n}]", f"{name} is never come to") for n, name in enumerate(names) if name not in reached)


def _idle(step: Step) -> Iterator[tuple[str, str]]:
    """What a step says in vain."""
    turns = step.unless or step.where or step.wait_for
    if step.within is not None and step.wait_for is None:
        yield ".within", "is only for wait_for"
    if step.otherwise and not turns:
        yield ".otherwise", "can never be: it has no if, unless or wait_for"
    if step.send is None and not (turns or step.after or step.at):
        yield "", "does nothing: give it send, a time, if, unless or wait_for"


def _targets(step: Step) -> list[str]:
    found = [step.then]
    if step.unless or step.where or step.wait_for:
        found.append(step.otherwise or (END if step.wait_for else step.then))
    return found


def _reached(known: Mapping[str, Sequence[str]], first: str) -> set[str]:
    found, left = set[str](), [first]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += known[name]
    return found


def _circle(known: Mapping[str, Sequence[str]], first: str) -> tuple[str, ...]:
    """A way that comes to where it was, with that place at both its ends; each step is looked at once."""
    done, path = set[str](), [(first, iter(known[first]))]
    while path:
        name, left = path[-1]
        to = next(left, None)
        on_the_way = [each for each, _ in path]
        if to is None:
            done.add(name)
            path.pop()
        elif to in on_the_way:
            return (*on_the_way[on_the_way.index(to) :], to)
        elif to not in done:
            path.append((to, iter(known[to])))
    return ()


def _events(spec: AutomationSpec, events: Mapping[str, EventType]) -> Iterator[Fault]:
    places = [("trigger.event", spec.event)]
    for n, step in enumerate(spec.steps):
        places += [(f"steps[{n}].wait_for", step.wait_for)]
        places += [(f"steps[{n}].unless[{m}]", name) for m, name in enumerate(step.unless)]
    places += [(f"exit[{n}]", name) for n, name in enumerate(spec.exits)]
    for place, name in places:
        if name is not None and name not in events:
            yield Fault(place, unknown("kind of event", name, events))
    if spec.date is not None:
        if others := [name for name in spec.events if name in events]:
            yield from _keys(spec, events, others)
    elif (trigger := events.get(spec.event or "")) is not None:
        if trigger.name in spec.exits:
            why = f"{trigger.name} takes people in: all would leave at once"
            yield Fault(f"exit[{spec.exits.index(trigger.name)}]", why)
        yield from _keys(spec, events, [name for name in spec.events if name in events])
        yield from _person(spec, trigger)
        if "address" not in spec.person:
            yield Fault("person", "needs address: where the event's data has it")


def _person(spec: AutomationSpec, trigger: EventType) -> Iterator[Fault]:
    for name, path in spec.person.items():
        if trigger.required(path) is None:
            yield Fault(f"person.{name}", _no_place(path, trigger))
    sample = look_up(trigger.sample, spec.person.get("address", ""))
    if isinstance(sample, str):
        try:
            mailbox(sample, "address")
        except InvalidAddress as error:
            yield Fault("person.address", f"with sample data: {error.reason}")


def _keys(spec: AutomationSpec, events: Mapping[str, EventType], names: Sequence[str]) -> Iterator[Fault]:
    if spec.date is not None:
        yield Fault("steps", "an automation by dates cannot listen to events: its audience's members have no key")
        return
    if spec.key is None:
        yield Fault("key", "required: where the events' data names whom or what they are about, such as order.id")
        return
    for name in names:
        path = spec.key_path(name)
        place = "key" if isinstance(spec.key, str) else f"key.{name}"
        if path is None:
            yield Fault("key", f"has no place for {name}")
            continue
        always = events[name].required(path)
        if always is None:
            yield Fault(place, _no_place(path, events[name]))
        elif not always:
            yield Fault(place, f"{name} need not have {path}: make it required there")


def _no_place(path: str, event: EventType) -> str:
    known = [column.name for column in event.columns]
    near = get_close_matches(path, known, n=1)
    return f"{event.name} has no {path}" + (f"; did you mean {near[0]}?" if near else f"; it has {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class _Check:
    """Of what has sound ways: its conditions, and every mail as it would be with sample data."""

    spec: AutomationSpec
    around: Surroundings
    columns: Sequence[Column]
    found: list[Fault] = field(default_factory=list)

    def faults(self) -> list[Fault]:
        self._date()
        place = "trigger.where"
        texts = self.spec.where if self.spec.date is None else self.spec.date.where
        columns = self._own_columns() if self.spec.event is None else self.around.events[self.spec.event].columns
        self._conditions(place, texts, columns)
        self.steps()
        if not self.found:
            self._mails()
        return self.found

    def steps(self) -> None:
        for n, step in enumerate(self.spec.steps):
            self._conditions(f"steps[{n}].if", step.where, self.columns)

    def _own_columns(self) -> Sequence[Column]:
        return self.around.columns(self.spec.date.audience) if self.spec.date else ()

    def _date(self) -> None:
        if self.spec.date is None:
            return
        by_name = {column.name: column for column in self._own_columns()}
        wanted = self.spec.date.attribute
        if wanted not in by_name:
            self.found.append(
                Fault("trigger.date", unknown(f"attribute of {self.spec.date.audience}", wanted, by_name))
            )
        elif by_name[wanted].kind is not Kind.DATE:
            reason = f"{wanted} of {self.spec.date.audience} is a {by_name[wanted].kind}, and no date"
            self.found.append(Fault("trigger.date", reason))

    def _conditions(self, place: str, texts: Sequence[str], columns: Sequence[Column]) -> None:
        for n, text in enumerate(texts):
            try:
                where([text], columns)
            except AudienceError as error:
                self.found.append(Fault(f"{place}[{n}]", error.reason))

    def _mails(self) -> None:
        flow = Flow(self.spec, {})
        for n, step in enumerate(self.spec.steps):
            data = self._sample(n)
            if step.send is None or data is None:
                continue
            document = flow.submission(_sampled(data), step)
            try:
                self.around.accept(document)
            except SubmissionError as error:
                self.found.append(Fault(_place(n, error.field, step.send), f"with sample data: {error}"))
            except DispatcherError as error:
                self.found.append(Fault(f"steps[{n}].send", str(error)))

    def _sample(self, upto: int) -> dict[str, Any] | None:
        """As the data may be at a step; None: there is none to check by."""
        if self.spec.date is not None:
            own = {each.name: _SAMPLES[each.kind] for each in self._own_columns() if each.kind is not Kind.ADDRESS}
            return {self.spec.under: own} if self.spec.under else own
        found: dict[str, Any] = {}
        for name in (self.spec.event, *(step.wait_for for step in self.spec.steps[: upto + 1])):
            if name is None:
                continue
            if not self.around.events[name].sample:
                return None
            found = laid_over(found, self.around.events[name].sample)
        return found


def _sampled(data: Mapping[str, Any]) -> Enrolment:
    """Somebody who brings this data, and to whom nothing has happened."""
    return replace(blank("", 0, "sample", 0.0), address=_SAMPLE_ADDRESS, data=data)


def _place(n: int, field_name: str, send: Mapping[str, Any]) -> str:
    """Where in a step's mail: its data is that of the template."""
    first = field_name.partition(".")[0].partition("[")[0]
    first = "template" if first == "data" and "data" not in send else first
    return f"steps[{n}].send.{first}" if first in send else f"steps[{n}].send"
