"""What happened to a delivery: the last of it stands in its row, what came before in the attempts table."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import insert, select, update

from dispatcher.adapters.sql.database import AnyRow, Transaction, chunks
from dispatcher.adapters.sql.schema import attempts, deliveries, messages
from dispatcher.adapters.sql.selecting import wiped
from dispatcher.adapters.sql.spoken import among, one_of
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
_SECRETIVE = (
    select(messages.c.id)
    .where(among(messages.c.id), messages.c.secrets.is_not(None), ~wiped())
    .order_by(messages.c.id)
    .with_for_update()
)
_STILL_LIVE = select(deliveries.c.message_id).where(
    among(deliveries.c.message_id), one_of(deliveries.c.state, [state.value for state in LIVE])
)
_WIPE = update(messages).where(among(messages.c.id)).values(secrets=WIPED)
_MAKE_ROOM = insert(attempts).from_select([attempts.c.delivery_id, *_LAST], _STANDING)


class Standing(Protocol):
    """What must be known of a delivery to change it."""

    @property
    def id(self) -> int: ...
    @property
    def message_id(self) -> int: ...
    @property
    def last_state(self) -> str | None: ...


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
        "last_state": str(state),
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


def make_room(tx: Transaction, numbers: Sequence[int]) -> None:
    """Move what stands in the rows of these deliveries to the attempts table; they are locked by the caller."""
    for chunk in chunks(numbers):
        tx.run(_MAKE_ROOM, among=chunk)


def change(tx: Transaction, rows: Sequence[Standing], state: State, event: dict[str, Any], **values: Any) -> None:
    """Give all these rows one new state, and note what happened."""
    make_room(tx, [row.id for row in rows if row.last_state is not None])
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
        secretive = {number for (number,) in tx.rows(_SECRETIVE, among=chunk)}
        if not secretive:
            continue
        over = secretive - {number for (number,) in tx.rows(_STILL_LIVE, among=sorted(secretive))}
        tx.run(_WIPE, among=sorted(over))


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
