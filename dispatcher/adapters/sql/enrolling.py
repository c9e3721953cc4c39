"""Events, and who is where in automations.

Every key of an automation has one row, which an event creates if it must: so whatever comes first, events about the
same key wait for each other there. All rows are locked in the order of their ids. Whoever moves somebody on does it
from the revision that they saw, and every event makes another revision: none is overlooked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from dispatcher.adapters.sql import accepting
from dispatcher.adapters.sql.database import AnyRow, Transaction, chunks
from dispatcher.adapters.sql.schema import (
    automations,
    deliveries,
    enrolment_steps,
    enrolments,
    events,
    submissions,
)
from dispatcher.automation import Automation
from dispatcher.delivery import State
from dispatcher.emitted import EventReceipt
from dispatcher.enrolment import (
    FORGOTTEN,
    Enrolment,
    EnrolmentState,
    Entry,
    Passed,
    StepOutcome,
    Touch,
    blank,
    entered,
    revised,
    touched,
)
from dispatcher.errors import EventConflict, IdempotencyConflict, LedgerUnavailable
from dispatcher.flow import Move, told
from dispatcher.interfaces import EventRow, Step, receipt_of
from dispatcher.ledger import KEY_SECONDS, storable
from dispatcher.mail import Accepted, Receipt

# In the words of the partial indexes, see schema.
_ACTIVE: ColumnElement[str] = literal_column(f"'{EnrolmentState.ACTIVE.value}'")
_EXPECTED: ColumnElement[str] = literal_column(f"'{EnrolmentState.EXPECTED.value}'")
_KNOWN = enrolments.c.outcome != literal_column(f"'{FORGOTTEN}'")
_UNDER_WAY = State.QUEUED.value, State.DEFERRED.value, State.LEASED.value
_LIVE = (
    select(submissions.c.public_id)
    .join(deliveries, submissions.c.id == deliveries.c.submission_id)
    .where(deliveries.c.state.in_(_UNDER_WAY))
)
_BUSY = exists(_LIVE.where(submissions.c.public_id == enrolments.c.mail))
_CHANGES = (
    *("version", "state", "revision", "step", "awaits", "planned_at", "due_at", "since", "address", "data", "seen"),
    *("mail", "outcome", "entered_at", "changed_at"),
)
_COLUMNS = ("id", "automation_id", "key", *_CHANGES)
_PEOPLE = select(automations.c.name.label("automation"), *(enrolments.c[name] for name in _COLUMNS)).join(automations)
_TRIES = 10
_UNMET = enrolments.c.state == _EXPECTED
_GOES = ~automations.c.paused
_THROUGH = EnrolmentState.FINISHED, EnrolmentState.EXITED
_INSIDE = EnrolmentState.ACTIVE, EnrolmentState.FAILED
_MET = *_THROUGH, *_INSIDE
_WAITING = and_(enrolments.c.state == _ACTIVE, enrolments.c.due_at.is_not(None))
_CHANGE = update(enrolments).where(enrolments.c.id == bindparam("number"))
_EVENT = "name", "event_id", "producer", "at", "received_at", "data", "fingerprint"
_STEP = tuple(enrolment_steps.c[name] for name in ("step", "planned_at", "at", "outcome", "detail"))


# -- events


def record(
    tx: Transaction, rows: Sequence[EventRow], touches: Sequence[Sequence[Touch]], held: float
) -> list[EventReceipt | EventConflict]:
    """See interfaces.Automations.record."""
    first = sorted(range(len(rows)), key=lambda n: (rows[n].id, rows[n].producer, n))  # whoever has the same ones, too
    taken = {n: _take(tx, rows[n]) for n in first}
    answers = [taken[n] for n in range(len(rows))]
    new = [n for n, answer in enumerate(answers) if isinstance(answer, EventReceipt) and not answer.duplicate]
    mine = [touch for n in new for touch in touches[n]]
    paused = _owners(tx, mine)
    people = _locked(tx, [(touch.automation_id, touch.key) for touch in mine if touch.automation_id in paused])
    for n in new:
        changes = list[tuple[Enrolment, Enrolment]]()
        for touch in touches[n]:
            before = people.get((touch.automation_id, storable(touch.key)))
            if before is not None:
                people[touch.automation_id, before.key] = made = touched(before, touch, tx.now, held)
                changes.append((before, made))
        found = receipt_of(rows[n], changes, tx.now, held)
        answers[n] = found._replace(due=_seen(tx, [each for each in found.due if not paused[each.automation_id]]))
    _change(tx, list(people.values()))
    return answers


def _seen(tx: Transaction, people: Sequence[Enrolment]) -> tuple[Enrolment, ...]:
    """As ``due`` finds them."""
    mails = [each.mail for each in people if each.mail is not None]
    busy = set(tx.execute(_LIVE.where(submissions.c.public_id.in_(mails))).scalars()) if mails else set()
    return tuple(replace(each, busy=each.mail in busy, read_at=tx.now) for each in people)


def _take(tx: Transaction, row: EventRow) -> EventReceipt | EventConflict:
    values = (row.name, storable(row.id), storable(row.producer), row.at, tx.now, row.data, row.fingerprint)
    entering = tx.insert(events).values(dict(zip(_EVENT, values, strict=True)))
    new = entering.on_conflict_do_nothing(index_elements=["event_id", "producer"]).returning(events.c.id)
    if tx.execute(new).first() is not None:
        return EventReceipt(row.id, row.name, duplicate=False)
    mine = and_(events.c.event_id == storable(row.id), events.c.producer == storable(row.producer))
    first = tx.execute(select(events.c.fingerprint).where(mine)).scalar()
    if first is None:  # over its retention, and removed just now
        return _take(tx, row)
    if first != row.fingerprint:
        return EventConflict(row.id)
    return EventReceipt(row.id, row.name, duplicate=True)


def _owners(tx: Transaction, touches: Sequence[Touch]) -> dict[int, bool]:
    """Those automations that are still there, and whether they are paused; they stay until the end of the
    transaction."""
    numbers = {touch.automation_id for touch in touches}
    if not numbers:
        return {}
    rows = select(automations.c.id, automations.c.paused).where(automations.c.id.in_(numbers))
    return {row.id: row.paused for row in tx.execute(rows.order_by(automations.c.id).with_for_update(read=True))}


def _locked(tx: Transaction, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Enrolment]:
    """The rows of these keys, made where there are none (another time, if one is forgotten just then), and kept from
    others."""
    wanted = sorted({(number, storable(key)) for number, key in keys})
    people = dict[tuple[int, str], Enrolment]()
    for _ in range(_TRIES):
        if not (missing := [each for each in wanted if each not in people]):
            return people
        for chunk in chunks(missing):
            new = [_expected(number, key, tx.now) for number, key in chunk]
            tx.execute(tx.insert(enrolments).on_conflict_do_nothing(index_elements=["automation_id", "key"]), new)
        numbers = [number for chunk in chunks(missing, 100) for number in tx.execute(_numbered(chunk)).scalars()]
        for chunk in chunks(sorted(numbers)):  # in one order, whosever they are: nobody who has one waits for another
            found = _people(tx, enrolments.c.id.in_(chunk), locked=True)
            people |= {(each.automation_id, each.key): each for each in found}
    raise LedgerUnavailable(f"the key {missing[0][1]!r} is forgotten whenever it is made")


def _numbered(keys: Sequence[tuple[int, str]]) -> Select[*tuple[Any, ...]]:
    mine = [and_(enrolments.c.automation_id == number, enrolments.c.key == key) for number, key in keys]
    return select(enrolments.c.id).where(or_(*mine))


def _expected(automation_id: int, key: str, now: float) -> dict[str, Any]:
    made = blank("", automation_id, key, now)
    return {"automation_id": automation_id, "key": key, **{name: getattr(made, name) for name in _CHANGES}}


def _change(tx: Transaction, people: Sequence[Enrolment]) -> None:
    rows = [{"number": each.id, **_values(each, "new_")} for each in sorted(people, key=lambda each: each.id)]
    if rows:
        tx.execute(_CHANGE.values({name: bindparam(f"new_{name}") for name in _CHANGES}), rows)


def _values(made: Enrolment, before: str = "") -> dict[str, Any]:
    found = ((name, getattr(made, name)) for name in _CHANGES)
    return {f"{before}{name}": storable(value) if isinstance(value, str) else value for name, value in found}


def kept(tx: Transaction, name: str | None, limit: int) -> list[EventRow]:
    """See interfaces.Automations.events."""
    query = select(*(events.c[each] for each in _EVENT)).order_by(events.c.id.desc()).limit(limit)
    return [EventRow(*row) for row in tx.execute(query if name is None else query.where(events.c.name == name))]


# -- people


def enrol(tx: Transaction, owner: Automation, rows: Sequence[tuple[str, Entry]]) -> int:
    """Take in those that are new, while nobody else may; how many."""
    count = 0
    for chunk in chunks(list(dict(rows).items())):
        keys = {storable(key): entry for key, entry in chunk}
        mine = and_(enrolments.c.automation_id == owner.id, enrolments.c.key.in_(list(keys)))
        known = set(tx.execute(select(enrolments.c.key).where(mine)).scalars())
        unmet = blank(owner.name, owner.id, "", tx.now)
        new = [(key, entered(unmet, entry, tx.now)) for key, entry in keys.items() if key not in known]
        if new:
            values = [{"automation_id": owner.id, "key": key, **_values(made)} for key, made in new]
            tx.execute(insert(enrolments), values)
            count += len(new)
    return count


def due(tx: Transaction, limit: int) -> list[Enrolment]:
    """See interfaces.Automations.due."""
    ids = _due(tx, limit)
    return _people(tx, enrolments.c.id.in_(ids), limit=limit) if ids else []


def _due(tx: Transaction, limit: int) -> list[int]:
    """The numbers of those who have waited the longest, over all automations that go."""
    found = list[tuple[float, int]]()
    for owner, at in _soonest(tx):
        if at <= tx.now:
            mine = and_(enrolments.c.automation_id == owner, _WAITING, enrolments.c.due_at <= tx.now)
            order = enrolments.c.due_at, enrolments.c.id
            found += [tuple(row) for row in tx.execute(select(*order).where(mine).order_by(*order).limit(limit))]
    return [number for _, number in sorted(found)[:limit]]


def _soonest(tx: Transaction) -> list[tuple[int, float]]:
    """Each automation that goes, and when somebody in it is due."""
    first = select(func.min(enrolments.c.due_at)).where(enrolments.c.automation_id == automations.c.id, _WAITING)
    rows = tx.execute(select(automations.c.id, automations.c.held_until, first.scalar_subquery()).where(_GOES))
    return [(owner, max(at, held or 0.0)) for owner, held, at in rows if at is not None]


def next_at(tx: Transaction) -> float | None:
    """When somebody is due next."""
    return min((at for _, at in _soonest(tx)), default=None)


def _people(
    tx: Transaction, where: ColumnElement[bool], *, locked: bool = False, limit: int | None = None
) -> list[Enrolment]:
    if locked:
        query = _PEOPLE.order_by(enrolments.c.id).with_for_update(of=enrolments)
    else:
        query = _PEOPLE.add_columns(_BUSY.label("busy")).order_by(enrolments.c.due_at, enrolments.c.id).limit(limit)
    return [_record(row, tx.now) for row in tx.execute(query.where(where))]


def _record(row: AnyRow, now: float) -> Enrolment:
    values = row._asdict()
    busy = bool(values.get("busy", False))
    return Enrolment(**{**values, "state": EnrolmentState(values["state"]), "busy": busy, "read_at": now})


def moved(tx: Transaction, moves: Sequence[tuple[Move, Accepted | None]]) -> list[Receipt | IdempotencyConflict | None]:
    """See interfaces.Automations.moved."""
    mine = enrolments.c.id.in_([move.seen.id for move, _ in moves])
    rows = select(enrolments.c.id, enrolments.c.revision).where(mine).order_by(enrolments.c.id)
    stands = {row.id: row.revision for row in tx.execute(rows.with_for_update())}
    going = [(move, accepted) for move, accepted in moves if stands.get(move.seen.id) == move.seen.revision]
    receipts = iter(accepting.add(tx, [accepted for _, accepted in going if accepted is not None], KEY_SECONDS))
    found: dict[int, Receipt | IdempotencyConflict] = {}
    people, past = list[Enrolment](), list[tuple[int, Passed]]()
    for move, accepted in going:
        made, passed = move.made, move.passed
        if accepted is not None:
            found[move.seen.id] = receipt = next(receipts)
            passed, made = told(move, receipt)
        people.append(revised(made, move.seen, tx.now))
        past += [(move.seen.id, each) for each in passed]
    _change(tx, people)
    _note(tx, past)
    return [found.get(move.seen.id) if stands.get(move.seen.id) == move.seen.revision else None for move, _ in moves]


def _note(tx: Transaction, past: Sequence[tuple[int, Passed]]) -> None:
    if not past:
        return
    last = (
        select(enrolment_steps.c.enrolment_id, func.max(enrolment_steps.c.n))
        .where(enrolment_steps.c.enrolment_id.in_({number for number, _ in past}))
        .group_by(enrolment_steps.c.enrolment_id)
    )
    numbers: dict[int, int] = dict(tx.execute(last).all())
    rows = list[dict[str, Any]]()
    for number, passed in past:
        numbers[number] = numbers.get(number, 0) + 1
        rows.append(
            {"enrolment_id": number, "n": numbers[number]}
            | passed._asdict()
            | {"outcome": passed.outcome.value, "detail": storable(passed.detail)}
        )
    tx.execute(insert(enrolment_steps), rows)


def one(tx: Transaction, owner: Automation, key: str) -> Enrolment | None:
    """Who has this key, if anybody has."""
    mine = and_(enrolments.c.automation_id == owner.id, enrolments.c.key == key, enrolments.c.state != _EXPECTED)
    return next(iter(_people(tx, mine)), None)


def listed(tx: Transaction, owner: Automation, states: Sequence[EnrolmentState], limit: int) -> list[Enrolment]:
    """See interfaces.Automations.enrolments."""
    newest = _PEOPLE.order_by(enrolments.c.changed_at.desc(), enrolments.c.id.desc()).limit(limit)
    found = [
        _record(row, tx.now)
        for state in states or _MET
        for row in tx.execute(newest.where(enrolments.c.automation_id == owner.id, _in(state)))
    ]
    return sorted(found, key=lambda each: (-each.changed_at, -each.id))[:limit]


def _in(state: EnrolmentState) -> ColumnElement[bool]:
    """Who is there, as far as more is known of them than that."""
    return and_(enrolments.c.state == state.value, _KNOWN)


def inside_of(tx: Transaction, owner: Automation) -> int:
    """How many are in one."""
    mine = select(func.count()).where(enrolments.c.automation_id == owner.id)
    return sum(int(tx.execute(mine.where(_in(state))).scalar_one()) for state in _INSIDE)


def inside(tx: Transaction) -> set[tuple[int, int]]:
    """See interfaces.Automations.inside."""
    rows = select(enrolments.c.automation_id, enrolments.c.version).distinct()
    rows = rows.where(enrolments.c.automation_id.in_(select(automations.c.id)))
    return {(owner, version) for state in _INSIDE for owner, version in tx.execute(rows.where(_in(state)))}


def counts(tx: Transaction, owner: Automation) -> dict[tuple[EnrolmentState, str | None], int]:
    """See interfaces.Automations.counts."""
    of = enrolments.c.state, enrolments.c.step
    mine = and_(enrolments.c.automation_id == owner.id, enrolments.c.state != _EXPECTED)
    rows = tx.execute(select(*of, func.count()).where(mine).group_by(*of))
    return {(EnrolmentState(state), step): int(number) for state, step, number in rows}


def states(tx: Transaction) -> dict[EnrolmentState, int]:
    """How many are inside, and how many have failed."""
    found = {}
    for state in _INSIDE:  # one by one: the many who are through are not looked at
        query = select(func.count()).where(_in(state), enrolments.c.automation_id.in_(select(automations.c.id)))
        found[state] = int(tx.execute(query).scalar_one())
    return found


def steps(tx: Transaction, owner: Automation, key: str | None, limit: int | None) -> Iterator[Step]:
    """See interfaces.Automations.steps."""
    order = enrolment_steps.c.planned_at, enrolment_steps.c.at, enrolments.c.id, enrolment_steps.c.n
    query = select(enrolments.c.key, enrolments.c.address, *_STEP).join(enrolments)
    query = query.where(enrolments.c.automation_id == owner.id)
    if key is not None:
        query = query.where(enrolments.c.key == key)
    if limit is not None:
        query = query.order_by(*(column.desc() for column in order)).limit(limit)
        rows: Any = reversed(tx.execute(query).all())
    else:
        rows = tx.connection.execution_options(yield_per=1000).execute(query.order_by(*order))
    for who, address, step, planned_at, at, outcome, detail in rows:
        yield Step(who, address, Passed(step, planned_at, at, StepOutcome(outcome), detail))


def change(tx: Transaction, seen: Enrolment, made: Enrolment) -> bool:
    """See interfaces.Automations.change."""
    mine = select(enrolments.c.revision).where(enrolments.c.id == seen.id).with_for_update()
    if tx.execute(mine).scalar() != seen.revision:
        return False
    _change(tx, [revised(made, seen, tx.now)])
    return True


class Past(NamedTuple):
    """Numbers of events, of keys that nobody came in by, and of people who are through, unchanged ``since`` then."""

    since: float
    events: Sequence[int]
    unmet: Sequence[int]
    done: Sequence[int]


def past(tx: Transaction, seconds: float, limit: int) -> Past:
    """What ``forget`` may remove; looked for without keeping anybody from writing."""
    since = tx.now - seconds
    old = events.c.received_at <= since
    came = tx.execute(select(events.c.id).where(old).limit(limit)).scalars().all()
    unmet, done = list[int](), list[int]()
    for owner in tx.execute(select(automations.c.id)).scalars().all():
        unmet += _unchanged(tx, owner, EnrolmentState.EXPECTED, since, limit)
        for state in _THROUGH:
            done += _unchanged(tx, owner, state, since, limit)
    return Past(since, came, unmet[:limit], done[:limit])


def _unchanged(tx: Transaction, owner: int, state: EnrolmentState, since: float, limit: int) -> Sequence[int]:
    mine = and_(enrolments.c.automation_id == owner, _in(state), enrolments.c.changed_at <= since)
    return tx.execute(select(enrolments.c.id).where(mine).limit(limit)).scalars().all()


def forget(tx: Transaction, found: Past) -> int:
    """See interfaces.Automations.forget; of whom something came meanwhile stays."""
    old = enrolments.c.changed_at <= found.since
    gone = tx.execute(delete(events).where(events.c.id.in_(found.events))).rowcount if found.events else 0
    if unmet := _still(tx, and_(enrolments.c.id.in_(found.unmet), _UNMET, old)):
        gone += tx.execute(delete(enrolments).where(enrolments.c.id.in_(unmet))).rowcount
    through = enrolments.c.state.in_([state.value for state in _THROUGH])
    if done := _still(tx, and_(enrolments.c.id.in_(found.done), through, old)):
        wiped = {"address": "", "data": {}, "seen": {}, "outcome": FORGOTTEN}
        tx.execute(delete(enrolment_steps).where(enrolment_steps.c.enrolment_id.in_(done)))
        gone += tx.execute(update(enrolments).where(enrolments.c.id.in_(done)).values(wiped)).rowcount
    return gone


def _still(tx: Transaction, which: ColumnElement[bool]) -> Sequence[int]:
    """The numbers of whom that holds, locked in their order."""
    return tx.execute(select(enrolments.c.id).where(which).order_by(enrolments.c.id).with_for_update()).scalars().all()
