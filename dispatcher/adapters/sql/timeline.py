"""What happened to a delivery: the last of it stands in its row, what came before in the attempts table."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select, update

from dispatcher.adapters.sql.database import AnyRow, Transaction, among, chunks
from dispatcher.adapters.sql.schema import attempts, deliveries, messages
from dispatcher.adapters.sql.selecting import wiped
from dispatcher.delivery import LIVE, SETTLED, State
from dispatcher.ledger import WIPED
from dispatcher.records import AttemptRecord

# attempts' column -> the one of the row
_LAST = {
    attempts.c.state: deliveries.c.last_state,
    attempts.c.at: deliveries.c.last_at,
    attempts.c.attempted: deliveries.c.last_attempted,
    attempts.c.relay: deliveries.c.last_relay,
    attempts.c.phase: deliveries.c.phase,
    attempts.c.code: deliveries.c.code,
    attempts.c.enhanced: deliveries.c.enhanced,
    attempts.c.text: deliveries.c.text,
    attempts.c.seconds: deliveries.c.seconds,
    attempts.c.actor: deliveries.c.actor,
}
LAST_COLUMNS = tuple(_LAST.values())
_STANDING = select(deliveries.c.id, *LAST_COLUMNS).where(among(deliveries.c.id)).order_by(deliveries.c.id)
_MAKE_ROOM = insert(attempts).from_select([attempts.c.delivery_id, *_LAST], _STANDING)


def last(
    state: State,
    at: float,
    *,
    text: str,
    attempted: bool = False,
    relay: str | None = None,
    phase: str | None = None,
    code: int | None = None,
    enhanced: str | None = None,
    seconds: float = 0.0,
    actor: str | None = None,
) -> dict[str, Any]:
    """The values of a row's columns for what happened last."""
    return {
        "last_state": state.value,
        "last_at": at,
        "last_attempted": attempted,
        "last_relay": relay,
        "phase": phase,
        "code": code,
        "enhanced": enhanced,
        "text": text,
        "seconds": seconds,
        "actor": actor,
    }


def make_room(tx: Transaction, rows: Sequence[AnyRow]) -> None:
    """Move what stands in these rows to the attempts table. Rows: ``id``, ``last_state``; locked by the caller."""
    filled = [row.id for row in rows if row.last_state is not None]
    for chunk in chunks(filled):
        tx.execute(_MAKE_ROOM, {"among": chunk})


def change(tx: Transaction, rows: Sequence[AnyRow], state: State, event: dict[str, Any], **values: Any) -> None:
    """Give all these rows one new state, and note what happened. Rows: ``id``, ``message_id``, ``last_state``."""
    make_room(tx, rows)
    changed = {"token": None, "lease_until": None, "owner": None, **event, **values}
    for chunk in chunks([row.id for row in rows]):
        tx.execute(
            update(deliveries).where(deliveries.c.id.in_(chunk)).values(state=state.value, changed_at=tx.now, **changed)
        )
    if state in SETTLED:
        wipe(tx, {row.message_id for row in rows})


def wipe(tx: Transaction, message_ids: set[int]) -> None:
    """Forget the secrets of those messages that are settled throughout, and note that there were some.

    The message is locked before its deliveries are looked at, so that of two who settle its last ones at the same
    time the second sees the first.
    """
    for chunk in chunks(sorted(message_ids)):
        secretive = tx.execute(
            select(messages.c.id)
            .where(messages.c.id.in_(chunk), messages.c.secrets.is_not(None), ~wiped())
            .order_by(messages.c.id)
            .with_for_update()
        ).scalars().all()  # fmt: skip
        if not secretive:
            continue
        live = select(deliveries.c.message_id).where(
            deliveries.c.message_id.in_(secretive), deliveries.c.state.in_([state.value for state in LIVE])
        )
        over = set(secretive) - set(tx.execute(live).scalars())
        tx.execute(update(messages).where(messages.c.id.in_(over)).values(secrets=WIPED))


def histories(tx: Transaction, rows: Sequence[AnyRow]) -> dict[int, tuple[AttemptRecord, ...]]:
    """The timelines, oldest first, by delivery. Rows: ``id`` and LAST_COLUMNS."""
    found: defaultdict[int, list[AttemptRecord]] = defaultdict(list)
    for chunk in chunks([row.id for row in rows]):
        earlier = select(attempts.c.delivery_id, *_LAST).where(attempts.c.delivery_id.in_(chunk))
        for number, *values in tx.execute(earlier.order_by(attempts.c.id)):
            found[number].append(_record(values))
    for row in rows:
        if row.last_state is not None:
            found[row.id].append(_record([getattr(row, column.name) for column in LAST_COLUMNS]))
    return {number: tuple(records) for number, records in found.items()}


def _record(values: Sequence[Any]) -> AttemptRecord:
    state, at, attempted, relay, phase, code, enhanced, text, seconds, actor = values
    return AttemptRecord(at, State(state), attempted, relay, phase, code, enhanced, text, seconds, actor)
