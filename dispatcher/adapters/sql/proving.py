"""What a proof needs of the ledger: every delivery in a few columns, and the submissions whose sums are wrong."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Column, ColumnElement, and_, bindparam, func, or_, select

from dispatcher import ids
from dispatcher.adapters.sql.database import AnyRow, Database, Transaction
from dispatcher.adapters.sql.schema import attempts, deliveries, messages, submissions
from dispatcher.delivery import State
from dispatcher.ledger import HOST_LOST
from dispatcher.records import Account
from dispatcher.reply import Phase

_PAGE = 5000


def _unknown(state: Column[str], phase: Column[str], code: Column[int]) -> ColumnElement[bool]:
    """Whether an event left unknown whether the mail was sent, as ``records.AttemptRecord.unknown`` has it."""
    return or_(state == State.IN_DOUBT.value, and_(phase == Phase.FINAL.value, code.is_(None)))


_UNKNOWN = _unknown(attempts.c.state, attempts.c.phase, attempts.c.code)
# The page is cut before it is joined: a planner without statistics joins all that is left, each time.
_PAGED = (
    select(
        deliveries.c.id,
        deliveries.c.message_id,
        deliveries.c.submission_id,
        deliveries.c.k,
        deliveries.c.rcpt,
        deliveries.c.state,
        deliveries.c.lease_until,
        deliveries.c.actor,
        _unknown(deliveries.c.last_state, deliveries.c.phase, deliveries.c.code).label("unknown"),
        (deliveries.c.text == HOST_LOST).label("lost"),
    )
    .where(deliveries.c.id > bindparam("after"), deliveries.c.id <= bindparam("last"))
    .order_by(deliveries.c.id)
    .limit(bindparam("size"))
    .subquery()
)
_ROWS = (
    select(_PAGED, messages.c.n, submissions.c.public_id, submissions.c.seed)
    .join(messages, messages.c.id == _PAGED.c.message_id)
    .join(submissions, submissions.c.id == _PAGED.c.submission_id)
    .order_by(_PAGED.c.id)
)
_EARLIER = select(attempts.c.delivery_id, attempts.c.text).where(
    attempts.c.delivery_id.between(bindparam("first"), bindparam("last")), _UNKNOWN
)


def accounts(database: Database) -> Iterator[Account]:
    """See interfaces.Ledger.accounts. Each page is a transaction of its own, so that a slow reader holds nothing."""
    with database.reading() as tx:
        last = tx.execute(select(func.max(deliveries.c.id))).scalar() or 0
    after = 0
    while after < last:
        with database.reading() as tx:
            now = tx.now
            rows = tx.execute(_ROWS, {"after": after, "last": last, "size": _PAGE}).all()
            earlier = _earlier(tx, rows)
        for row in rows:
            yield _account(row, earlier.get(row.id, ()), now)
        after = rows[-1].id if len(rows) == _PAGE else last


def _earlier(tx: Transaction, rows: Sequence[AnyRow]) -> dict[int, list[str]]:
    """The texts of the events before the last that left the outcome unknown, by delivery."""
    found: dict[int, list[str]] = {}
    if rows:
        for number, text in tx.execute(_EARLIER, {"first": rows[0].id, "last": rows[-1].id}):
            found.setdefault(number, []).append(text)
    return found


def _account(row: AnyRow, earlier: Sequence[str], now: float) -> Account:
    _, _, _, k, rcpt, state, until, actor, unknown, lost, n, public_id, seed = row
    message = ids.message_id(public_id, seed, n)
    return Account(
        id=ids.delivery_id(message, k),
        message=message,
        rcpt=rcpt,
        state=State(state),
        doubts=len(earlier) + bool(unknown),
        host_lost=earlier.count(HOST_LOST) + bool(lost),
        overdue=max(0.0, now - until) if state == State.LEASED and until is not None else 0.0,
        by_hand=state == State.SENT and actor is not None,
    )


def unbalanced(tx: Transaction) -> list[tuple[str, int, int]]:
    """See interfaces.Ledger.unbalanced."""
    counted = (
        select(deliveries.c.submission_id, func.count().label("rows")).group_by(deliveries.c.submission_id).subquery()
    )
    rows = func.coalesce(counted.c.rows, 0)
    query = (
        select(submissions.c.public_id, submissions.c.accepted, rows)
        .join(counted, counted.c.submission_id == submissions.c.id, isouter=True)
        .where(submissions.c.accepted != rows)
        .order_by(submissions.c.id)
    )
    return [(public_id, accepted, found) for public_id, accepted, found in tx.execute(query)]
