"""What is read of a delivery to send it: its row with its message's, and its submission's for all of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Text, select, type_coerce

from dispatcher.adapters.sql.database import Transaction, chunks
from dispatcher.adapters.sql.schema import deliveries, messages, submissions
from dispatcher.adapters.sql.spoken import among
from dispatcher.delivery import Lane, LeasedDelivery, LeasedMessage
from dispatcher.ids import message_id
from dispatcher.ledger import dated, with_secrets

VIEW = (
    deliveries.c.id,
    deliveries.c.message_id,
    deliveries.c.rcpt,
    deliveries.c.attempts,
    deliveries.c.expires_at,
    deliveries.c.last_state,
    messages.c.submission_id,
    messages.c.n,
    type_coerce(messages.c.own, Text).label("own"),
    type_coerce(messages.c.secrets, Text).label("secrets"),
    messages.c.sha256,
    messages.c.build,
)
_SUBMISSIONS = select(
    submissions.c.id,
    submissions.c.public_id,
    submissions.c.seed,
    submissions.c.lane,
    submissions.c.relay,
    submissions.c.template,
    submissions.c.shared,
    submissions.c.accepted_at,
    submissions.c.send_at,
    submissions.c.if_in_doubt,
    submissions.c.list,
).where(among(submissions.c.id))
_LANES = {lane.value: lane for lane in Lane}


class Viewed(NamedTuple):
    """A row of VIEW."""

    id: int
    message_id: int
    rcpt: str
    attempts: int
    expires_at: float
    last_state: str | None
    submission_id: int
    n: int
    own: str
    secrets: str | None
    sha256: str | None
    build: str | None


class _Shared(NamedTuple):
    """A row of _SUBMISSIONS."""

    id: int
    public_id: str
    seed: int
    lane: str
    relay: str | None
    template: str | None
    shared: str
    accepted_at: float
    send_at: float | None
    if_in_doubt: str
    list: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of VIEW, their submissions by number, and the messages in the order that is wanted."""

    rows: Sequence[Viewed]
    submissions: Mapping[int, _Shared]
    order: Sequence[int]

    def messages(self) -> tuple[LeasedMessage, ...]:
        """As messages with their recipients. It takes its time, and the transaction, which others wait for, may end
        before."""
        grouped: dict[int, list[Viewed]] = {number: [] for number in self.order}
        for row in self.rows:
            grouped[row.message_id].append(row)
        groups = [group for group in grouped.values() if group]
        own = _read([group[0].own for group in groups])
        texts = list({submission.shared for submission in self.submissions.values()})  # most often few
        shared = dict(zip(texts, _read(texts), strict=True))
        return tuple(
            _view(submission, shared[submission.shared], mine, group)
            for group, mine in zip(groups, own, strict=True)
            for submission in (self.submissions[group[0].submission_id],)
        )


NONE = Rows((), {}, ())


def rows_of(tx: Transaction, rows: Sequence[Viewed], order: Sequence[int]) -> Rows:
    """Rows of VIEW with their submissions."""
    numbers = chunks(sorted({row.submission_id for row in rows}))
    found = (_Shared(*row) for chunk in numbers for row in tx.rows(_SUBMISSIONS, among=chunk))
    return Rows(rows, {submission.id: submission for submission in found}, order)


def _read(texts: Sequence[str]) -> list[dict[str, Any]]:
    """JSON objects. All in one, they are read in half the time."""
    found: list[dict[str, Any]] = json.loads(f"[{','.join(texts)}]")
    return found


def _view(submission: _Shared, shared: dict[str, Any], own: dict[str, Any], rows: Sequence[Viewed]) -> LeasedMessage:
    first = rows[0]
    if first.secrets is not None:
        hidden = json.loads(first.secrets)
        shared, own = with_secrets(shared, hidden, "shared"), with_secrets(own, hidden, "own")
    return LeasedMessage(
        first.message_id,
        message_id(submission.public_id, submission.seed, first.n),
        submission.public_id,
        _LANES[submission.lane],
        dated(own, submission.accepted_at if submission.send_at is None else submission.send_at),
        shared,
        own,
        tuple([LeasedDelivery(row.id, row.rcpt, row.attempts, row.expires_at) for row in rows]),
        submission.template,
        submission.relay,
        submission.if_in_doubt,
        first.sha256,
        first.build,
    )
