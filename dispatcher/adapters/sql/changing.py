"""What a person changes by hand: cancel, try again, settle what is in doubt. Each change names who did it, and why."""

from collections.abc import Sequence

from sqlalchemy import case, select

from dispatcher.adapters.sql import timeline
from dispatcher.adapters.sql.database import AnyRow, Transaction
from dispatcher.adapters.sql.schema import deliveries, messages, submissions
from dispatcher.adapters.sql.selecting import conditions
from dispatcher.delivery import Actor, Selector, State
from dispatcher.ledger import changeable, signature

_PAGE = 1000


def change(tx: Transaction, selector: Selector, state: State, actor: Actor) -> int:
    """See interfaces.Ledger.change.

    Who is tried again starts over: due now, with all attempts, and with the submission's lifetime from now if its
    own is used up. Raises ValueError for a state that is not a person's to give.
    """
    query = (
        select(deliveries.c.id, deliveries.c.message_id, deliveries.c.last_state, submissions.c.lifetime)
        .join(messages, messages.c.id == deliveries.c.message_id)
        .join(submissions, submissions.c.id == deliveries.c.submission_id)
        .where(conditions(tx, selector), deliveries.c.state.in_([source.value for source in changeable(state)]))
        .order_by(deliveries.c.id.desc())
        .with_for_update(of=deliveries)
    )
    count, before, left = 0, None, selector.limit
    while left is None or count < left:
        size = _PAGE if left is None else min(_PAGE, left - count)
        page = query if before is None else query.where(deliveries.c.id < before)
        rows = tx.execute(page.limit(size)).all()
        if rows:
            _apply(tx, rows, state, actor)
            before = rows[-1].id
        count += len(rows)
        if len(rows) < size:
            break
    return count


def _apply(tx: Transaction, rows: Sequence[AnyRow], state: State, actor: Actor) -> None:
    event = timeline.last(state, tx.now, text=actor.reason, actor=signature(actor))
    if state is not State.QUEUED:
        timeline.change(tx, rows, state, event)
        return
    by_lifetime: dict[float, list[AnyRow]] = {}
    for row in rows:
        by_lifetime.setdefault(row.lifetime, []).append(row)
    for lifetime, group in by_lifetime.items():
        over = deliveries.c.expires_at <= tx.now
        expires = case((over, tx.now + lifetime), else_=deliveries.c.expires_at)
        timeline.change(tx, group, state, event, due_at=tx.now, attempts=0, crashes=0, expires_at=expires)
