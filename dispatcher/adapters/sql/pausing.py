"""Brakes and ticks: what is not leased for now, and who is to do what comes round.

A pause is open while its ``until`` is ahead (or NULL). When the dispatcher's own is over, it is half open: its
``probe_until`` says until when somebody tries the relay, and NULL that a message has come through.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Double, and_, bindparam, func, or_, select, true, update

from dispatcher.adapters.sql import acting
from dispatcher.adapters.sql.database import Transaction
from dispatcher.adapters.sql.schema import deliveries, pauses, submissions, ticks
from dispatcher.adapters.sql.spoken import among
from dispatcher.delivery import Actor
from dispatcher.ledger import avoided, holds, pause_seconds, signature
from dispatcher.records import Pause

_NOW = bindparam("now", type_=Double)
_IS_OPEN = or_(pauses.c.until.is_(None), pauses.c.until > _NOW)
_IS_HALF_OPEN = and_(pauses.c.until <= _NOW, pauses.c.actor.is_(None), pauses.c.probe_until.is_not(None))
_PAUSE = (
    pauses.c.kind,
    pauses.c.name,
    pauses.c.until,
    pauses.c.reason,
    pauses.c.since,
    pauses.c.actor,
    pauses.c.probe_until,
)
_STANDING = select(*_PAUSE).where(or_(_IS_OPEN, _IS_HALF_OPEN)).order_by(pauses.c.since)
_OPEN = select(pauses.c.kind, pauses.c.name).where(_IS_OPEN)
_NUMBERS = select(submissions.c.id).where(among(submissions.c.public_id))


@dataclass(frozen=True, slots=True)
class Brakes:
    """What is not leased now: lanes and relays by name, submissions by their number; ``any_relay``: nor what asks for
    no relay."""

    lanes: frozenset[str]
    relays: frozenset[str]
    submissions: frozenset[int]
    any_relay: bool

    def kinds(self) -> tuple[bool, bool, bool]:
        """Which of them there are, for ``passed``."""
        return self.any_relay, bool(self.relays), bool(self.submissions)

    def parameters(self) -> dict[str, Any]:
        """The parameters of ``passed``."""
        held = {"held_relays": sorted(self.relays), "held_submissions": sorted(self.submissions)}
        return {name: listed for name, listed in held.items() if listed}


def passed(any_relay: bool, relays: bool, submissions: bool) -> tuple[ColumnElement[bool], ...]:
    """The conditions for a delivery that no brake holds, where there are brakes of these kinds."""
    # Coalesced, so that PostgreSQL does not guess how many there are: it would find next to none for one submission.
    return (
        *([deliveries.c.relay.is_not(None)] if any_relay else []),
        *([func.coalesce(~among(deliveries.c.relay, "held_relays"), true())] if relays else []),
        *([func.coalesce(~among(deliveries.c.submission_id, "held_submissions"), true())] if submissions else []),
    )


def brakes(tx: Transaction, avoid: Collection[str | None] = ()) -> Brakes:
    """What holds now, and what the caller avoids (see interfaces.Ledger.lease)."""
    relays, submissions = avoided(avoid)
    found: dict[str, set[str]] = {"lane": set(), "relay": relays, "submission": submissions}
    for kind, name in tx.rows(_OPEN, now=tx.now):
        found.setdefault(kind, set()).add(name)
    paused = sorted(found["submission"])
    numbers = frozenset(number for (number,) in tx.rows(_NUMBERS, among=paused)) if paused else frozenset[int]()
    return Brakes(frozenset(found["lane"]), frozenset(found["relay"]), numbers, None in avoid)


def pause(
    tx: Transaction, kind: str, name: str, seconds: float | None, reason: str, actor: Actor | None = None
) -> Pause:
    """See interfaces.Ledger.pause."""
    # A row that is over stands there before anybody looks: so the first two, too, wait for each other.
    over = {"kind": kind, "name": name, "until": 0.0, "since": 0.0, "reason": ""}
    tx.execute(tx.insert(pauses).on_conflict_do_nothing(), over)
    before = _locked(tx, kind, name)
    length = seconds if actor else pause_seconds(before, seconds, tx.now)
    if before and length is None and not actor:
        return before
    made = {"until": None if length is None else tx.now + length, "since": tx.now, "reason": reason}
    by = {"actor": signature(actor), "probe_until": None} if actor else {"actor": None, "probe_until": 0.0}
    row = tx.execute(update(pauses).where(_is(kind, name)).values(**made, **by).returning(*_PAUSE)).one()
    if actor:
        acting.record(tx, actor, "pause", f"{kind} {name}", reason=reason)
    return _record(row, tx.now)


def probe(tx: Transaction, relay: str, seconds: float) -> bool:
    """See interfaces.Ledger.probe."""
    free = update(pauses).where(_is("relay", relay), _IS_HALF_OPEN, pauses.c.probe_until <= _NOW)
    return tx.execute(free.values(probe_until=tx.now + seconds), {"now": tx.now}).rowcount > 0


def resume(tx: Transaction, kind: str, name: str, actor: Actor | None) -> bool:
    """See interfaces.Ledger.resume. An open pause is not lifted by a message that came through before it was made."""
    pausing = update(pauses).where(_is(kind, name))
    if actor is None:
        return tx.execute(pausing.where(_IS_HALF_OPEN).values(probe_until=None), {"now": tx.now}).rowcount > 0
    before = _locked(tx, kind, name)
    if before is None or not (before.half_open or holds(before, tx.now)):
        return False
    by = {"actor": signature(actor), "reason": actor.reason}
    tx.execute(pausing.values(until=tx.now, probe_until=None, **by))
    acting.record(tx, actor, "resume", f"{kind} {name}")
    return True


def hold(tx: Transaction, kind: str, name: str, reason: str, who: str) -> None:
    """Pause until it is lifted, whoever it is who does; no act is noted."""
    row = {"until": None, "since": tx.now, "reason": reason, "actor": who, "probe_until": None}
    pausing = tx.insert(pauses).values(kind=kind, name=name, **row)
    tx.execute(pausing.on_conflict_do_update(index_elements=["kind", "name"], set_=row))


def lift(tx: Transaction, kind: str, name: str, who: str) -> None:
    """End such a pause, if there is one."""
    ended = {"until": tx.now, "actor": who, "probe_until": None}
    tx.execute(
        update(pauses).where(_is(kind, name), or_(pauses.c.until.is_(None), pauses.c.until > tx.now)).values(ended)
    )


def reopen(tx: Transaction, relay: str) -> None:
    """See interfaces.Ledger.reopen."""
    before = _locked(tx, "relay", relay)
    if before and before.actor is None and (before.half_open or holds(before, tx.now)):
        until = before.until if before.half_open else tx.now
        tx.execute(update(pauses).where(_is("relay", relay)).values(until=until, probe_until=0.0))


def standing(tx: Transaction) -> list[Pause]:
    """See interfaces.Ledger.pauses."""
    return [_record(row, tx.now) for row in tx.rows(_STANDING, now=tx.now)]


def _locked(tx: Transaction, kind: str, name: str) -> Pause | None:
    """The pause as it stands, over or not; nobody else changes it now. The clock is read when it is locked."""
    row = tx.execute(select(*_PAUSE).where(_is(kind, name)).with_for_update()).one_or_none()
    return _record(row, tx.now) if row else None


def _is(kind: str, name: str) -> ColumnElement[bool]:
    return and_(pauses.c.kind == kind, pauses.c.name == name)


def _record(row: Sequence[Any], now: float) -> Pause:
    """Of the columns in _PAUSE."""
    kind, name, until, reason, since, actor, probe_until = row
    found = Pause(kind, name, until, reason, since, actor)
    return (
        replace(found, half_open=True) if actor is None and probe_until is not None and not holds(found, now) else found
    )


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
