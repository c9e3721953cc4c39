"""What became of leased deliveries: compare-and-set on the lease's token, many at a time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, null, select, update

from dispatcher.adapters.sql import braking, timeline
from dispatcher.adapters.sql.database import Transaction, chunks
from dispatcher.adapters.sql.schema import deliveries, messages, submissions
from dispatcher.adapters.sql.spoken import among
from dispatcher.adapters.sql.suppressions import put
from dispatcher.delivery import SETTLED, WAITING, Lane, Settlement, State
from dispatcher.ids import message_id
from dispatcher.ledger import bounced, crashed_with, keeps_token, noted, replaces, settled_as
from dispatcher.suppression import by_bounce

_SETTLE = update(deliveries).where(deliveries.c.id == bindparam("number")).values(lease_until=null(), owner=null())
_BUILT = update(messages).where(messages.c.id == bindparam("number"), messages.c.sha256.is_(None))
_OWNED = (
    select(
        deliveries.c.id,
        deliveries.c.message_id,
        deliveries.c.submission_id,
        deliveries.c.lane,
        deliveries.c.state,
        deliveries.c.due_at,
        deliveries.c.attempts,
        deliveries.c.crashes,
        deliveries.c.last_state,
        deliveries.c.last_attempted,
        deliveries.c.text,
        deliveries.c.actor,
        messages.c.sha256,
        messages.c.secrets.is_not(None).label("secretive"),
    )
    .join(messages, messages.c.id == deliveries.c.message_id)
    .where(among(deliveries.c.id), deliveries.c.token == bindparam("mine"))
    .order_by(deliveries.c.id)
    .with_for_update(of=deliveries)
)
_OTHERS = deliveries.alias("others")
_RECIPIENTS = (
    select(
        deliveries.c.id,
        deliveries.c.rcpt,
        select(func.count()).where(_OTHERS.c.message_id == deliveries.c.message_id).scalar_subquery(),
        submissions.c.public_id,
        submissions.c.seed,
        messages.c.n,
    )
    .join(messages, messages.c.id == deliveries.c.message_id)
    .join(submissions, submissions.c.id == deliveries.c.submission_id)
    .where(among(deliveries.c.id))
)
_STATES = {state.value: state for state in State}


class _Owned(NamedTuple):
    """A row of _OWNED."""

    id: int
    message_id: int
    submission_id: int
    lane: str
    state: str
    due_at: float
    attempts: int
    crashes: int
    last_state: str | None
    last_attempted: bool | None
    text: str | None
    actor: str | None
    sha256: str | None
    secretive: bool


class _Change(NamedTuple):
    """What a settlement makes of a row: the next state, and how often its worker ended with it."""

    row: _Owned
    settlement: Settlement
    state: State
    crashes: int


def settle(tx: Transaction, token: str, settlements: Sequence[Settlement]) -> int:
    """See interfaces.Ledger.settle."""
    changes = _changes(_owned(tx, token, [settlement.delivery for settlement in settlements]), settlements)
    timeline.make_room(tx, [change.row.id for change in changes if _makes_history(change)])
    tx.many(_SETTLE, [_values(tx, token, change) for change in changes])
    tx.many(_BUILT, _built(changes))
    timeline.wipe(tx, {change.row.message_id for change in changes if change.row.secretive and change.state in SETTLED})
    _suppress(tx, {each.row.id: each.settlement for each in changes if _is_gone(each)})
    _brake(tx, changes)
    return len(changes)


def _is_gone(change: _Change) -> bool:
    return change.state is State.BOUNCED and by_bounce(change.settlement)


def _suppress(tx: Transaction, gone: dict[int, Settlement]) -> None:
    """Nothing is sent any more to whom the relay does not know."""
    if not gone:
        return
    rows = (row for chunk in chunks(list(gone)) for row in tx.rows(_RECIPIENTS, among=chunk))
    new = [
        bounced(rcpt, gone[number], message_id(*names))
        for number, rcpt, recipients, *names in rows
        if by_bounce(gone[number], recipients)
    ]
    put(tx, new)


def _owned(tx: Transaction, token: str, numbers: list[int]) -> dict[int, _Owned]:
    """Which of these deliveries the token still owns, locked."""
    rows = (row for chunk in chunks(numbers) for row in tx.rows(_OWNED, among=chunk, mine=token))
    return {row[0]: _Owned(*row) for row in rows}


def _changes(owned: dict[int, _Owned], settlements: Sequence[Settlement]) -> list[_Change]:
    changes = []
    for settlement in settlements:
        row = owned.pop(settlement.delivery, None)  # the first word on a delivery counts
        if row is None:
            continue
        current = _STATES[row.state]
        crashes = crashed_with(current, row.crashes, settlement)
        state = settled_as(current, settlement, crashes)
        if state is not None:
            changes.append(_Change(row, settlement, state, crashes))
    return changes


def _brake(tx: Transaction, changes: Sequence[_Change]) -> None:
    """Tell the campaigns among them."""
    told: dict[int, list[Settlement]] = {}
    for change in changes:
        if change.row.lane == Lane.BULK:  # a campaign's mails are
            told.setdefault(change.row.submission_id, []).append(change.settlement)
    if told:
        braking.feed(tx, told)


def _makes_history(change: _Change) -> bool:
    row = change.row
    return row.last_state is not None and not replaces(
        change.settlement, row.last_state, row.last_attempted, row.actor, row.text
    )


def _values(tx: Transaction, token: str, change: _Change) -> dict[str, Any]:
    row, settlement, state, crashes = change
    # An attempt that left the delivery in doubt was counted then; the late reply belongs to the same one.
    counted = row.state != State.LEASED and row.last_state == State.IN_DOUBT and row.last_attempted
    said, text = noted(settlement, state)
    return {
        "number": row.id,
        "state": str(state),
        "due_at": tx.now + settlement.due_in if state in WAITING else row.due_at,
        "changed_at": tx.now,
        "attempts": row.attempts + (settlement.attempted and not counted),
        "crashes": crashes,
        "token": token if keeps_token(settlement, state) else None,
        **timeline.last(
            said,
            tx.now if settlement.at is None else settlement.at,
            text=text,
            attempted=settlement.attempted,
            relay=settlement.relay,
            phase=settlement.phase and str(settlement.phase),  # a driver is slow with what is not just a text
            code=settlement.code,
            enhanced=settlement.enhanced,
            seconds=settlement.seconds,
        ),
    }


def _built(changes: Sequence[_Change]) -> list[dict[str, Any]]:
    """What the messages were sent as, once for each that has no record of it yet."""
    return list(
        {
            row.message_id: {"number": row.message_id, "sha256": settled.sha256, "build": settled.build}
            for row, settled, *_ in changes
            if row.sha256 is None and settled.sha256 is not None
        }.values()
    )
