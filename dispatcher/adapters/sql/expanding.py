"""Rows that become messages of a submission that is there already: of a campaign, or of a report."""

from collections.abc import Sequence

from sqlalchemy import exists, select, update

from dispatcher.adapters.sql import timeline
from dispatcher.adapters.sql.database import Transaction
from dispatcher.adapters.sql.loading import Values, load
from dispatcher.adapters.sql.schema import (
    IN_DOUBT_INDEX,
    IN_DUE_INDEX,
    IN_LEASE_INDEX,
    deliveries,
    messages,
    submissions,
)
from dispatcher.adapters.sql.suppressions import of_addresses
from dispatcher.campaign import Expanded
from dispatcher.delivery import Lane, State
from dispatcher.ledger import storable
from dispatcher.suppression import Suppression, holding
from dispatcher.suppression import why as why_suppressed

_MESSAGE = "id", "submission_id", "n", "own"
_DELIVERY = (
    *("message_id", "k", "rcpt", "kind", "submission_id", "lane", "relay", "state", "due_at", "expires_at"),
    *("changed_at", "attempts", "crashes", *(column.name for column in timeline.LAST_COLUMNS)),
)
_UNTOLD = (None,) * len(timeline.LAST_COLUMNS)


def live(tx: Transaction, submission: int | None) -> bool:
    """Whether any mail of a bulk submission waits, is with a worker, or is held in doubt."""
    mine = deliveries.c.submission_id == submission
    waiting = exists().where(mine, deliveries.c.lane == Lane.BULK.value, IN_DUE_INDEX)
    leased, doubted = exists().where(mine, IN_LEASE_INDEX), exists().where(mine, IN_DOUBT_INDEX)
    return bool(tx.execute(select(waiting | leased | doubted)).scalar())


def _held(tx: Transaction, addresses: Sequence[str], listed: str | None) -> dict[str, Suppression]:
    found = of_addresses(tx, addresses)
    held = {address: holding(theirs, listed) for address, theirs in found.items()}
    return {address: each for address, each in held.items() if each is not None}


def add_rows(tx: Transaction, submission: int, rows: Sequence[Expanded]) -> None:
    """The messages of these rows; a message has its row's number."""
    if not rows:
        return
    parent = tx.execute(select(submissions).where(submissions.c.id == submission)).one()
    held = _held(tx, [row.address for row in rows], parent.list)
    numbers = tx.numbers(messages, len(rows))
    message_rows: list[Values] = []
    delivery_rows: list[Values] = []
    for number, row in zip(numbers, rows, strict=True):
        message_rows.append((number, submission, row.n, row.own))
        state, text = State.QUEUED, row.fault
        if row.address in held:
            state, text = State.SUPPRESSED, why_suppressed(held[row.address])
        elif row.fault:
            state = State.INVALID
        told = _UNTOLD if state is State.QUEUED else timeline.last(state, tx.now, text=storable(text)).values()
        moments = row.due_at, row.due_at + parent.lifetime, tx.now
        delivery_rows.append(
            (number, 1, row.rcpt, "to", submission, parent.lane, parent.relay, state.value, *moments, 0, 0, *told)
        )
    load(tx, messages, _MESSAGE, message_rows)
    load(tx, deliveries, _DELIVERY, delivery_rows)
    more = submissions.c.accepted + len(rows)
    tx.execute(update(submissions).where(submissions.c.id == submission).values(accepted=more))
