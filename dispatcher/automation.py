"""An automation as a value: whom it takes in, and the steps that each of them goes through.

``AutomationSpec.of`` reads a document that its JSON Schema has let through (see ``automation_schema``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dispatcher.duration import seconds

END = "end"  # where a flow may lead to instead of a step
DATE_LATE_SECONDS = 43_200.0  # a greeting is worth nothing half a day later, unless its file says otherwise


@dataclass(frozen=True, slots=True)
class DateTrigger:
    """A day in an attribute of an audience's members: each ``year`` or ``once``, ``before`` so many days, ``at`` a time
    of day where they live. ``february_29``: the day that stands in for it in other years, ``02-28``, ``03-01`` or
    ``skip``. ``where`` narrows the audience down."""

    attribute: str
    audience: str
    each: str
    at: str
    before: int
    february_29: str
    where: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One mail, or a mere turning.

    First it waits: for the event ``wait_for``, at most ``within`` seconds; then ``after`` seconds, or whole days; then
    until it is ``at`` a time of day where the person lives. It is passed over when an event of ``unless`` was, or when
    not all of ``where`` holds: then the flow goes on at ``otherwise``, else at ``then``, as it does after its mail.
    When what it waits for does not come it goes on at ``otherwise``, else it ends.
    """

    name: str
    send: Mapping[str, Any] | None
    wait_for: str | None
    within: float | None
    after: float
    days: int | None  # of ``after``, where it is given in days: then the clocks of the person's zone count
    at: str | None
    unless: tuple[str, ...]
    where: tuple[str, ...]
    then: str
    otherwise: str | None

    @property
    def data(self) -> Mapping[str, Any]:
        """What its mail has beside what the person brings."""
        return dict((self.send or {}).get("data") or {})


@dataclass(frozen=True)
class AutomationSpec:
    """What a file says. ``keys``: the path of the key in the data of each event; ``person``: paths of address, name,
    locale and zone in the data; ``under``: where an audience member's attributes lie in the data. ``late`` seconds
    after its time a step is not sent any more. ``shared`` goes into every submission: list, lane, from and so on."""

    name: str
    about: str
    event: str | None
    where: tuple[str, ...]
    date: DateTrigger | None
    key: str | Mapping[str, str] | None
    person: Mapping[str, str]
    under: str | None
    zone: str
    hours: str | None
    rate: tuple[str, ...]
    late: float | None
    exits: tuple[str, ...]
    steps: tuple[Step, ...]
    shared: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "AutomationSpec":
        """Raises ValueError with a reason for a length of time that is none."""
        trigger = document["trigger"]
        date = _date(trigger) if "date" in trigger else None
        late = document.get("late")
        return cls(
            name=document["automation"],
            about=document.get("about", ""),
            event=trigger.get("event"),
            where=tuple(trigger.get("where", ())) if date is None else (),
            date=date,
            key=document.get("key"),
            person=document.get("person", {}),
            under=document.get("under"),
            zone=document.get("zone", "UTC"),
            hours=document.get("hours"),
            rate=tuple(document.get("rate", ())),
            late=float(seconds(late)) if late is not None else DATE_LATE_SECONDS if date else None,
            exits=tuple(document.get("exit", ())),
            steps=tuple(_steps(document["steps"])),
            shared={name: document[name] for name in SHARED if name in document},
        )

    @cached_property
    def by_name(self) -> Mapping[str, Step]:
        return {step.name: step for step in self.steps}

    @cached_property
    def events(self) -> tuple[str, ...]:
        """All that it listens to, the trigger's first."""
        found = [self.event] if self.event else []
        for step in self.steps:
            found += [step.wait_for, *step.unless] if step.wait_for else step.unless
        return tuple(dict.fromkeys([*found, *self.exits]))

    def key_path(self, event: str) -> str | None:
        """Where the key lies in the data of this event."""
        if isinstance(self.key, str):
            return self.key
        return None if self.key is None else self.key.get(event)


SHARED = "list", "lane", "relay", "from", "mail_from", "reply_to", "headers", "tags", "if_in_doubt"
SENT = "template", "subject", "text", "html", "locale", "data", "attachments", *SHARED  # what a step's mail may say


def _date(trigger: Mapping[str, Any]) -> DateTrigger:
    return DateTrigger(
        attribute=trigger["date"],
        audience=trigger["audience"],
        each=trigger.get("each", "year"),
        at=trigger.get("at", "09:00"),
        before=days(trigger.get("before", "0d")),
        february_29=trigger.get("february_29", "02-28"),
        where=tuple(trigger.get("where", ())),
    )


def _steps(documents: Sequence[Mapping[str, Any]]) -> Iterator[Step]:
    following = [document["step"] for document in documents[1:]]
    for document, behind in zip(documents, [*following, END], strict=True):
        after = document.get("after", "0s")
        yield Step(
            name=document["step"],
            send=document.get("send"),
            wait_for=document.get("wait_for"),
            within=float(seconds(document["within"])) if "within" in document else None,
            after=float(seconds(after)),
            days=days(after) if _in_days(after) else None,
            at=document.get("at"),
            unless=tuple(document.get("unless", ())),
            where=tuple(document.get("if", ())),
            then=document.get("then", behind),
            otherwise=document.get("otherwise"),
        )


def _in_days(text: str) -> bool:
    return text.strip().endswith("d") and "." not in text


def days(text: str) -> int:
    """Whole days, as in ``7d``. Raises ValueError."""
    if not _in_days(text):
        raise ValueError(f"{text!r} are no whole days: write 7d")
    return int(text.strip().removesuffix("d"))


def look_up(data: Mapping[str, Any], path: str) -> Any:
    """What lies at ``order.customer.id``; None where there is nothing."""
    found: Any = data
    for name in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


@dataclass(frozen=True, slots=True)
class Scan:
    """How far an automation by dates has looked: through the ``day``, in that version of its audience (None: none
    yet), up to that row. ``at``: when it is to go on."""

    day: str
    version: int | None
    after: int
    at: float


def again(before: Scan, first: Scan) -> Scan:
    """Where a new version looks on: its ``first`` day is looked through anew, for those whom only it means."""
    return Scan(min(before.day, first.day), before.version, 0, first.at)


@dataclass(frozen=True, slots=True)
class Automation:
    """An automation as the ledger has it. Times are seconds since the epoch, by its clock. ``version`` takes people
    in; who is inside stays with the one that took them in. ``reason`` says why it is paused."""

    id: int
    name: str
    version: int
    paused: bool
    reason: str
    scan: Scan | None
    created_at: float
    changed_at: float
    actor: str


@dataclass(frozen=True, slots=True)
class Inside:
    """How all automations stand at ``read_at``, by the ledger's clock: how many there are, which ``paused`` themselves
    or were paused, with the reason; how many people are ``inside``, how many wait after a step that ``failed``, and
    since when somebody is due (None: nobody is)."""

    count: int
    paused: tuple[tuple[str, str], ...]
    inside: int
    failed: int
    due_since: float | None
    read_at: float
