"""Schedules and their occurrences.

What was looked at of a schedule moves on in the transaction that enters what was found, and only from where the caller
saw it: whoever comes second, or comes back from the dead, enters nothing.
"""

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Double, and_, bindparam, delete, exists, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from dispatcher.adapters.sql import acting
from dispatcher.adapters.sql.database import Database, Transaction
from dispatcher.adapters.sql.schema import occurrences, schedules
from dispatcher.delivery import Actor
from dispatcher.errors import NotFound, SubmissionError
from dispatcher.ledger import signature
from dispatcher.names import unknown
from dispatcher.schedule import Due, Noted, Occurrence, OccurrenceState, Schedule, ScheduleSpec, Standing, first_after

_SCHEDULE = "id", "name", "spec", "paused", "reason", "seen_until", "next_at", "created_at", "changed_at", "actor"
_COLUMNS = tuple(schedules.c[name] for name in _SCHEDULE)
_OCCURRENCE = tuple(occurrences.c[name] for name in ("at", "state", "by_hand", "outcome", "changed_at"))
_DUE, _FAILED = OccurrenceState.DUE.value, OccurrenceState.FAILED.value
_STANDS = occurrences.c.state == _DUE
_RIPE = and_(~schedules.c.paused, schedules.c.next_at <= bindparam("now", type_=Double))
_FIRES = and_(_STANDS, or_(~schedules.c.paused, occurrences.c.by_hand))


class SqlSchedules:
    """``interfaces.Schedules`` over a ledger's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, spec: ScheduleSpec, actor: Actor) -> Schedule:
        try:
            with self._database.writing() as tx:
                values = {
                    "name": name,
                    "spec": spec.document(),
                    "paused": False,
                    "reason": "",
                    "seen_until": tx.now,
                    "next_at": first_after(spec, tx.now, tx.now),
                    "created_at": tx.now,
                    "changed_at": tx.now,
                    "actor": signature(actor),
                }
                tx.execute(insert(schedules).values(**values))
                acting.record(tx, actor, "add", f"schedule {name}")
                return _named(tx, name)
        except IntegrityError:
            raise SubmissionError("name", f"there is a schedule {name!r} already") from None

    def get(self, name: str) -> Schedule:
        with self._database.reading() as tx:
            return _named(tx, name)

    def listed(self) -> list[Schedule]:
        with self._database.reading() as tx:
            return [_record(row, tx.now) for row in tx.execute(select(*_COLUMNS).order_by(schedules.c.name))]

    def revise(self, seen: Schedule, spec: ScheduleSpec, actor: Actor) -> bool:
        with self._database.writing() as tx:
            found = _locked(tx, seen.name)
            if found != seen or found.ripe:
                return False
            since = max(tx.now, found.seen_until)  # a clock may have been set back
            again = {"seen_until": since, "next_at": first_after(spec, found.created_at, since)}
            _change(tx, found, actor, spec=spec.document(), **again)
            acting.record(tx, actor, "edit", f"schedule {seen.name}")
            return True

    def act(self, name: str, verb: str, actor: Actor) -> Schedule:
        with self._database.writing() as tx:
            found, paused = _locked(tx, name), verb == "pause"
            if found.paused == paused:
                how = f"paused by {found.actor}" if paused else "not paused"
                raise SubmissionError(name, f"is {how}; nothing was done")
            _change(tx, found, actor, paused=paused, reason=actor.reason if paused else "")
            acting.record(tx, actor, verb, f"schedule {name}")
            return _named(tx, name)

    def remove(self, name: str, actor: Actor) -> None:
        with self._database.writing() as tx:
            found = _locked(tx, name)
            tx.execute(delete(occurrences).where(occurrences.c.schedule_id == found.id))
            tx.execute(delete(schedules).where(schedules.c.id == found.id))
            acting.record(tx, actor, "remove", f"schedule {name}")

    def run_now(self, name: str, actor: Actor) -> Occurrence:
        try:
            with self._database.writing() as tx:
                found = _locked(tx, name)
                made = Occurrence(
                    math.floor(tx.now) + 0.5, OccurrenceState.DUE, by_hand=True, outcome="", changed_at=tx.now
                )
                tx.execute(insert(occurrences).values(schedule_id=found.id, **{**made._asdict(), "state": _DUE}))
                acting.record(tx, actor, "run", f"schedule {name}")
                return made
        except IntegrityError:
            raise SubmissionError(name, "was run by hand within this second; nothing was done") from None

    def ripe(self, limit: int) -> list[Schedule]:
        query = select(*_COLUMNS).where(_RIPE).order_by(schedules.c.next_at, schedules.c.id).limit(limit)
        with self._database.reading() as tx:
            return [_record(row, tx.now) for row in tx.execute(query, {"now": tx.now})]

    def note(self, seen: Schedule, noted: Noted) -> bool:
        moved = update(schedules).where(
            schedules.c.id == seen.id,
            schedules.c.seen_until == seen.seen_until,
            schedules.c.changed_at == seen.changed_at,
            schedules.c.paused == seen.paused,
        )
        with self._database.writing() as tx:
            if not tx.execute(moved.values(seen_until=noted.upto, next_at=noted.next_at)).rowcount:
                return False
            shared = {"schedule_id": seen.id, "by_hand": False, "outcome": "", "changed_at": tx.now}
            if rows := [{**shared, "at": at, "state": state.value} for at, state in noted.found]:
                tx.execute(tx.insert(occurrences).on_conflict_do_nothing(), rows)
            return True

    def due(self, limit: int) -> list[Due]:
        last = func.max(occurrences.c.at).filter(~occurrences.c.by_hand)
        with self._database.reading() as tx:
            query = select(occurrences.c.at, occurrences.c.by_hand, *_COLUMNS).join(schedules).where(_FIRES)
            rows = tx.execute(query.order_by(occurrences.c.at, schedules.c.id).limit(limit)).all()
            mine = occurrences.c.schedule_id.in_({row.id for row in rows})
            newest = dict(
                tx.execute(
                    select(occurrences.c.schedule_id, last).where(mine).group_by(occurrences.c.schedule_id)
                ).all()
            )
            return [
                Due(_record(row[2:], tx.now), row.at, row.by_hand, newest=newest[row.id] in (None, row.at))
                for row in rows
            ]

    def done(self, due: Due, state: OccurrenceState, outcome: str) -> bool:
        one = update(occurrences).where(
            occurrences.c.schedule_id == due.schedule.id, occurrences.c.at == due.at, _STANDS
        )
        with self._database.writing() as tx:
            return bool(tx.execute(one.values(state=state.value, outcome=outcome, changed_at=tx.now)).rowcount)

    def history(self, name: str, limit: int) -> list[Occurrence]:
        with self._database.reading() as tx:
            found = _named(tx, name)
            query = select(*_OCCURRENCE).where(occurrences.c.schedule_id == found.id)
            return [_occurrence(row) for row in tx.execute(query.order_by(occurrences.c.at.desc()).limit(limit))]

    def pending(self) -> bool:
        fires = exists(select(occurrences.c.at).join(schedules).where(_FIRES))
        with self._database.reading() as tx:
            return bool(tx.execute(select(or_(exists().where(_RIPE), fires)), {"now": tx.now}).scalar())

    def standing(self, seconds: float) -> Standing:
        rows = select(schedules.c.name, schedules.c.paused, schedules.c.next_at).order_by(schedules.c.name)
        waiting = select(func.count(), func.min(occurrences.c.at)).select_from(occurrences.join(schedules))
        failed = select(schedules.c.name, occurrences.c.outcome).select_from(occurrences.join(schedules))
        with self._database.reading() as tx:
            every = tx.execute(rows).all()
            due, since = tx.execute(waiting.where(_FIRES)).one()
            lately = and_(occurrences.c.state == _FAILED, occurrences.c.changed_at > tx.now - seconds)
            last = failed.where(lately).order_by(occurrences.c.changed_at.desc(), schedules.c.name.desc()).limit(1)
            row = tx.execute(last).one_or_none()
            ripe = [each.next_at for each in every if not each.paused and (each.next_at or math.inf) <= tx.now]
            return Standing(
                count=len(every), paused=sum(each.paused for each in every),
                due=due + len(ripe), due_since=min((*ripe, *(() if since is None else (since,))), default=None),
                failed=tx.execute(select(func.count()).select_from(occurrences).where(lately)).scalar_one(),
                last_failed=(row.name, row.outcome) if row else None,
                over=tuple(each.name for each in every if each.next_at is None), read_at=tx.now,
            )  # fmt: skip

    def forget(self, seconds: float, limit: int) -> int:
        key = occurrences.c.schedule_id, occurrences.c.at
        with self._database.writing() as tx:
            over = and_(~_STANDS, occurrences.c.changed_at <= tx.now - seconds)
            some = select(*key).where(over).limit(limit)
            return tx.execute(delete(occurrences).where(tuple_(*key).in_(some), over)).rowcount


def _named(tx: Transaction, name: str) -> Schedule:
    row = tx.execute(select(*_COLUMNS).where(schedules.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(unknown("schedule", name, tx.execute(select(schedules.c.name)).scalars()))
    return _record(row, tx.now)


def _locked(tx: Transaction, name: str) -> Schedule:
    row = tx.execute(select(*_COLUMNS).where(schedules.c.name == name).with_for_update()).one_or_none()
    return _record(row, tx.now) if row else _named(tx, name)


def _change(tx: Transaction, found: Schedule, actor: Actor, **values: Any) -> None:
    one = update(schedules).where(schedules.c.id == found.id)
    tx.execute(one.values(changed_at=tx.now, actor=signature(actor), **values))


def _record(row: Sequence[Any], now: float) -> Schedule:
    values = dict(zip(_SCHEDULE, row, strict=True))
    return Schedule(**{**values, "spec": ScheduleSpec.kept(values["spec"])}, read_at=now)


def _occurrence(row: Sequence[Any]) -> Occurrence:
    at, state, *rest = row
    return Occurrence(at, OccurrenceState(state), *rest)
