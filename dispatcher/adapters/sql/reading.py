"""Answers: sums, deliveries with their timelines, submissions, and a message to build again."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, func, select, text

from dispatcher import ids
from dispatcher.adapters.sql import timeline
from dispatcher.adapters.sql.database import AnyRow, Database, Transaction
from dispatcher.adapters.sql.schema import WAITING, deliveries, messages, rejects, submissions
from dispatcher.adapters.sql.selecting import conditions, meant
from dispatcher.adapters.sql.viewing import VIEW, Viewed, rows_of
from dispatcher.delivery import Lane, Lease, Selector, State
from dispatcher.errors import NotFound
from dispatcher.records import DeliveryRecord, SubmissionRecord, Totals

_PAGE = 500
_RECORD = (
    deliveries,
    messages.c.n,
    messages.c.own,
    submissions.c.public_id,
    submissions.c.seed,
    submissions.c.accepted_at,
    submissions.c.template_name,
    submissions.c.tags,
    submissions.c.metadata,
)


def totals(tx: Transaction) -> Totals:
    """See interfaces.Ledger.totals."""
    states = select(deliveries.c.lane, deliveries.c.state, func.count())
    counted = tx.execute(states.group_by(deliveries.c.lane, deliveries.c.state))
    waiting = select(deliveries.c.lane, func.min(deliveries.c.due_at)).where(text(WAITING))
    oldest = tx.execute(waiting.where(deliveries.c.due_at <= tx.now).group_by(deliveries.c.lane))
    lanes = [lane.value for lane in Lane]  # named, because the index begins with the lane
    later = select(func.count()).where(text(WAITING), deliveries.c.lane.in_(lanes), deliveries.c.due_at > tx.now)
    return Totals(
        accepted=tx.execute(select(func.coalesce(func.sum(submissions.c.accepted), 0))).scalar_one(),
        states={(Lane(lane), State(state)): count for lane, state, count in counted},
        oldest={Lane(lane): tx.now - due_at for lane, due_at in oldest},
        scheduled=tx.execute(later.select_from(deliveries)).scalar_one(),
        rejects=tx.execute(select(func.count()).where(rejects.c.outcome.is_(None))).scalar_one(),
    )


def find(database: Database, selector: Selector) -> Iterator[DeliveryRecord]:
    """See interfaces.Ledger.find. Ids are looked up at once; then every page is a transaction of its own, so that
    a slow reader holds nothing."""
    with database.reading() as tx:
        where = conditions(tx, selector)
    return _pages(database, where, selector.limit)


def count(tx: Transaction, selector: Selector) -> int:
    """See interfaces.Ledger.count."""
    query = (
        select(func.count())
        .select_from(deliveries)
        .join(messages, messages.c.id == deliveries.c.message_id)
        .join(submissions, submissions.c.id == deliveries.c.submission_id)
        .where(conditions(tx, selector))
    )
    return int(tx.execute(query).scalar_one())


def _pages(database: Database, where: ColumnElement[bool], limit: int | None) -> Iterator[DeliveryRecord]:
    query = (
        select(*_RECORD)
        .join(messages, messages.c.id == deliveries.c.message_id)
        .join(submissions, submissions.c.id == deliveries.c.submission_id)
        .where(where)
        .order_by(deliveries.c.id.desc())
    )
    before: int | None = None
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        page = query if before is None else query.where(deliveries.c.id < before)
        with database.reading() as tx:
            rows = tx.execute(page.limit(size)).all()
            histories = timeline.histories(tx, rows)
        for row in rows:
            yield _record(row, histories.get(row.id, ()))
        if len(rows) < size:
            return
        before = rows[-1].id
        left = None if left is None else left - len(rows)


def _record(row: AnyRow, history: tuple[Any, ...]) -> DeliveryRecord:
    message = ids.message_id(row.public_id, row.seed, row.n)
    return DeliveryRecord(
        id=ids.delivery_id(message, row.k),
        submission=row.public_id,
        message_id=message,
        rcpt=row.rcpt,
        kind=row.kind,
        lane=Lane(row.lane),
        state=State(row.state),
        attempts=row.attempts,
        accepted_at=row.accepted_at,
        due_at=row.due_at,
        expires_at=row.expires_at,
        changed_at=row.changed_at,
        template=row.template_name,
        tags=tuple(row.tags),
        metadata={**row.metadata, **row.own.get("metadata", {})},
        relay=row.last_relay,
        code=row.code,
        enhanced=row.enhanced,
        text=row.text or "",
        history=history,
    )


def submission(tx: Transaction, public_id: str) -> SubmissionRecord:
    """See interfaces.Ledger.submission."""
    found = meant(tx, (public_id,))
    owners = select(deliveries.c.submission_id).where(found.condition()).limit(1)
    row = tx.execute(select(submissions).where(submissions.c.id == owners.scalar_subquery())).one_or_none()
    if row is None:  # a campaign that was just started
        raise NotFound(f"{public_id!r} has no mail yet")
    counted = tx.execute(
        select(deliveries.c.state, func.count())
        .where(deliveries.c.submission_id == row.id)
        .group_by(deliveries.c.state)
    )
    return SubmissionRecord(
        id=row.public_id,
        lane=Lane(row.lane),
        accepted=row.accepted,
        accepted_at=row.accepted_at,
        states={State(state): count for state, count in counted},
        key=row.key,
        template=row.template_name,
        tags=tuple(row.tags),
    )


def message(tx: Transaction, delivery: str) -> Lease:
    """See interfaces.Ledger.message."""
    found = meant(tx, (delivery,))
    number = tx.execute(select(func.min(deliveries.c.message_id)).where(found.condition())).scalar_one()
    query = select(*VIEW).join(messages, messages.c.id == deliveries.c.message_id)
    found_rows = tx.execute(query.where(deliveries.c.message_id == number).order_by(deliveries.c.id))
    rows = [Viewed(*row) for row in found_rows]
    return Lease("", 0.0, rows_of(tx, rows, [number]).messages())
