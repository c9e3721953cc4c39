"""What became of leased deliveries: compare-and-set on the lease's token, many at a time."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select, update

from dispatcher.adapters.sql import timeline
from dispatcher.adapters.sql.database import AnyRow, Transaction, among, chunks
from dispatcher.adapters.sql.schema import deliveries, messages
from dispatcher.delivery import SETTLED, WAITING, Settlement, State
from dispatcher.ledger import crashed_with, keeps_token, noted, replaces, settled_as

_SETTLE = update(deliveries).where(deliveries.c.id == bindparam("number"))
_BUILT = update(messages).where(messages.c.id == bindparam("number"), messages.c.sha256.is_(None))
_OWNED = (
    select(
        deliveries.c.id,
        deliveries.c.message_id,
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


def settle(tx: Transaction, token: str, settlements: Sequence[Settlement]) -> int:
    """See interfaces.Ledger.settle."""
    owned = _owned(tx, token, [settlement.delivery for settlement in settlements])
    pairs: list[tuple[AnyRow, Settlement, State]] = []
    for settlement in settlements:
        row = owned.pop(settlement.delivery, None)  # the first word on a delivery counts
        state = _led_to(row, settlement) if row else None
        if row is not None and state is not None:
            pairs.append((row, settlement, state))
    timeline.make_room(tx, [row for row, settled, _ in pairs if not _replaced(row, settled)])
    tx.many(_SETTLE, [_values(tx, token, *pair) for pair in pairs])
    tx.many(_BUILT, _built(pairs))
    timeline.wipe(tx, {row.message_id for row, _, state in pairs if row.secretive and state in SETTLED})
    return len(pairs)


def _owned(tx: Transaction, token: str, numbers: list[int]) -> dict[int, AnyRow]:
    """Which of these deliveries the token still owns, locked."""
    found: dict[int, AnyRow] = {}
    for chunk in chunks(numbers):
        found |= {row.id: row for row in tx.execute(_OWNED, {"among": chunk, "mine": token}).all()}
    return found


def _led_to(row: AnyRow, settlement: Settlement) -> State | None:
    return settled_as(State(row.state), settlement, _crashes(row, settlement))


def _crashes(row: AnyRow, settlement: Settlement) -> int:
    return crashed_with(State(row.state), row.crashes, settlement)


def _replaced(row: AnyRow, settlement: Settlement) -> bool:
    return replaces(settlement, row.last_state, row.last_attempted, row.actor, row.text)


def _values(tx: Transaction, token: str, row: AnyRow, settlement: Settlement, state: State) -> dict[str, Any]:
    # An attempt that left the delivery in doubt was counted then; the late reply belongs to the same one.
    counted = row.state != State.LEASED and row.last_state == State.IN_DOUBT and row.last_attempted
    said, text = noted(settlement, state)
    return {
        "number": row.id,
        "state": state.value,
        "due_at": tx.now + settlement.due_in if state in WAITING else row.due_at,
        "changed_at": tx.now,
        "attempts": row.attempts + (settlement.attempted and not counted),
        "crashes": _crashes(row, settlement),
        "token": token if keeps_token(settlement, state) else None,
        "lease_until": None,
        "owner": None,
        **timeline.last(
            said,
            tx.now if settlement.at is None else settlement.at,
            text=text,
            attempted=settlement.attempted,
            relay=settlement.relay,
            phase=settlement.phase,
            code=settlement.code,
            enhanced=settlement.enhanced,
            seconds=settlement.seconds,
        ),
    }


def _built(pairs: list[tuple[AnyRow, Settlement, State]]) -> list[dict[str, Any]]:
    """What the messages were sent as, once for each that has no record of it yet."""
    return list(
        {
            row.message_id: {"number": row.message_id, "sha256": settled.sha256, "build": settled.build}
            for row, settled, _ in pairs
            if row.sha256 is None and settled.sha256 is not None
        }.values()
    )
