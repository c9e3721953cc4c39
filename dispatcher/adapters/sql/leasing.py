"""Taking work: a batch of due messages for one worker, what it holds, and the end of leases whose host is lost.

A message row is locked before its deliveries are read, and whoever finds it locked passes on (PostgreSQL; a SQLite
writer is alone anyway). So all recipients of a message go together, and a lease waits for nobody.
"""

import json
import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from sqlalchemy import ColumnElement, Select, Text, and_, func, or_, select, text, type_coerce, update

from dispatcher.adapters.sql import timeline
from dispatcher.adapters.sql.database import AnyRow, Transaction, among, chunks
from dispatcher.adapters.sql.pausing import Brakes, brakes
from dispatcher.adapters.sql.schema import WAITING, deliveries, messages, submissions
from dispatcher.delivery import WAITING as WAITING_STATES
from dispatcher.delivery import Lane, Lease, LeasedDelivery, LeasedMessage, State
from dispatcher.ids import message_id
from dispatcher.ledger import (
    HOST_LOST,
    KILLED_ITS_WORKER,
    LIFETIME_USED_UP,
    reclaimed,
    together,
    with_secrets,
)

_AT_ONCE = 1000  # deliveries that are reclaimed in one go
_IS_WAITING = deliveries.c.state.in_(sorted(WAITING_STATES))
# In the words of the partial index: with bound parameters, a planner could not see that the index has these rows.
_IN_DUE_INDEX = and_(text(WAITING))
_IN_LEASE_INDEX = and_(text("state = 'leased'"))

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
    type_coerce(submissions.c.shared, Text).label("shared"),
    submissions.c.accepted_at,
    submissions.c.send_at,
    submissions.c.if_in_doubt,
).where(among(submissions.c.id))
_TAKE = update(deliveries).where(among(deliveries.c.id)).values(state=State.LEASED.value)


def lease(
    tx: Transaction,
    lane: Lane,
    *,
    limit: int,
    seconds: float,
    owner: str,
    named: Sequence[int],
    avoid: Collection[str | None],
) -> "Taken":
    """See interfaces.Ledger.lease."""
    token, until = secrets.token_hex(16), tx.now + seconds
    held = brakes(tx, avoid)
    if lane.value in held.lanes:
        return Taken(token, until)
    chosen, more = _choose(tx, _due(tx, lane, held), limit, named)
    if not chosen:
        return Taken(token, until)
    query = (
        select(*VIEW)
        .join(messages, messages.c.id == deliveries.c.message_id)
        .where(_due(tx, lane, held), _IS_WAITING, among(deliveries.c.message_id))
        .order_by(deliveries.c.id)
        .with_for_update(of=deliveries, skip_locked=True)
    )
    rows = [row for chunk in chunks(chosen) for row in tx.execute(query, {"among": chunk}).all()]
    late = [row for row in rows if row.expires_at <= tx.now]
    timeline.change(tx, late, State.EXPIRED, timeline.last(State.EXPIRED, tx.now, text=LIFETIME_USED_UP))
    good = [row for row in rows if row.expires_at > tx.now]
    for chunk in chunks([row.id for row in good]):
        mine = {"token": token, "lease_until": until, "owner": owner, "changed_at": tx.now}
        tx.execute(_TAKE, {"among": chunk, **mine})
    return Taken(token, until, tx.now, more, rows_of(tx, good, chosen))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of VIEW, their submissions by number, and the messages in the order that is wanted."""

    rows: Sequence[AnyRow] = ()
    submissions: Mapping[int, AnyRow] = field(default_factory=dict)
    order: Sequence[int] = ()

    def messages(self) -> tuple[LeasedMessage, ...]:
        """As messages with their recipients. It takes its time, and the transaction, which others wait for, may end
        before."""
        grouped: defaultdict[int, list[AnyRow]] = defaultdict(list)
        for row in self.rows:
            grouped[row.message_id].append(row)
        return tuple(
            _view(self.submissions[grouped[number][0].submission_id], grouped[number])
            for number in self.order
            if number in grouped
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """A lease as it was read."""

    token: str
    until: float
    at: float = 0.0
    more: bool = False
    found: Rows = Rows()

    def lease(self) -> Lease:
        """As everybody else knows it."""
        return Lease(self.token, self.until, self.found.messages(), self.at, self.more)


def due(tx: Transaction, lane: Lane, limit: int, avoid: Collection[str | None]) -> int:
    """See interfaces.Ledger.due."""
    held = brakes(tx, avoid)
    if lane.value in held.lanes:
        return 0
    some = select(deliveries.c.due_at).where(_due(tx, lane, held), _IN_DUE_INDEX).limit(limit).subquery()
    return tx.execute(select(func.count()).select_from(some)).scalar_one()


def _due(tx: Transaction, lane: Lane, held: Brakes) -> ColumnElement[bool]:
    return and_(deliveries.c.lane == lane.value, deliveries.c.due_at <= tx.now, *held.passed())


def _choose(tx: Transaction, due: ColumnElement[bool], limit: int, named: Sequence[int]) -> tuple[list[int], bool]:
    """The numbers of up to ``limit`` messages, locked: those named first, then those that are due longest; and whether
    others may not go with them."""
    crashes: dict[int, int] = {}
    query = (
        select(messages.c.id, deliveries.c.crashes)
        .join(deliveries, deliveries.c.message_id == messages.c.id)
        .where(due)
        .order_by(deliveries.c.due_at)
        .with_for_update(of=messages, skip_locked=True)
    )
    for chunk in chunks(named):
        # Not in the index's words, so that SQLite looks these messages up instead of walking through the backlog.
        _fill(tx, query.where(_IS_WAITING, messages.c.id.in_(chunk)), crashes, limit)
    _fill(tx, query.where(_IN_DUE_INDEX), crashes, limit)
    chosen = together(crashes)
    return chosen, len(chosen) < len(crashes)


def _fill(tx: Transaction, query: Select[int, int], crashes: dict[int, int], limit: int) -> None:
    """Add messages until there are ``limit``, or no more. A message comes once for each of its recipients."""
    while (wanted := limit - len(crashes)) > 0:
        rows = tx.execute(query.where(messages.c.id.not_in(list(crashes))).limit(wanted)).all()
        for message, count in rows:
            crashes[message] = max(count, crashes.get(message, 0))
        if len(rows) < wanted:
            break


def rows_of(tx: Transaction, rows: Sequence[AnyRow], order: Sequence[int]) -> Rows:
    """Rows of VIEW with their submissions."""
    found: dict[int, AnyRow] = {}
    for chunk in chunks(sorted({row.submission_id for row in rows})):
        found |= {row.id: row for row in tx.execute(_SUBMISSIONS, {"among": chunk}).all()}
    return Rows(rows, found, order)


def _view(submission: AnyRow, rows: list[AnyRow]) -> LeasedMessage:
    first = rows[0]
    hidden = json.loads(first.secrets) if first.secrets is not None else None
    return LeasedMessage(
        id=first.message_id,
        public_id=message_id(submission.public_id, submission.seed, first.n),
        submission=submission.public_id,
        lane=Lane(submission.lane),
        dated=submission.accepted_at if submission.send_at is None else submission.send_at,
        shared=with_secrets(json.loads(submission.shared), hidden, "shared"),
        own=with_secrets(json.loads(first.own), hidden, "own"),
        deliveries=tuple(LeasedDelivery(row.id, row.rcpt, row.attempts, row.expires_at) for row in rows),
        template=submission.template,
        relay=submission.relay,
        if_in_doubt=submission.if_in_doubt,
        sha256=first.sha256,
        build=first.build,
    )


def held(tx: Transaction, owner: str) -> list[Lease]:
    """See interfaces.Ledger.held."""
    query = (
        select(*VIEW, deliveries.c.token, deliveries.c.lease_until)
        .join(messages, messages.c.id == deliveries.c.message_id)
        .where(_IN_LEASE_INDEX, deliveries.c.owner == owner)
    )
    by_token: defaultdict[str, list[AnyRow]] = defaultdict(list)
    # Not sorted by the database: SQLite would walk through all deliveries in the order of their ids for that.
    for row in sorted(tx.execute(query), key=attrgetter("id")):
        by_token[row.token].append(row)
    return [
        Lease(token, rows[0].lease_until, rows_of(tx, rows, _messages_of(rows)).messages(), tx.now)
        for token, rows in by_token.items()
    ]


def _messages_of(rows: Sequence[AnyRow]) -> list[int]:
    return list(dict.fromkeys(row.message_id for row in rows))


def reclaim(tx: Transaction, living: Collection[str], grace: float) -> int:
    """See interfaces.Ledger.reclaim."""
    foreign = or_(deliveries.c.owner.is_(None), deliveries.c.owner.not_in(sorted(living)))
    query = (
        select(
            deliveries.c.id,
            deliveries.c.message_id,
            deliveries.c.crashes,
            deliveries.c.last_state,
            submissions.c.if_in_doubt,
        )
        .join(submissions, submissions.c.id == deliveries.c.submission_id)
        .where(_IN_LEASE_INDEX, deliveries.c.lease_until < tx.now - grace, *([foreign] if living else []))
        .order_by(deliveries.c.lease_until)
        .limit(_AT_ONCE)
        .with_for_update(of=deliveries, skip_locked=True)
    )
    count = 0
    while rows := tx.execute(query).all():
        count += len(rows)
        _end(tx, rows)
    return count


def _end(tx: Transaction, rows: Sequence[AnyRow]) -> None:
    going: defaultdict[State, list[AnyRow]] = defaultdict(list)
    for row in rows:
        going[reclaimed(row.if_in_doubt, row.crashes + 1)].append(row)
    unknown = timeline.last(State.IN_DOUBT, tx.now, text=HOST_LOST)
    hopeless = timeline.last(State.IN_DOUBT, tx.now, text=KILLED_ITS_WORKER)  # nor does anybody know of this one
    crashes = deliveries.c.crashes + 1
    # The token stays, so that a reply which its worker still knows is taken, as long as nobody has leased it again.
    kept = {"token": deliveries.c.token, "crashes": crashes}
    timeline.change(tx, going[State.QUEUED], State.QUEUED, unknown, due_at=tx.now, **kept)
    timeline.change(tx, going[State.INVALID], State.INVALID, hopeless, crashes=crashes)
    timeline.change(tx, going[State.IN_DOUBT], State.IN_DOUBT, unknown, **kept)
