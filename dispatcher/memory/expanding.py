"""Rows that become messages of a submission that is there already, in the ledger in memory."""

import json
from collections.abc import Callable, Mapping, Sequence

from dispatcher.campaign import Expanded
from dispatcher.delivery import State
from dispatcher.ledger import storable
from dispatcher.mail import AcceptedDelivery, AcceptedMessage
from dispatcher.memory.rows import SubmissionRow
from dispatcher.memory.store import Store
from dispatcher.records import AttemptRecord
from dispatcher.suppression import Suppression

Held = Callable[[Sequence[str], str | None], Mapping[str, Suppression]]


def add_rows(store: Store, submission: SubmissionRow, rows: Sequence[Expanded], held: Held, now: float) -> None:
    """The messages of these rows; a message has its row's number."""
    suppressed = held([row.address for row in rows], submission.accepted.list)
    for row in rows:
        message = AcceptedMessage(json.loads(row.own), (AcceptedDelivery(row.rcpt),))
        (delivery,) = store.append(submission, row.n, message, row.due_at, now)
        if row.address in suppressed:
            delivery.suppress(suppressed[row.address], now)
        elif row.fault:
            text = storable(row.fault)
            delivery.become(State.INVALID, AttemptRecord(now, State.INVALID, attempted=False, text=text), now)
    submission.count += len(rows)
