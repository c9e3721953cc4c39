"""Automations and their versions; what goes on in them stands in ``enrolling``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from dispatcher.adapters.sql import acting, enrolling
from dispatcher.adapters.sql.database import AnyRow, Database, Transaction
from dispatcher.adapters.sql.schema import automation_versions, automations, event_types
from dispatcher.automation import Automation, Inside, Scan, again
from dispatcher.delivery import Actor
from dispatcher.emitted import EventReceipt
from dispatcher.enrolment import Enrolment, EnrolmentState, Entry, Touch
from dispatcher.errors import EventConflict, IdempotencyConflict, NotFound, SubmissionError
from dispatcher.flow import Move
from dispatcher.interfaces import EventRow, Loaded, Step
from dispatcher.ledger import signature
from dispatcher.mail import Accepted, Receipt
from dispatcher.names import unknown

_SCAN = "scan_day", "scan_version", "scan_after", "scan_at"
_COLUMNS = "id", "name", "version", "paused", "reason", *_SCAN, "created_at", "changed_at", "actor"
_ALL = select(*(automations.c[name] for name in _COLUMNS))
_LOOKS = automations.c.scan_at.is_not(None) & ~automations.c.paused


class SqlAutomations:
    """``interfaces.Automations`` over a ledger's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(
        self, specs: Sequence[tuple[Mapping[str, Any], Scan | None]], types: Sequence[Mapping[str, Any]], actor: Actor
    ) -> list[str]:
        with self._database.writing() as tx:
            mine = select(automations.c.id).where(automations.c.name.in_([each["automation"] for each, _ in specs]))
            tx.execute(mine.order_by(automations.c.id).with_for_update())  # in the order in which events lock them
            changed = [f"event {each['event']}" for each in types if _load_type(tx, each, actor)]
            for document, scan in specs:
                if number := _load(tx, document, scan, actor):
                    changed.append(f"{document['automation']} version {number}")
            if changed:
                acting.record(tx, actor, "load", ", ".join(changed))
            return changed

    def get(self, name: str) -> Automation:
        with self._database.reading() as tx:
            return _named(tx, name)

    def listed(self) -> list[Automation]:
        with self._database.reading() as tx:
            return [_record(row) for row in tx.execute(_ALL.order_by(automations.c.name))]

    def loaded(self) -> Loaded:
        with self._database.reading() as tx:
            owners = [_record(row) for row in tx.execute(_ALL.order_by(automations.c.name))]
            return Loaded(owners, _documents(tx), _event_types(tx))

    def documents(self) -> dict[tuple[int, int], Mapping[str, Any]]:
        with self._database.reading() as tx:
            return _documents(tx)

    def event_types(self) -> dict[str, Mapping[str, Any]]:
        with self._database.reading() as tx:
            return _event_types(tx)

    def act(self, name: str, verb: str, actor: Actor) -> Automation:
        with self._database.writing() as tx:
            found, paused = _named(tx, name, locked=True), verb == "pause"
            if found.paused == paused:
                how = f"paused by {found.actor}" if paused else "not paused"
                raise SubmissionError(name, f"is {how}; nothing was done")
            _change(tx, found.id, actor, paused=paused, reason=actor.reason if paused else "", held_until=None)
            acting.record(tx, actor, verb, f"automation {name}")
            return _named(tx, name)

    def remove(self, name: str, actor: Actor) -> None:
        with self._database.writing() as tx:
            found = _named(tx, name, locked=True)
            if count := enrolling.inside_of(tx, found):
                raise SubmissionError(name, f"{count} are in it; let them leave first: dispatcher automations exit")
            tx.execute(delete(automations).where(automations.c.id == found.id))  # and what belongs to it
            acting.record(tx, actor, "remove", f"automation {name}")

    # -- events

    def record(
        self, rows: Sequence[EventRow], touches: Sequence[Sequence[Touch]], held: float = 0.0
    ) -> list[EventReceipt | EventConflict]:
        with self._database.writing() as tx:
            return enrolling.record(tx, rows, touches, held)

    def events(self, name: str | None, limit: int) -> list[EventRow]:
        with self._database.reading() as tx:
            return enrolling.kept(tx, name, limit)

    # -- people

    def enrol(self, seen: Automation, rows: Sequence[tuple[str, Entry]], scan: Scan) -> int | None:
        with self._database.writing() as tx:
            if _named(tx, seen.name, locked=True) != seen:
                return None
            tx.execute(update(automations).where(automations.c.id == seen.id).values(_scan(scan)))
            return enrolling.enrol(tx, seen, rows)

    def due(self, limit: int) -> list[Enrolment]:
        with self._database.reading() as tx:
            return enrolling.due(tx, limit)

    def moved(self, moves: Sequence[tuple[Move, Accepted | None]]) -> list[Receipt | IdempotencyConflict | None]:
        with self._database.writing() as tx:
            return enrolling.moved(tx, moves)

    def enrolled(self, name: str, key: str) -> Enrolment:
        with self._database.reading() as tx:
            found = enrolling.one(tx, _named(tx, name), key)
        if found is None:
            raise NotFound(f"nobody is or was in {name} as {key!r}")
        return found

    def enrolments(self, name: str, *states: EnrolmentState, limit: int) -> list[Enrolment]:
        with self._database.reading() as tx:
            return enrolling.listed(tx, _named(tx, name), states, limit)

    def counts(self, name: str) -> dict[tuple[EnrolmentState, str | None], int]:
        with self._database.reading() as tx:
            return enrolling.counts(tx, _named(tx, name))

    def steps(self, name: str, key: str | None = None, limit: int | None = None) -> Iterator[Step]:
        with self._database.reading() as tx:
            yield from enrolling.steps(tx, _named(tx, name), key, limit)

    def change(self, seen: Enrolment, made: Enrolment, actor: Actor, verb: str) -> bool:
        with self._database.writing() as tx:
            changed = enrolling.change(tx, seen, made)
            if changed:
                acting.record(tx, actor, verb, f"{seen.key} of automation {seen.automation}")
            return changed

    def standing(self) -> Inside:
        with self._database.reading() as tx:
            rows = tx.execute(select(automations.c.name, automations.c.paused, automations.c.reason)).all()
            paused = tuple(sorted((row.name, row.reason) for row in rows if row.paused))
            states = enrolling.states(tx) if rows else {}
            due = enrolling.due(tx, 1)
            return Inside(
                len(rows), paused, states.get(EnrolmentState.ACTIVE, 0), states.get(EnrolmentState.FAILED, 0),
                due[0].due_at if due else None, tx.now,
            )  # fmt: skip

    def inside(self) -> set[tuple[int, int]]:
        with self._database.reading() as tx:
            return enrolling.inside(tx)

    def hold(self, number: int, version: int, seconds: float) -> None:
        with self._database.writing() as tx:
            one = update(automations).where(automations.c.id == number, automations.c.version == version)
            tx.execute(one.values(held_until=tx.now + seconds))

    def pending(self) -> bool:
        with self._database.reading() as tx:
            looks = select(automations.c.id).where(_LOOKS, automations.c.scan_at <= tx.now).limit(1)
            return bool(tx.execute(looks).first() or enrolling.due(tx, 1))

    def next_at(self) -> float | None:
        with self._database.reading() as tx:
            days = tx.execute(select(func.min(automations.c.scan_at)).where(_LOOKS)).scalar()
            found = [at for at in (days, enrolling.next_at(tx)) if at is not None]
            return min(found, default=None)

    def scans(self) -> list[Automation]:
        with self._database.reading() as tx:
            rows = tx.execute(_ALL.where(_LOOKS, automations.c.scan_at <= tx.now).order_by(automations.c.name))
            return [_record(row) for row in rows]

    def forget(self, seconds: float, limit: int) -> int:
        with self._database.reading() as tx:
            found = enrolling.past(tx, seconds, limit)
        if not (found.events or found.unmet or found.done):
            return 0
        with self._database.writing() as tx:
            return enrolling.forget(tx, found)


def _load_type(tx: Transaction, document: Mapping[str, Any], actor: Actor) -> bool:
    """Whether it differs from what was there."""
    name = document["event"]
    before = tx.execute(select(event_types.c.document).where(event_types.c.name == name)).scalar()
    if before == document:
        return False
    entering = tx.insert(event_types).values(
        name=name, document=dict(document), changed_at=tx.now, actor=signature(actor)
    )
    again = {each: entering.excluded[each] for each in ("document", "changed_at", "actor")}
    tx.execute(entering.on_conflict_do_update(index_elements=["name"], set_=again))
    return True


def _load(tx: Transaction, document: Mapping[str, Any], scan: Scan | None, actor: Actor) -> int | None:
    """The number of the new version; None: it is as it was."""
    name = document["automation"]
    blank = {"version": 0, "paused": False, "reason": "", "created_at": tx.now, "changed_at": tx.now}
    entering = tx.insert(automations).values(name=name, actor=signature(actor), **blank)
    tx.execute(entering.on_conflict_do_nothing(index_elements=["name"]))
    found = _named(tx, name, locked=True)
    mine = (automation_versions.c.automation_id == found.id) & (automation_versions.c.version == found.version)
    if tx.execute(select(automation_versions.c.document).where(mine)).scalar() == document:
        return None
    number = found.version + 1
    row = {"automation_id": found.id, "version": number, "document": dict(document), "loaded_at": tx.now}
    tx.execute(insert(automation_versions).values(**row, actor=signature(actor)))
    kept = again(found.scan, scan) if scan and found.scan else scan
    _change(tx, found.id, actor, version=number, held_until=None, **_scan(kept))
    return number


def _scan(scan: Scan | None) -> dict[str, Any]:
    if scan is None:
        return dict.fromkeys(_SCAN)
    return {"scan_day": scan.day, "scan_version": scan.version, "scan_after": scan.after, "scan_at": scan.at}


def _documents(tx: Transaction) -> dict[tuple[int, int], Mapping[str, Any]]:
    columns = (automation_versions.c[name] for name in ("automation_id", "version", "document"))
    return {(owner, number): document for owner, number, document in tx.execute(select(*columns))}


def _event_types(tx: Transaction) -> dict[str, Mapping[str, Any]]:
    return dict(tx.execute(select(event_types.c.name, event_types.c.document)).all())


def _named(tx: Transaction, name: str, *, locked: bool = False) -> Automation:
    one = _ALL.where(automations.c.name == name)
    row = tx.execute(one.with_for_update() if locked else one).one_or_none()
    if row is None:
        raise NotFound(unknown("automation", name, tx.execute(select(automations.c.name)).scalars()))
    return _record(row)


def _change(tx: Transaction, number: int, actor: Actor, **values: Any) -> None:
    one = update(automations).where(automations.c.id == number)
    tx.execute(one.values(changed_at=tx.now, actor=signature(actor), **values))


def _record(row: AnyRow) -> Automation:
    values = row._asdict()
    day, version, after, at = (values.pop(name) for name in _SCAN)
    return Automation(**values, scan=None if at is None else Scan(day, version, after, at))
