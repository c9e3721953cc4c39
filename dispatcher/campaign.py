"""A campaign as a value: what is to be sent to whom and when, and where it stands."""

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from dispatcher.delivery import SETTLED, State
from dispatcher.errors import ConfigurationError, SubmissionError
from dispatcher.hours import Hours
from dispatcher.rate import Rate
from dispatcher.zones import EARLIEST, LATEST, moment, zone

_YEARS = 1970, 2999
_TEXTS = "where", "reply_to", "rate", "tags"
_OBJECTS = "data", "headers"
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


class CampaignState(enum.StrEnum):
    """Where a campaign stands. Only a running one is expanded and sent."""

    DRAFT = "draft"
    CHECKED = "checked"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


# What people may do to a campaign: where it may stand, and where it stands then.
ACTS: dict[str, tuple[frozenset[CampaignState], CampaignState]] = {
    "pause": (frozenset({CampaignState.RUNNING, CampaignState.SCHEDULED}), CampaignState.PAUSED),
    "resume": (frozenset({CampaignState.PAUSED}), CampaignState.RUNNING),
    "cancel": (
        frozenset(CampaignState) - {CampaignState.FINISHED, CampaignState.CANCELLED},
        CampaignState.CANCELLED,
    ),
    "retry": (frozenset({CampaignState.RUNNING, CampaignState.PAUSED, CampaignState.FINISHED}), CampaignState.RUNNING),
}
RETRYABLE = State.DEFERRED, State.INVALID, State.EXPIRED, State.BOUNCED


@dataclass(frozen=True, slots=True)
class CampaignSpec:
    """What a person asks for. ``list`` is what recipients unsubscribe from; ``where`` narrows the audience down.

    A recipient's data is ``data`` with the attributes of its row over it, or with them all in the object ``under``.
    ``start`` is ISO 8601; without an offset it is each recipient's own time. ``zone`` is for those whose row names
    none. ``hours``: when mail may go, by their clocks. ``rate``: as a relay's, such as ``500/min``. ``owner`` gets the
    report.
    """

    template: str
    audience: str
    list: str
    where: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    under: str | None = None
    locale: str | None = None
    from_: str | None = None
    mail_from: str | None = None
    reply_to: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    relay: str | None = None
    tags: Sequence[str] = ()
    start: str | None = None
    zone: str | None = None
    hours: str | None = None
    rate: Sequence[str] = ()
    owner: str | None = None
    if_in_doubt: str | None = None

    def document(self) -> dict[str, Any]:
        """As JSON, without what was left alone."""
        found = {f.name.rstrip("_"): getattr(self, f.name) for f in fields(self)}
        return {name: _plain(value) for name, value in found.items() if value not in (None, (), {}, [])}

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "CampaignSpec":
        """Read what ``document`` wrote. Raises SubmissionError naming the field."""
        known = {f.name.rstrip("_"): f.name for f in fields(cls)}
        if unknown := sorted(document.keys() - known.keys()):
            raise SubmissionError(unknown[0], f"unknown field; known are {', '.join(sorted(known))}")
        for name in ("template", "audience", "list"):
            if not document.get(name):
                raise SubmissionError(name, "required")
        for name, value in document.items():
            _check_kind(name, value)
        made = cls(**{known[name]: value for name, value in document.items()})
        made.check()
        return made

    @classmethod
    def kept(cls, document: Mapping[str, Any]) -> "CampaignSpec":
        """Read what was checked when it was kept, perhaps by a newer program, whose fields are left out."""
        known = {f.name.rstrip("_"): f.name for f in fields(cls)}
        return cls(**{known[name]: value for name, value in document.items() if name in known})

    def check(self) -> None:
        """Refuse what can be seen to be wrong without the audience or the template. Raises SubmissionError."""
        if self.zone is not None:
            _known(self.zone)
        self.moment_of(self.zone or "UTC")
        if self.hours is not None:
            Hours.parse(self.hours)
        if self.under is not None and not _IDENTIFIER.fullmatch(self.under):
            raise SubmissionError("under", f"{self.under!r} cannot be the name of a variable")
        self.limit()

    def limit(self) -> Rate:
        """The rate, empty for none."""
        try:
            return Rate.parse(self.rate, "rate")
        except ConfigurationError as error:
            raise SubmissionError("rate", error.reason) from None

    @property
    def local(self) -> bool:
        """Whether each recipient's own clock says when it starts."""
        return self.start is not None and _iso(self.start).tzinfo is None

    def earliest(self) -> float | None:
        """The first moment at which anything may have to go, seconds since the epoch; None: whenever it is started."""
        if self.start is None:
            return None
        start = _iso(self.start)
        return moment(start - EARLIEST, "UTC") if start.tzinfo is None else start.timestamp()

    def latest(self) -> float | None:
        """The moment by which it has started for everybody."""
        if self.start is None:
            return None
        start = _iso(self.start)
        return moment(start + LATEST, "UTC") if start.tzinfo is None else start.timestamp()

    def moment_of(self, name: str) -> float | None:
        """When it starts for somebody in this zone."""
        return None if self.start is None else _moment(self.start, name)


@lru_cache(maxsize=1024)  # a million people live in a few zones
def _moment(start: str, name: str) -> float:
    found = _iso(start)
    return moment(found, name) if found.tzinfo is None else found.timestamp()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_kind(name: str, value: Any) -> None:
    if name in _OBJECTS:
        fits, what = isinstance(value, Mapping), "an object"
    elif name in _TEXTS:
        fits, what = isinstance(value, list | tuple) and all(isinstance(text, str) for text in value), "a list of texts"
    else:
        fits, what = isinstance(value, str), "a text"
    if not fits:
        raise SubmissionError(name, f"must be {what}")


def _iso(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SubmissionError(
            "start", f"{text[:60]!r} is no ISO 8601 time: 2026-12-01T09:00, or 2026-12-01T09:00+08:00 for one moment"
        ) from None
    if not _YEARS[0] <= found.year <= _YEARS[1]:
        raise SubmissionError("start", f"{text!r} is out of range: {_YEARS[0]} to {_YEARS[1]}")
    return found


def _known(name: str) -> None:
    try:
        zone(name)
    except ValueError as error:
        raise SubmissionError("zone", str(error)) from None


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as the ledger has it. Times are seconds since the epoch.

    ``version`` is the frozen audience's number in the ledger, ``submission`` the public id of its mails, ``cursor`` the
    last row that was expanded; ``filtered`` rows up to there were not meant, ``expanded`` became messages, and when it
    is ``complete`` there are no more. ``sums`` are by state, as they stood when it had finished.
    """

    id: int
    name: str
    state: CampaignState
    spec: CampaignSpec
    version: int | None
    checked: Mapping[str, Any] | None
    submission: str | None
    cursor: int
    filtered: int
    expanded: int
    complete: bool
    sums: Mapping[str, int] | None
    reason: str
    start_at: float | None
    created_at: float
    changed_at: float
    started_at: float | None
    finished_at: float | None
    reported_at: float | None
    actor: str


class Expanded(NamedTuple):
    """A row of the audience as a message: ``own`` is JSON text; ``fault`` says why it cannot be sent, if it cannot."""

    n: int
    rcpt: str
    address: str
    own: str
    due_at: float
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Sums:
    """A campaign's account: rows of its source, what became of each, and deliveries by state."""

    rows: int
    bad: int
    doubled: int
    kept: int
    filtered: int
    expanded: int
    complete: bool
    accepted: int
    states: Mapping[State, int]

    @property
    def waiting(self) -> int:
        """Rows that are not looked at yet."""
        return self.kept - self.filtered - self.expanded

    @property
    def settled(self) -> int:
        """Deliveries of which nothing more is expected."""
        return sum(count for state, count in self.states.items() if state in SETTLED)

    def faults(self) -> list[str]:
        """Where they do not balance; empty, or the ledger is broken."""
        total = sum(self.states.values())
        found = []
        if self.rows != self.kept + self.bad + self.doubled:
            found.append(f"{self.rows:,} rows of the source, but {self.kept + self.bad + self.doubled:,} accounted for")
        if self.waiting < 0 or (self.complete and self.waiting):
            found.append(f"{self.kept:,} in the audience, but {self.filtered + self.expanded:,} gone through")
        if self.expanded != self.accepted:
            found.append(f"{self.expanded:,} rows expanded, but {self.accepted:,} mails accepted")
        if self.accepted != total:
            found.append(f"{self.accepted:,} mails accepted, but {total:,} found")
        return found
