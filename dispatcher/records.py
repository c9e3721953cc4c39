"""What the ledger answers when it is asked: one frozen record per row that a person may want to see.

Times are seconds since the epoch, UTC.
"""

from dataclasses import dataclass, field
from typing import Any

from dispatcher.delivery import Lane, State
from dispatcher.reply import Phase


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try of one delivery, or something that happened to it without a try (``attempted`` false)."""

    at: float
    state: State
    attempted: bool
    relay: str | None = None
    phase: str | None = None
    code: int | None = None
    enhanced: str | None = None
    text: str = ""
    seconds: float = 0.0
    actor: str | None = None

    @property
    def unknown(self) -> bool:
        """Whether nobody knew then if the mail was sent."""
        return self.state is State.IN_DOUBT or (self.phase == Phase.FINAL and self.code is None)


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One recipient: where its mail stands and what the relay said last."""

    id: str
    submission: str
    message_id: str
    rcpt: str
    kind: str
    lane: Lane
    state: State
    attempts: int
    accepted_at: float
    due_at: float
    expires_at: float
    changed_at: float
    template: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    relay: str | None = None
    code: int | None = None
    enhanced: str | None = None
    text: str = ""
    history: tuple[AttemptRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmissionRecord:
    """One submission with the sum of its deliveries by state; ``accepted`` was stored when it was submitted."""

    id: str
    lane: Lane
    accepted: int
    accepted_at: float
    states: dict[State, int]
    key: str | None = None
    template: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the whole ledger. ``accepted`` equals the sum over ``states``, or the ledger is broken.

    ``oldest`` is the age in seconds of the longest due delivery that still waits, by lane; ``scheduled`` counts
    waiting deliveries that are not due yet; ``live`` those that are not settled and due.
    """

    accepted: int
    states: dict[tuple[Lane, State], int]
    oldest: dict[Lane, float]
    scheduled: int
    rejects: int


@dataclass(frozen=True, slots=True)
class Account:
    """A delivery as a proof needs it: by its own id and its message's.

    ``doubts``: how often nobody knew whether it was sent; ``host_lost``: how often, since its host was lost.
    ``overdue``: seconds that its lease is past its term. ``by_hand``: it is sent by the word of a person.
    """

    id: str
    message: str
    rcpt: str
    state: State
    doubts: int = 0
    host_lost: int = 0
    overdue: float = 0.0
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """A brake: nothing of this kind (relay, lane, submission) and name is leased until then (None: until it is lifted).

    ``half_open``: an automatic pause of a relay is over, and one worker at a time may try it with one message; all
    others go on as if it were paused, until a message came through.
    """

    kind: str
    name: str
    until: float | None
    reason: str
    since: float
    actor: str | None = None
    half_open: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """The version of a template that new mail is rendered with, since a person published it."""

    name: str
    digest: str
    at: float
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """What a person did: ``act`` is a verb such as ``pause`` or ``publish``, ``count`` how many rows it changed."""

    at: float
    actor: str
    act: str
    subject: str
    count: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Retired:
    """What one small transaction of retention removed; ``more``: there may be more to remove."""

    submissions: int
    deliveries: int
    more: bool


@dataclass(frozen=True, slots=True)
class Reject:
    """What intake refused: the payload as it came, and why."""

    id: int
    at: float
    door: str
    reference: str
    producer: str
    payload: str
    field: str
    reason: str
    outcome: str | None = None
