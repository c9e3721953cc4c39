"""From rows of an audience to the messages of a campaign: pure, the same for the check before the start and for the
start itself."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatcher.audience import Column, Filter, Kind, where
from dispatcher.campaign import CampaignSpec, Expanded
from dispatcher.errors import SubmissionError
from dispatcher.hours import Hours
from dispatcher.render import Template
from dispatcher.written import encode

Row = tuple[int, str, str, str]  # number, normal address, as it stands in To, attributes as JSON


@dataclass(frozen=True, slots=True)
class Person:
    """A row that is meant, read: ``data`` as the template gets it, ``locale`` and ``zone`` as the row has them."""

    n: int
    address: str
    shown: str
    attributes: Mapping[str, Any]
    written: str
    data: Mapping[str, Any]
    locale: str | None
    zone: str | None


@dataclass(slots=True)
class Plan:
    """How a campaign's rows become messages. ``columns`` are the audience's; ``started``: when it was, seconds since
    the epoch. Raises SubmissionError for a filter that does not fit the columns."""

    spec: CampaignSpec
    template: Template
    columns: Sequence[Column]
    started: float
    _filter: Filter = field(init=False)
    _hours: Hours | None = field(init=False)
    _pace: float = field(init=False)  # seconds between two of them
    _locale: str | None = field(init=False)
    _zone: str | None = field(init=False)

    def __post_init__(self) -> None:
        self._filter = where(self.spec.where, self.columns)
        self._hours = Hours.parse(self.spec.hours) if self.spec.hours else None
        self._pace = max((window.seconds / window.limit for window in self.spec.limit().windows), default=0.0)
        self._locale, self._zone = (self._named(kind) for kind in (Kind.LOCALE, Kind.ZONE))

    @property
    def timed(self) -> bool:
        """Whether it matters where somebody lives."""
        return self._hours is not None or self.spec.local

    def _named(self, kind: Kind) -> str | None:
        return next((column.name for column in self.columns if column.kind is kind), None)

    def people(self, rows: Sequence[Row]) -> list[Person]:
        """Those of the rows that are meant."""
        read = json.loads(f"[{','.join(row[3] for row in rows)}]")  # all in one: in half the time
        meant = zip(rows, read, strict=True) if not self.spec.where else self._meant(zip(rows, read, strict=True))
        return [self._person(row, attributes) for row, attributes in meant]

    def _meant(self, pairs: Iterable[tuple[Row, dict[str, Any]]]) -> Iterable[tuple[Row, dict[str, Any]]]:
        return ((row, attributes) for row, attributes in pairs if self._filter(attributes))

    def _person(self, row: Row, attributes: dict[str, Any]) -> Person:
        n, address, shown, written = row
        own = attributes
        if self.spec.under is not None:
            written, own = f"{{{encode(self.spec.under)}:{written}}}", {self.spec.under: attributes}
        data = {**self.spec.data, **own} if self.spec.data else own
        locale = attributes.get(self._locale) if self._locale else None
        zone = attributes.get(self._zone) if self._zone else None
        return Person(n, address, shown, attributes, written, data, locale or self.spec.locale, zone or self.spec.zone)

    def fault(self, person: Person) -> str:
        """Why this one cannot be written to; empty: nothing is wrong."""
        try:
            self.template.check(person.data)
        except SubmissionError as error:
            return str(error)
        return ""

    def due_at(self, zone: str | None, index: int) -> float:
        """When the one at this place among all may go, by a clock in this zone."""
        zone = zone or "UTC"
        start = self.started if self.spec.start is None else max(self.spec.moment_of(zone) or 0.0, self.started)
        if self._pace:
            start = max(start, self.started + index * self._pace)
        return start if self._hours is None else self._hours.next(start, zone)

    def expanded(self, person: Person, index: int) -> Expanded:
        """As the ledger takes it."""
        due_at = self.due_at(person.zone, index)
        own = f'{{"to":[{encode(person.shown)}],"data":{person.written},"dated":{due_at!r}'
        if person.locale:
            own += f',"locale":{encode(person.locale)}'
        if self._hours is not None and person.zone:
            own += f',"zone":{encode(person.zone)}'
        rcpt = _spec(person.shown, person.address)
        return Expanded(person.n, rcpt, person.address, f"{own}}}", due_at, self.fault(person))


def _spec(shown: str, address: str) -> str:
    """The address of the envelope: what is shown, without a display name; its case is kept."""
    if len(shown) == len(address):
        return shown
    return shown[shown.rindex("<") + 1 : -1] if shown.endswith(">") else shown
