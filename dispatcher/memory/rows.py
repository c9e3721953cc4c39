"""What the ledger in memory is made of, and how an id or a Selector finds it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dispatcher import ids
from dispatcher.delivery import Lane, LeasedDelivery, LeasedMessage, Selector, State
from dispatcher.errors import NotFound
from dispatcher.ledger import labels, secrets_of, with_secrets
from dispatcher.mail import Accepted, AcceptedMessage
from dispatcher.records import AttemptRecord, DeliveryRecord


@dataclass(slots=True, eq=False)
class SubmissionRow:
    """One submission with its messages."""

    public_id: str
    seed: int
    accepted: Accepted
    accepted_at: float
    shared: dict[str, Any]
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
            dated=submission.accepted_at if accepted.send_at is None else accepted.send_at,
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
        self.state, self.token, self.changed_at = state, None, now
        self.history.append(event)

    def matches(self, selector: Selector) -> bool:
        """Whether all but the ids of the selector holds."""
        submission = self.message.submission
        accepted = submission.accepted
        wanted = {f"{name}={value}" for name, value in selector.metadata}
        return (
            (not selector.states or self.state in selector.states)
            and selector.to in (None, self.rcpt, self.rcpt.lower()) | _lowered(selector.to, self.rcpt)
            and selector.lane in (None, Lane(accepted.lane))
            and selector.key in (None, accepted.key)
            and (selector.since is None or submission.accepted_at >= selector.since)
            and (selector.tag is None or selector.tag in accepted.tags)
            and wanted <= set(labels(self.message.metadata))
        )
