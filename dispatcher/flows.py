"""All automations at work: their versions as flows, the kinds of events, and what an event means for whom."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dispatcher.audience import Column, where
from dispatcher.automation import Automation, AutomationSpec, look_up
from dispatcher.automation_check import Surroundings, columns_of
from dispatcher.delivery import Actor
from dispatcher.emitted import EventType
from dispatcher.enrolment import Entry, Touch
from dispatcher.errors import AudienceError, AutomationError, NotFound, SubmissionError
from dispatcher.flow import Flow
from dispatcher.interfaces import Clock, Ledger
from dispatcher.kind import reader
from dispatcher.mail import Address

MAX_KEY = 200
_KNOWN_SECONDS = 1.0  # for so long it is not asked again what has been loaded
Data = Mapping[str, Any]


class Flows:
    """One per process, for all its threads. It asks the ledger again once in a second, and compiles a version once."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._store, self._clock = ledger, ledger.automations, clock
        self._since = -_KNOWN_SECONDS
        self._owners: dict[int, Automation] = {}
        self._documents: Mapping[tuple[int, int], Mapping[str, Any]] = {}
        self._types: dict[str, EventType] = {}
        self._specs: dict[tuple[int, int], AutomationSpec] = {}
        self._flows: dict[tuple[int, int], Flow] = {}
        self._takes: dict[tuple[int, int], Callable[[Data], bool]] = {}

    def look(self, *, again: bool = False) -> None:
        """Know what is loaded now."""
        if not again and self._clock.monotonic() - self._since < _KNOWN_SECONDS:
            return
        loaded = self._store.loaded()
        types = {name: EventType.of(document) for name, document in loaded.event_types.items()}
        if {n: t.document() for n, t in types.items()} != {n: t.document() for n, t in self._types.items()}:
            self._types = types
            self._flows, self._takes = {}, {}  # another thread may just be compiling by the types from before
        self._owners = {owner.id: owner for owner in loaded.automations}
        self._documents = loaded.documents
        self._since = self._clock.monotonic()

    @property
    def types(self) -> Mapping[str, EventType]:
        self.look()
        return self._types

    def spec(self, owner: int, version: int) -> AutomationSpec:
        """Raises AutomationError for one that is not there, or that this program cannot read."""
        if (owner, version) not in self._documents:
            self.look(again=True)
        if (owner, version) not in self._specs:
            try:
                self._specs[owner, version] = AutomationSpec.of(self._documents[owner, version])
            except (KeyError, ValueError, TypeError) as error:
                raise AutomationError(
                    f"automation {owner} version {version}", f"cannot be read here: {error}"
                ) from None
        return self._specs[owner, version]

    def version(self, owner: int) -> int:
        """The newest."""
        return self._owners[owner].version

    def rate(self, owner: int) -> tuple[str, ...]:
        """Of its mails, whatever the version that somebody is in: as it says today. Raises AutomationError."""
        found = self._owners.get(owner)
        return () if found is None else self.spec(owner, found.version).rate

    def flow(self, owner: int, version: int) -> Flow:
        """Raises AutomationError, as ``spec``, and where its conditions cannot be told any more."""
        flows = self._flows
        if (found := flows.get((owner, version))) is None:
            spec = self.spec(owner, version)
            conditional = [step for step in spec.steps if step.where]
            try:
                columns = columns_of(spec, self._around()) if conditional else ()
                holds = {step.name: condition(step.where, columns) for step in conditional}
            except (AudienceError, SubmissionError, NotFound, KeyError) as error:
                raise AutomationError(f"automation {spec.name} version {version}", str(error)) from None
            found = flows[owner, version] = Flow(spec, holds)
        return found

    def _around(self) -> Surroundings:
        def columns(audience: str) -> Sequence[Column]:
            return self._ledger.audiences.current(audience).columns

        return Surroundings(self.types, columns, accept=lambda _: None)

    def going(self) -> Iterator[tuple[AutomationSpec, Mapping[str, Any] | None, bool]]:
        """Each version that takes people in, with its document, or that somebody is in; and whether somebody is."""
        self.look(again=True)
        inside = self._store.inside()
        for (owner, number), document in self._documents.items():
            current = owner in self._owners and self._owners[owner].version == number
            if current or (owner, number) in inside:
                with suppress(AutomationError):  # of another release: it pauses as soon as it is asked for
                    yield self.spec(owner, number), document if current else None, (owner, number) in inside

    def pause(self, name: str, reason: str) -> None:
        """It cannot be gone by here: the others go on, and a person sees why."""
        with suppress(SubmissionError, NotFound):  # paused or removed by somebody else just now
            self._store.act(name, "pause", Actor("dispatcher", "automations", reason))

    def _pause_owner(self, owner: int, reason: str) -> None:
        if (found := self._owners.get(owner)) is not None and not found.paused:
            self.pause(found.name, reason)

    # -- what an event means

    def touches(self, event: str, data: Data, at: float) -> list[Touch]:
        """For every key that it is about, of every automation that listens to it."""
        found: dict[tuple[int, str], Touch] = {}
        for owner, touch in self._each(event, data, at):
            before = found.get((owner, touch.key))
            found[owner, touch.key] = touch if before is None else _both(before, touch)
        return list(found.values())

    def _each(self, event: str, data: Data, at: float) -> Iterator[tuple[int, Touch]]:
        for owner, number in self._documents:
            try:
                spec = self.spec(owner, number)
            except AutomationError as error:
                self._pause_owner(owner, str(error))
                continue
            path = spec.key_path(event) if event in spec.events else None
            key = "" if path is None else _key(look_up(data, path), path or "")
            if not key:
                continue
            mine = self._owners.get(owner)
            current = mine is not None and mine.version == number
            entry = self._entry(spec, owner, number, event, data, at) if current and event == spec.event else None
            waited = any(step.wait_for == event for step in spec.steps)
            noted = waited or event in spec.exits or any(event in step.unless for step in spec.steps)
            if noted or entry is not None:
                exits = frozenset({number}) if event in spec.exits else frozenset[int]()
                yield owner, Touch(owner, key, event, at, noted, dict(data) if waited else None, entry, exits)

    def _entry(self, spec: AutomationSpec, owner: int, number: int, event: str, data: Data, at: float) -> Entry | None:
        """None for who is not meant."""
        takes = self._takes
        if (owner, number) not in takes:
            try:
                takes[owner, number] = condition(spec.where, self._types[event].columns if spec.where else ())
            except AudienceError as error:  # all others take the event in
                takes[owner, number] = lambda _: False
                self.pause(spec.name, f"trigger.where: {error}")
        if not takes[owner, number](data):
            return None
        address, name = (look_up(data, spec.person.get(each, "")) for each in ("address", "name"))
        return Entry(number, at, _to(address, name), dict(data))


def condition(texts: Sequence[str], columns: Sequence[Column]) -> Callable[[Data], bool]:
    """Whether data is meant by filters over the places in it. Raises AudienceError."""
    meant = where(texts, columns)
    kinds = {column.name: reader(column.kind) for column in columns}
    names = [name for name, _ in meant.tests]
    return lambda data: meant({name: _read(look_up(data, name), kinds[name]) for name in names})


def _read(value: Any, read: Callable[[Any], Any]) -> Any:
    """As a filter compares it; what is none of its kind is as if it were not there."""
    try:
        return None if value is None else read(value)
    except ValueError:
        return None


def _key(value: Any, path: str) -> str:
    """Empty where the data has none. Raises SubmissionError."""
    if value is None or isinstance(value, (bool, dict, list)):
        return ""
    found = str(value)
    if len(found) > MAX_KEY:
        raise SubmissionError(f"data.{path}", f"is longer than {MAX_KEY} characters, and a key here")
    return found


def _to(address: Any, name: Any) -> str:
    """As it stands in To; whether that can be is seen when it is mailed."""
    text = address if isinstance(address, str) else ""
    local, at, domain = text.rpartition("@")
    if not at or not isinstance(name, str) or not name.strip() or not set('<>"(), ').isdisjoint(text):
        return text
    return str(Address(local, domain, " ".join(name.split())))


def _both(one: Touch, other: Touch) -> Touch:
    """What an event means to two versions of an automation."""
    return one._replace(
        noted=one.noted or other.noted,
        brings=one.brings if one.brings is not None else other.brings,
        entry=one.entry or other.entry,
        exits=one.exits | other.exits,
    )
