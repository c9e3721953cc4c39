"""What intake refused, kept until somebody has dealt with it."""

from sqlalchemy import select, update

from dispatcher.adapters.sql import acting
from dispatcher.adapters.sql.database import AnyRow, Transaction
from dispatcher.adapters.sql.schema import rejects
from dispatcher.delivery import Actor
from dispatcher.errors import NotFound
from dispatcher.ledger import RESOLVED, signature
from dispatcher.records import Reject


def reject(tx: Transaction, **values: str) -> Reject:
    """See interfaces.Ledger.reject."""
    row = tx.execute(tx.insert(rejects).on_conflict_do_nothing().returning(rejects), {"at": tx.now, **values}).first()
    if row is None:
        same = select(rejects).where(rejects.c.door == values["door"], rejects.c.reference == values["reference"])
        row = tx.execute(same).one()
    return _record(row)


def listed(tx: Transaction, number: int | None, limit: int, *, open_only: bool) -> list[Reject]:
    """See interfaces.Ledger.rejects."""
    query = select(rejects).order_by(rejects.c.id.desc()).limit(limit)
    if number is not None:
        query = query.where(rejects.c.id == number)
    if open_only:
        query = query.where(rejects.c.outcome.is_(None))
    return [_record(row) for row in tx.execute(query)]


def resolve(tx: Transaction, number: int, outcome: str, actor: Actor) -> None:
    """See interfaces.Ledger.resolve_reject. What was resolved once stays as it is."""
    by = {"resolved_at": tx.now, "actor": signature(actor), "note": actor.reason}
    is_open = (rejects.c.id == number) & rejects.c.outcome.is_(None)
    if tx.execute(update(rejects).where(is_open).values(outcome=outcome, **by)).rowcount == 0:
        raise NotFound(f"no open reject {number}")
    acting.record(tx, actor, RESOLVED[outcome], f"reject {number}")


def _record(row: AnyRow) -> Reject:
    return Reject(
        id=row.id,
        at=row.at,
        door=row.door,
        reference=row.reference,
        producer=row.producer,
        payload=row.payload,
        field=row.field,
        reason=row.reason,
        outcome=row.outcome,
    )
