"""What a person changes by hand: cancel, try again, settle what is in doubt. Each change names who did it, and why."""

from collections.abc import Callable, Sequence

from sqlalchemy import case, select

from dispatcher.adapters.sql import acting, timeline
from dispatcher.adapters.sql.database import AnyRow, Database, Transaction
from dispatcher.adapters.sql.schema import deliveries, messages, submissions
from dispatcher.adapters.sql.selecting import conditions, of_reports, wiped
from dispatcher.delivery import Actor, Selector, State
from dispatcher.ledger import act_of, changeable, signature
from dispatcher.report_job import ReportState

_PAGE = 1000
# Of reports whose mails are not tried again: that cannot be taken back.
_CANCELLED = deliveries.c.submission_id.in_(of_reports(ReportState.CANCELLED))


def change(database: Database, selector: Selector, state: State, actor: Actor, progress: Callable[[int], None]) -> int:
    """See interfaces.Ledger.change. Ids are looked up at once; then every page is a transaction of its own, so that
    a million deliveries do not keep everybody else from theirs. From the newest down, so that each is met once.

    Who is tried again starts over: due now, with all attempts, and with the submission's lifetime from now if its
    own is used up. Raises ValueError for a state that is not a person's to give.
    """
    sources = deliveries.c.state.in_([source.value for source in changeable(state)])
    with database.reading() as tx:
        where = conditions(tx, selector)
    query = (
        select(deliveries.c.id, deliveries.c.message_id, deliveries.c.last_state, submissions.c.lifetime)
        .join(messages, messages.c.id == deliveries.c.message_id)
        .join(submissions, submissions.c.id == deliveries.c.submission_id)
        .where(where, sources, *([~wiped(), ~_CANCELLED] if state is State.QUEUED else []))
        .order_by(deliveries.c.id.desc())
        .with_for_update(of=deliveries)
    )
    verb, subject = act_of(selector, state)
    count, left, act = 0, selector.limit, None
    page = query
    while left is None or count < left:
        size = _PAGE if left is None else min(_PAGE, left - count)
        with database.writing() as tx:
            rows = tx.execute(page.limit(size)).all()
            if rows:
                _apply(tx, rows, state, actor)
                if act is None:
                    act = acting.record(tx, actor, verb, subject, count=len(rows))
                else:
                    acting.more(tx, act, len(rows))
        count += len(rows)
        progress(len(rows))
        if len(rows) < size:
            break
        page = query.where(deliveries.c.id < rows[-1].id)
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
