"""What the ledger in memory is made of."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dispatcher import ids
from dispatcher.delivery import WAITING, Lane, LeasedDelivery, LeasedMessage, Selector, Settlement, State
from dispatcher.ledger import (
    HOST_LOST,
    KILLED_ITS_WORKER,
    WIPED,
    crashed_with,
    dated,
    keeps_token,
    labels,
    noted,
    reclaimed,
    replaces,
    settled_as,
    storable,
    with_secrets,
)
from dispatcher.mail import Accepted
from dispatcher.records import AttemptRecord, DeliveryRecord
from dispatcher.suppression import Suppression, why


@dataclass(slots=True, eq=False)
class SubmissionRow:
    """One submission with its messages."""

    public_id: str
    seed: int
    accepted: Accepted
    accepted_at: float
    shared: dict[str, Any]
    count: int  # of recipients that were accepted, whatever became of them, but for those that were retired
    messages: list["MessageRow"] = field(default_factory=list)

    @property
    def deliveries(self) -> Iterator["DeliveryRow"]:
        return (delivery for message in self.messages for delivery in message.deliveries)


@dataclass(slots=True, eq=False)
class MessageRow:
    """One message with its recipients."""

    id: int
    submission: SubmissionRow
    n: int
    own: dict[str, Any]
    secrets: dict[str, Any] | None
    sha256: str | None = None
    build: str | None = None
    made: dict[str, Any] | None = None  # the file that was rendered for it
    deliveries: list["DeliveryRow"] = field(default_factory=list)

    @property
    def public_id(self) -> str:
        return ids.message_id(self.submission.public_id, self.submission.seed, self.n)

    @property
    def metadata(self) -> dict[str, Any]:
        return {**self.submission.accepted.metadata, **self.own.get("metadata", {})}

    def view(self, deliveries: Iterable["DeliveryRow"]) -> LeasedMessage:
        """The message as a lease shows it, for some of its recipients."""
        submission, accepted = self.submission, self.submission.accepted
        return LeasedMessage(
            id=self.id,
            public_id=self.public_id,
            submission=submission.public_id,
            lane=Lane(accepted.lane),
            dated=dated(self.own, submission.accepted_at if accepted.send_at is None else accepted.send_at),
            shared=with_secrets(submission.shared, self.secrets, "shared"),
            own=with_secrets(self.own, self.secrets, "own"),
            deliveries=tuple(LeasedDelivery(d.id, d.rcpt, d.attempts, d.expires_at) for d in deliveries),
            template=accepted.template,
            relay=accepted.relay,
            if_in_doubt=accepted.if_in_doubt,
            sha256=self.sha256,
            build=self.build,
        )


@dataclass(slots=True, eq=False)
class DeliveryRow:
    """One recipient, and all that happened to it."""

    id: int
    message: MessageRow
    k: int
    rcpt: str
    kind: str
    due_at: float
    expires_at: float
    changed_at: float
    state: State = State.QUEUED
    attempts: int = 0
    crashes: int = 0
    token: str | None = None
    owner: str | None = None
    lease_until: float = 0.0
    history: list[AttemptRecord] = field(default_factory=list)

    @property
    def lane(self) -> str:
        return self.message.submission.accepted.lane

    @property
    def public_id(self) -> str:
        return ids.delivery_id(self.message.public_id, self.k)

    def become(self, state: State, event: AttemptRecord, now: float) -> None:
        """Take a new state, and note what happened."""
        self.state, self.token, self.owner, self.changed_at = state, None, None, now
        self.history.append(event)

    def suppress(self, held: Suppression, now: float) -> None:
        """It is not to be written to."""
        self.become(State.SUPPRESSED, AttemptRecord(now, State.SUPPRESSED, attempted=False, text=why(held)), now)

    def settle(self, settlement: Settlement, now: float) -> bool:
        """Take what its worker reports, if that may still change anything."""
        crashes, token = crashed_with(self.state, self.crashes, settlement), self.token
        state = settled_as(self.state, settlement, crashes)
        if state is None:
            return False
        # An attempt that left the delivery in doubt was counted then; the late reply belongs to the same one.
        last = self.history[-1] if self.state is not State.LEASED else None
        counted = last is not None and last.state is State.IN_DOUBT and last.attempted
        self.attempts += settlement.attempted and not counted
        self.crashes = crashes
        said, text = noted(settlement, state)
        event = AttemptRecord(
            at=now if settlement.at is None else settlement.at,
            state=said,
            attempted=settlement.attempted,
            relay=settlement.relay,
            phase=settlement.phase,
            code=settlement.code,
            enhanced=settlement.enhanced,
            text=storable(text),
            seconds=settlement.seconds,
        )
        if self.history:
            before = self.history[-1]
            if replaces(settlement, before.state, before.attempted, before.actor, before.text):
                self.history.pop()
        self.become(state, event, now)
        if state in WAITING:
            self.due_at = now + settlement.due_in
        if keeps_token(settlement, state):
            self.token = token
        if settlement.sha256 is not None and self.message.sha256 is None:
            self.message.sha256, self.message.build = settlement.sha256, settlement.build
        return True

    def end_lease(self, now: float) -> None:
        """Its host is lost, and nobody knows what it has sent."""
        token = self.token
        self.crashes += 1
        state = reclaimed(self.message.submission.accepted.if_in_doubt, self.crashes)
        text = KILLED_ITS_WORKER if state is State.INVALID else HOST_LOST
        self.become(state, AttemptRecord(now, State.IN_DOUBT, attempted=False, text=text), now)
        if state in (State.IN_DOUBT, State.QUEUED):
            self.token = token
        if state is State.QUEUED:
            self.due_at = now

    def matches(self, selector: Selector) -> bool:
        """Whether all but the ids of the selector holds."""
        submission = self.message.submission
        accepted = submission.accepted
        wanted = {f"{name}={value}" for name, value in selector.metadata}
        return (
            (not selector.states or self.state in selector.states)
            and (selector.to is None or selector.to.lower() == self.rcpt.lower())
            and selector.lane in (None, Lane(accepted.lane))
            and selector.relay in (None, accepted.relay)
            and selector.producer in (None, accepted.producer)
            and selector.wiped in (None, self.message.secrets == WIPED)
            and selector.key in (None, accepted.key)
            and (selector.since is None or submission.accepted_at >= selector.since)
            and (selector.tag is None or selector.tag in accepted.tags)
            and wanted <= set(labels(self.message.metadata))
        )

    def record(self) -> DeliveryRecord:
        """As the ledger shows it to people."""
        submission = self.message.submission
        last = self.history[-1] if self.history else None
        return DeliveryRecord(
            id=self.public_id,
            submission=submission.public_id,
            message_id=self.message.public_id,
            rcpt=self.rcpt,
            kind=self.kind,
            lane=Lane(self.lane),
            state=self.state,
            attempts=self.attempts,
            accepted_at=submission.accepted_at,
            due_at=self.due_at,
            expires_at=self.expires_at,
            changed_at=self.changed_at,
            template=submission.accepted.template_name,
            tags=tuple(submission.accepted.tags),
            metadata=self.message.metadata,
            relay=last.relay if last else None,
            code=last.code if last else None,
            enhanced=last.enhanced if last else None,
            text=last.text if last else "",
            history=tuple(self.history),
        )


def views(rows: Iterable[DeliveryRow]) -> tuple[LeasedMessage, ...]:
    """These deliveries as a lease shows them, by message."""
    grouped: defaultdict[int, list[DeliveryRow]] = defaultdict(list)
    for row in rows:
        grouped[row.message.id].append(row)
    return tuple(mine[0].message.view(mine) for mine in grouped.values())
