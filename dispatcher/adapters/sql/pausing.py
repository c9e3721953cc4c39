"""Brakes and ticks: what is not leased for now, and who is to do what comes round."""

from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, or_, select

from dispatcher.adapters.sql.database import AnyRow, Transaction
from dispatcher.adapters.sql.schema import deliveries, pauses, submissions, ticks
from dispatcher.delivery import Actor
from dispatcher.ledger import pause_seconds, signature
from dispatcher.records import Pause


@dataclass(frozen=True, slots=True)
class Brakes:
    """What is paused now: lanes and relays by name, submissions by their number."""

    lanes: frozenset[str]
    relays: frozenset[str]
    submissions: frozenset[int]

    def passed(self) -> tuple[ColumnElement[bool], ...]:
        """The conditions for a delivery that none of them holds."""
        found: list[ColumnElement[bool]] = []
        if self.relays:
            found.append(or_(deliveries.c.relay.is_(None), deliveries.c.relay.not_in(self.relays)))
        if self.submissions:
            found.append(deliveries.c.submission_id.not_in(self.submissions))
        return tuple(found)


def brakes(tx: Transaction) -> Brakes:
    """What holds now."""
    found: dict[str, set[str]] = {"lane": set(), "relay": set(), "submission": set()}
    for kind, name in tx.execute(select(pauses.c.kind, pauses.c.name).where(_holds(tx))):
        found.setdefault(kind, set()).add(name)
    numbers: frozenset[int] = frozenset()
    if found["submission"]:
        query = select(submissions.c.id).where(submissions.c.public_id.in_(found["submission"]))
        numbers = frozenset(tx.execute(query).scalars())
    return Brakes(frozenset(found["lane"]), frozenset(found["relay"]), numbers)


def pause(
    tx: Transaction, kind: str, name: str, seconds: float | None, reason: str, actor: Actor | None = None
) -> Pause:
    """See interfaces.Ledger.pause."""
    query = select(pauses).where(pauses.c.kind == kind, pauses.c.name == name).with_for_update()
    row = tx.execute(query).one_or_none()
    before = _record(row) if row else None
    length = seconds if actor else pause_seconds(before, seconds, tx.now)
    if before and length is None and not actor:
        return before
    until = None if length is None else tx.now + length
    made = Pause(kind, name, until, reason, tx.now, signature(actor) if actor else None)
    upsert = tx.insert(pauses).values(asdict(made))
    tx.execute(upsert.on_conflict_do_update(index_elements=["kind", "name"], set_=upsert.excluded))
    return made


def holding(tx: Transaction) -> list[Pause]:
    """See interfaces.Ledger.pauses."""
    return [_record(row) for row in tx.execute(select(pauses).where(_holds(tx)).order_by(pauses.c.since))]


def _holds(tx: Transaction) -> ColumnElement[bool]:
    return or_(pauses.c.until.is_(None), pauses.c.until > tx.now)


def _record(row: AnyRow) -> Pause:
    return Pause(row.kind, row.name, row.until, row.reason, row.since, row.actor)


def tick(tx: Transaction, name: str, every: float) -> bool:
    """See interfaces.Ledger.tick."""
    upsert = tx.insert(ticks).values(name=name, at=tx.now)
    granted = upsert.on_conflict_do_update(
        index_elements=["name"], set_={"at": tx.now}, where=ticks.c.at <= tx.now - every
    ).returning(ticks.c.name)
    return tx.execute(granted).first() is not None


def granted(tx: Transaction) -> dict[str, float]:
    """See interfaces.Ledger.ticks."""
    return {name: tx.now - at for name, at in tx.execute(select(ticks.c.name, ticks.c.at))}
