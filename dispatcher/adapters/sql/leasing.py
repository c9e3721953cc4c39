"""Taking work: a batch of due messages for one worker, what it holds, and the end of leases whose host is lost.

A message row is locked before its deliveries are read, and whoever finds it locked passes on (PostgreSQL; a SQLite
writer is alone anyway). So all recipients of a message go together, and a lease waits for nobody.
"""

import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Integer, Select, and_, bindparam, exists, func, or_, select, update

from dispatcher.adapters.sql import timeline
from dispatcher.adapters.sql.database import AnyRow, Transaction, chunks
from dispatcher.adapters.sql.pausing import Brakes, brakes, passed
from dispatcher.adapters.sql.schema import (
    IN_DUE_INDEX,
    IN_LEASE_INDEX,
    campaigns,
    deliveries,
    messages,
    submissions,
)
from dispatcher.adapters.sql.selecting import of_reports
from dispatcher.adapters.sql.spoken import among, one_of
from dispatcher.adapters.sql.suppressions import of_addresses
from dispatcher.adapters.sql.viewing import NONE, VIEW, Rows, Viewed, rows_of
from dispatcher.delivery import WAITING as WAITING_STATES
from dispatcher.delivery import Lane, Lease, State
from dispatcher.ledger import (
    HOST_LOST,
    KILLED_ITS_WORKER,
    LIFETIME_USED_UP,
    reclaimed,
    together,
)
from dispatcher.suppression import holding, normal, why

_AT_ONCE = 1000  # deliveries that are reclaimed in one go
_IS_WAITING = one_of(deliveries.c.state, [state.value for state in WAITING_STATES])

_OF_LANE = and_(deliveries.c.lane == bindparam("lane"), deliveries.c.due_at <= bindparam("now"))

_HELD = (
    select(*VIEW, deliveries.c.token, deliveries.c.lease_until)
    .join(messages, messages.c.id == deliveries.c.message_id)
    .where(IN_LEASE_INDEX, deliveries.c.owner == bindparam("whose"))
)
_HELD_UP = select(submissions.c.id, submissions.c.lifetime).where(
    among(submissions.c.id),
    exists().where(campaigns.c.submission_id == submissions.c.id) | submissions.c.id.in_(of_reports()),
)
_RENEW = update(deliveries).where(among(deliveries.c.id))
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
    due = {"lane": lane.value, "now": tx.now, **held.parameters()}
    chosen, more = _choose(tx, held, due, limit, named)
    view = _asked(held.kinds()).view
    # Sorted here: they are few and nearly in order, and a database would move all that they hold.
    rows = sorted([Viewed(*row) for chunk in chunks(chosen) for row in tx.rows(view, among=chunk, **due)])
    late = [row for row in rows if row.expires_at <= tx.now]
    if late and (renewed := _renewed(tx, late)):
        rows = [row._replace(expires_at=renewed.get(row.id, row.expires_at)) for row in rows]
        late = [row for row in late if row.id not in renewed]
    timeline.change(tx, late, State.EXPIRED, timeline.last(State.EXPIRED, tx.now, text=LIFETIME_USED_UP))
    good = [row for row in rows if row.expires_at > tx.now] if late else rows
    read = rows_of(tx, good, chosen)
    found = _without_suppressed(tx, read)
    for chunk in chunks([row.id for row in found.rows]):
        tx.run(_TAKE, among=chunk, token=token, lease_until=until, owner=owner, changed_at=tx.now)
    return Taken(token, until, tx.now, more or found is not read, found)


def _renewed(tx: Transaction, late: Sequence[Viewed]) -> dict[int, float]:
    """Those of campaigns and reports that were never tried, and until when they may be: held up by a pause, hours, a
    rate or a stop on their way in for longer than a mail may be tried, they begin with their first attempt."""
    untried = [row for row in late if row.attempts == 0]
    lifetimes = dict(tx.rows(_HELD_UP, among=sorted({row.submission_id for row in untried})))
    renewed = {row.id: tx.now + lifetimes[row.submission_id] for row in untried if row.submission_id in lifetimes}
    for until in set(renewed.values()):
        for chunk in chunks([number for number, expires_at in renewed.items() if expires_at == until]):
            tx.run(_RENEW, among=chunk, expires_at=until)
    return renewed


def _without_suppressed(tx: Transaction, read: Rows) -> Rows:
    """Those that are not suppressed, since they were taken in perhaps; the others are from now on."""
    found = of_addresses(tx, {normal(row.rcpt) for row in read.rows}) if read.rows else {}
    if not found:
        return read
    going: list[Viewed] = []
    suppressed: defaultdict[str, list[Viewed]] = defaultdict(list)
    for row in read.rows:
        held = holding(found.get(normal(row.rcpt), ()), read.submissions[row.submission_id].list)
        (going if held is None else suppressed[why(held)]).append(row)
    for said, those in suppressed.items():
        timeline.change(tx, those, State.SUPPRESSED, timeline.last(State.SUPPRESSED, tx.now, text=said))
    return replace(read, rows=going) if suppressed else read


@dataclass(frozen=True, slots=True)
class Taken:
    """A lease as it was read."""

    token: str
    until: float
    at: float = 0.0
    more: bool = False
    found: Rows = NONE

    def lease(self) -> Lease:
        """As everybody else knows it."""
        return Lease(self.token, self.until, self.found.messages(), self.at, self.more)


def due(tx: Transaction, lane: Lane, limit: int, avoid: Collection[str | None]) -> int:
    """See interfaces.Ledger.due."""
    held = brakes(tx, avoid)
    if lane.value in held.lanes:
        return 0
    of_lane = {"lane": lane.value, "now": tx.now, **held.parameters()}
    ((found,),) = tx.rows(_asked(held.kinds()).number, wanted=limit, **of_lane)
    return int(found)


class _Asked(NamedTuple):
    """What is asked about a lane: which of the named messages are due, and which at all; all of those that were chosen;
    how many."""

    named: Select[int, int]
    choose: Select[int, int]
    view: Select[*tuple[Any, ...]]
    number: Select[int]


@cache
def _asked(held: tuple[bool, bool, bool]) -> _Asked:
    """Where there are brakes of these kinds."""
    due = and_(_OF_LANE, *passed(*held))
    choose = (
        select(messages.c.id, deliveries.c.crashes)
        .join(deliveries, deliveries.c.message_id == messages.c.id)
        .where(due, ~among(messages.c.id, "chosen"))
        .order_by(deliveries.c.due_at)
        .limit(bindparam("wanted", type_=Integer))
        .with_for_update(of=messages, skip_locked=True)
    )
    some = select(deliveries.c.due_at).where(due, IN_DUE_INDEX).limit(bindparam("wanted", type_=Integer)).subquery()
    return _Asked(
        # Not in the index's words, so that SQLite looks these messages up instead of walking through the backlog.
        named=choose.where(_IS_WAITING, among(messages.c.id)),
        choose=choose.where(IN_DUE_INDEX),
        view=select(*VIEW)
        .join(messages, messages.c.id == deliveries.c.message_id)
        .where(due, _IS_WAITING, among(deliveries.c.message_id))
        .with_for_update(of=deliveries, skip_locked=True),
        number=select(func.count()).select_from(some),
    )


def _choose(
    tx: Transaction, held: Brakes, due: Mapping[str, Any], limit: int, named: Sequence[int]
) -> tuple[list[int], bool]:
    """The numbers of up to ``limit`` messages, locked: those named first, then those that are due longest; and whether
    others may not go with them."""
    crashes: dict[int, int] = {}
    asked = _asked(held.kinds())
    for chunk in chunks(named):
        _fill(tx, asked.named, {**due, "among": chunk}, crashes, limit)
    _fill(tx, asked.choose, due, crashes, limit)
    chosen = together(crashes)
    return chosen, len(chosen) < len(crashes)


def _fill(
    tx: Transaction, query: Select[int, int], due: Mapping[str, Any], crashes: dict[int, int], limit: int
) -> None:
    """Add messages until there are ``limit``, or no more. A message comes once for each of its recipients."""
    while (wanted := limit - len(crashes)) > 0:
        rows = tx.rows(query, chosen=list(crashes), wanted=wanted, **due)
        for message, count in rows:
            crashes[message] = max(count, crashes.get(message, 0))
        if len(rows) < wanted:
            break


def held(tx: Transaction, owner: str) -> list[Lease]:
    """See interfaces.Ledger.held."""
    by_lease: defaultdict[tuple[str, float], list[Viewed]] = defaultdict(list)
    # Not sorted by the database: SQLite would walk through all deliveries in the order of their ids for that.
    for *row, token, until in sorted(tx.rows(_HELD, whose=owner)):
        by_lease[token, until].append(Viewed(*row))
    return [
        Lease(token, until, rows_of(tx, rows, _messages_of(rows)).messages(), tx.now)
        for (token, until), rows in by_lease.items()
    ]


def _messages_of(rows: Sequence[Viewed]) -> list[int]:
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
        .where(IN_LEASE_INDEX, deliveries.c.lease_until < tx.now - grace, *([foreign] if living else []))
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
