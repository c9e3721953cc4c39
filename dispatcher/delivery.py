"""One recipient's way from accepted to settled: the states, the transitions that are allowed, and the lease."""

import enum
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Lane(enum.StrEnum):
    """A queue of its own with workers of its own, so that a password reset never waits behind a newsletter."""

    TRANSACTIONAL = "transactional"
    BULK = "bulk"

    @property
    def queue(self) -> str:
        """The Celery queue that carries the lane's bells."""
        return f"mail.{self.value}"


class State(enum.StrEnum):
    """Where a delivery stands. ``queued`` with a due time in the future is what people call scheduled."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    LEASED = "leased"
    IN_DOUBT = "in_doubt"
    SENT = "sent"
    BOUNCED = "bounced"
    EXPIRED = "expired"
    INVALID = "invalid"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"

    __hash__ = str.__hash__  # as their texts, to which they are equal; an enumeration's own one is slower


WAITING = frozenset({State.QUEUED, State.DEFERRED})
LIVE = WAITING | {State.LEASED, State.IN_DOUBT}
SETTLED = frozenset(State) - LIVE
UNSENT = SETTLED - {State.SENT}

TRANSITIONS: dict[State, frozenset[State]] = {
    # Sent and bounced: a worker whose lease was ended still knew the reply.
    State.QUEUED: frozenset(
        {State.LEASED, State.CANCELLED, State.EXPIRED, State.SUPPRESSED, State.SENT, State.BOUNCED}
    ),
    State.DEFERRED: frozenset({State.LEASED, State.CANCELLED, State.EXPIRED, State.SUPPRESSED, State.QUEUED}),
    State.LEASED: frozenset(
        {State.SENT, State.DEFERRED, State.BOUNCED, State.EXPIRED, State.QUEUED, State.IN_DOUBT, State.INVALID}
    ),
    State.IN_DOUBT: frozenset({State.QUEUED, State.SENT, State.BOUNCED, State.CANCELLED}),
    # A person may ask for another try of what ended without being sent.
    State.BOUNCED: frozenset({State.QUEUED}),
    State.EXPIRED: frozenset({State.QUEUED}),
    State.INVALID: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
    State.SUPPRESSED: frozenset({State.QUEUED}),
    State.SENT: frozenset(),
}


class LeasedDelivery(NamedTuple):
    """One recipient of a leased message. ``attempts`` counts SMTP transactions that were begun before this one."""

    id: int
    rcpt: str
    attempts: int
    expires_at: float


class LeasedMessage(NamedTuple):
    """All that is needed to render, build and send one message again, byte for byte.

    ``shared`` is the submission's content as JSON values (see ``intake.Accepted.shared``), ``own`` the message's.
    Times are seconds since the epoch, UTC.
    """

    id: int
    public_id: str
    submission: str
    lane: Lane
    dated: float
    shared: dict[str, Any]
    own: dict[str, Any]
    deliveries: tuple[LeasedDelivery, ...]
    template: str | None
    relay: str | None
    if_in_doubt: str
    sha256: str | None
    build: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """A batch of messages that one worker owns from ``taken`` until ``until`` (the ledger's clock, seconds since the
    epoch).

    ``token`` is compared at every settle: whoever holds an older token changes nothing. ``more``: others were due that
    may not go together with these.
    """

    token: str
    until: float
    messages: tuple[LeasedMessage, ...] = ()
    taken: float = 0.0
    more: bool = False


class Settlement(NamedTuple):
    """What becomes of one leased delivery: its next state and what to remember of the attempt.

    ``due_in``: seconds from the ledger's now until it is due again (queued and deferred only).
    ``attempted``: an SMTP transaction was begun, so an attempt is spent and kept in the attempts table.
    ``crashed``: its process died with it. ``in_doubt``: what is known is that nobody knows; ``state`` says what is to
    be done about it (in doubt: held), and the timeline says in doubt.
    """

    delivery: int
    message: int
    state: State
    attempted: bool
    due_in: float = 0.0
    code: int | None = None
    enhanced: str | None = None
    text: str = ""
    relay: str | None = None
    phase: str | None = None
    seconds: float = 0.0
    at: float | None = None
    sha256: str | None = None
    build: str | None = None
    crashed: bool = False
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changed something by hand, from where, and why; kept with the change."""

    name: str
    host: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Selector:
    """Which deliveries a person means. All that is given must hold; empty means any.

    ``relay`` is the one that was asked for; ``wiped``: whether sensitive data was forgotten when they were settled.
    """

    ids: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    to: str | None = None
    tag: str | None = None
    key: str | None = None
    producer: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    since: float | None = None
    lane: Lane | None = None
    relay: str | None = None
    wiped: bool | None = None
    limit: int | None = field(default=None)
