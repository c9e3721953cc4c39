"""What people did: one row for each act, written in the transaction that does it."""

from sqlalchemy import insert, select, update

from dispatcher.adapters.sql.database import Transaction
from dispatcher.adapters.sql.schema import acts
from dispatcher.delivery import Actor
from dispatcher.ledger import signature
from dispatcher.records import Act


def record(tx: Transaction, actor: Actor, act: str, subject: str, *, count: int = 1, reason: str | None = None) -> int:
    """Note an act, and answer its number; ``reason`` where it is not the actor's."""
    row = {"act": act, "subject": subject, "count": count, "reason": actor.reason if reason is None else reason}
    noting = insert(acts).values(at=tx.now, actor=signature(actor), **row).returning(acts.c.id)
    return int(tx.execute(noting).scalar_one())


def more(tx: Transaction, number: int, count: int) -> None:
    """The act goes on in another transaction, and changes so many more."""
    tx.execute(update(acts).where(acts.c.id == number).values(count=acts.c.count + count))


def listed(tx: Transaction, since: float | None, limit: int) -> list[Act]:
    """See interfaces.Ledger.acts."""
    columns = (acts.c.at, acts.c.actor, acts.c.act, acts.c.subject, acts.c.count, acts.c.reason)
    query = select(*columns).order_by(acts.c.at.desc(), acts.c.id.desc()).limit(limit)
    if since is not None:
        query = query.where(acts.c.at >= since)
    return [Act(*row) for row in tx.execute(query)]
