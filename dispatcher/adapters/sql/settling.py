"""What became of leased deliveries: compare-and-set on the lease's token, many at a time."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, bindparam, select, update

from dispatcher.adapters.sql import timeline
from dispatcher.adapters.sql.database import Transaction, chunks
from dispatcher.adapters.sql.schema import deliveries, messages
from dispatcher.delivery import SETTLED, WAITING, Settlement, State
from dispatcher.ledger import settled_as

_VALUES = (
    *("state", "due_at", "changed_at", "attempts", "token", "lease_until", "owner"),
    *(column.name for column in timeline.LAST_COLUMNS),
)
# Compiled once. The names of the parameters differ from the columns', which SQLAlchemy keeps for itself in an UPDATE.
_UPDATE = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("to_id"))
    .values({name: bindparam(f"to_{name}") for name in _VALUES})
)
_BUILT = (
    update(messages)
    .where(messages.c.id == bindparam("to_id"), messages.c.sha256.is_(None))
    .values(sha256=bindparam("to_sha256"), build=bindparam("to_build"))
)


def settle(tx: Transaction, token: str, settlements: Sequence[Settlement]) -> int:
    """See interfaces.Ledger.settle."""
    owned = _owned(tx, token, [settlement.delivery for settlement in settlements])
    pairs: list[tuple[Row[Any], Settlement, State]] = []
    for settlement in settlements:
        row = owned.pop(settlement.delivery, None)  # the first word on a delivery counts
        state = settled_as(State(row.state), settlement.state) if row else None
        if row is not None and state is not None:
            pairs.append((row, settlement, state))
    timeline.make_room(tx, [row for row, _, _ in pairs])
    tx.many(_UPDATE, [_values(tx, token, *pair) for pair in pairs])
    tx.many(_BUILT, _built(pairs))
    timeline.wipe(tx, {row.message_id for row, _, state in pairs if row.secretive and state in SETTLED})
    return len(pairs)


def _owned(tx: Transaction, token: str, numbers: list[int]) -> dict[int, Row[Any]]:
    """Which of these deliveries the token still owns, locked."""
    found: dict[int, Row[Any]] = {}
    for chunk in chunks(numbers):
        query = (
            select(
                deliveries.c.id,
                deliveries.c.message_id,
                deliveries.c.state,
                deliveries.c.due_at,
                deliveries.c.attempts,
                deliveries.c.last_state,
                deliveries.c.last_attempted,
                messages.c.sha256,
                messages.c.secrets.is_not(None).label("secretive"),
            )
            .join(messages, messages.c.id == deliveries.c.message_id)
            .where(deliveries.c.id.in_(chunk), deliveries.c.token == token)
            .order_by(deliveries.c.id)
            .with_for_update(of=deliveries)
        )
        found |= {row.id: row for row in tx.execute(query)}
    return found


def _values(tx: Transaction, token: str, row: Row[Any], settlement: Settlement, state: State) -> dict[str, Any]:
    # An attempt that left the delivery in doubt was counted then; the late reply belongs to the same one.
    counted = row.state == State.IN_DOUBT and row.last_attempted
    values = {
        "id": row.id,
        "state": state.value,
        "due_at": tx.now + settlement.due_in if state in WAITING else row.due_at,
        "changed_at": tx.now,
        "attempts": row.attempts + (settlement.attempted and not counted),
        "token": token if state is State.IN_DOUBT else None,
        "lease_until": None,
        "owner": None,
        **timeline.last(
            settlement.state,
            tx.now if settlement.at is None else settlement.at,
            text=settlement.text,
            attempted=settlement.attempted,
            relay=settlement.relay,
            phase=settlement.phase,
            code=settlement.code,
            enhanced=settlement.enhanced,
            seconds=settlement.seconds,
        ),
    }
    return {f"to_{name}": value for name, value in values.items()}


def _built(pairs: list[tuple[Row[Any], Settlement, State]]) -> list[dict[str, Any]]:
    """What the messages were sent as, once for each that has no record of it yet."""
    return list(
        {
            row.message_id: {"to_id": row.message_id, "to_sha256": settled.sha256, "to_build": settled.build}
            for row, settled, _ in pairs
            if row.sha256 is None and settled.sha256 is not None
        }.values()
    )
