"""Audiences in SQL: versions, their members and the rows that are none."""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, bindparam, delete, exists, func, select, update

from dispatcher.adapters.sql import acting
from dispatcher.adapters.sql.database import AnyRow, Database, Transaction
from dispatcher.adapters.sql.loading import load
from dispatcher.adapters.sql.schema import (
    audience_members,
    audience_rejects,
    audience_versions,
    audiences,
    campaigns,
    written,
)
from dispatcher.adapters.sql.spoken import among
from dispatcher.audience import Audience, AudienceVersion, BadRow, Column, Kind, Member, same_as, unready
from dispatcher.delivery import Actor
from dispatcher.errors import AudienceError, NotFound
from dispatcher.ledger import signature, storable

_MEMBER = "version_id", "n", "address", "shown", "attributes"
_REJECT = "version_id", "n", "field", "reason", "doubled", "payload"
_DROPPED = 0.0  # begun so long ago that it is forgotten at once
_DOUBLES = 2000  # of them in one transaction
_OVER = "finished", "cancelled"  # campaigns that need their audience no more
_versions = select(audience_versions, audiences.c.name).join(audiences)
_READY = audience_versions.c.ready_at.is_not(None)
_MEMBERS = (
    select(audience_members.c.n, audience_members.c.address, audience_members.c.shown, audience_members.c.attributes)
    .where(audience_members.c.version_id == bindparam("of_version"), audience_members.c.n > bindparam("after"))
    .order_by(audience_members.c.n)
    .limit(bindparam("size"))
)
_REJECTS = (
    select(*(audience_rejects.c[name] for name in ("n", "field", "reason", "payload", "doubled")))
    .where(audience_rejects.c.version_id == bindparam("of_version"), audience_rejects.c.n > bindparam("after"))
    .order_by(audience_rejects.c.n)
    .limit(bindparam("size"))
)
_ADD = (
    update(audience_versions)
    .where(audience_versions.c.id == bindparam("of_version"), audience_versions.c.ready_at.is_(None))
    .values(
        rows=audience_versions.c.rows + bindparam("more_kept") + bindparam("more_bad") + bindparam("more_doubled"),
        kept=audience_versions.c.kept + bindparam("more_kept"),
        bad=audience_versions.c.bad + bindparam("more_bad"),
        doubled=audience_versions.c.doubled + bindparam("more_doubled"),
    )
)


def _doubled(address: ColumnElement[str]) -> Select[*tuple[Any, ...]]:
    """The members that have the address of an earlier one, with its row: sorted once, on disk where it needs to be."""
    first = func.min(audience_members.c.n).over(partition_by=address).label("first")
    mine = audience_members.c.version_id == bindparam("of_version")
    all_of_them = select(audience_members.c.n, audience_members.c.shown, first).where(mine).subquery()
    return select(all_of_them).where(all_of_them.c.n != all_of_them.c.first)


_DOUBLED = {  # by bytes: that is how addresses are the same, and a locale's order takes PostgreSQL five times as long
    "sqlite": _doubled(audience_members.c.address),
    "postgresql": _doubled(audience_members.c.address.collate("C")),
}


class SqlAudiences:
    """``interfaces.Audiences`` over a ledger's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, name: str, source: str, columns: Sequence[Column], actor: Actor) -> AudienceVersion:
        with self._database.writing() as tx:
            entering = tx.insert(audiences).values(name=name, created_at=tx.now)
            # Also where it is there already: whoever begins another version at the same time waits here.
            upsert = entering.on_conflict_do_update(index_elements=["name"], set_={"name": entering.excluded.name})
            audience = tx.execute(upsert.returning(audiences.c.id)).scalar_one()
            mine = audience_versions.c.audience_id == audience
            last = tx.execute(select(func.max(audience_versions.c.version)).where(mine)).scalar() or 0
            row = {
                "audience_id": audience,
                "version": last + 1,
                "made_at": tx.now,
                "source": source,
                "columns": [{"name": c.name, "type": c.kind.value, "source": storable(c.source)} for c in columns],
                "actor": signature(actor),
                **dict.fromkeys(("rows", "kept", "bad", "doubled"), 0),
            }
            number = tx.execute(tx.insert(audience_versions).values(row).returning(audience_versions.c.id))
            return _one(tx, audience_versions.c.id == number.scalar_one(), "")

    def add(self, version_id: int, members: Sequence[Member], rejects: Sequence[BadRow]) -> None:
        with self._database.writing() as tx:
            _count(tx, version_id, kept=len(members), bad=len(rejects))
            rows = [(version_id, n, address, shown, written(its)) for n, address, shown, its in members]
            load(tx, audience_members, _MEMBER, rows)
            _reject(tx, version_id, rejects)

    def ready(self, version_id: int, actor: Actor) -> AudienceVersion:
        with closing(self._doubles(version_id)) as groups:
            for doubles in groups:
                self._set_aside(version_id, doubles)
        with self._database.writing() as tx:
            one = (audience_versions.c.id == version_id) & audience_versions.c.ready_at.is_(None)
            if tx.execute(update(audience_versions).where(one).values(ready_at=tx.now)).rowcount == 0:
                raise _not_open(version_id)
            made = _one(tx, audience_versions.c.id == version_id, "")
            acting.record(tx, actor, "import", f"audience {made.name} version {made.version}", count=made.kept)
            return made

    def _set_aside(self, version_id: int, doubles: Sequence[BadRow]) -> None:
        """Make rejects of members."""
        with self._database.writing() as tx:
            _count(tx, version_id, kept=-len(doubles), doubled=len(doubles))
            theirs = (audience_members.c.version_id == version_id) & among(audience_members.c.n)
            tx.execute(delete(audience_members).where(theirs), {"among": [double.n for double in doubles]})
            _reject(tx, version_id, doubles)

    def _doubles(self, version_id: int) -> Generator[list[BadRow]]:
        """In groups. What is read is of one moment, whatever is done with a group meanwhile."""
        with self._database.reading() as tx:
            streaming = tx.connection.execution_options(yield_per=_DOUBLES)
            with streaming.execute(_DOUBLED[tx.dialect], {"of_version": version_id}) as found:
                for rows in found.partitions():
                    yield [BadRow(row.n, "", same_as(row.first), row.shown, doubled=True) for row in rows]

    def current(self, name: str) -> AudienceVersion:
        with self._database.reading() as tx:
            newest = _versions.where(audiences.c.name == name, _READY).order_by(audience_versions.c.version.desc())
            row = tx.execute(newest.limit(1)).one_or_none()
            if row is None:
                raise NotFound(unready(name, tx.execute(select(audiences.c.name)).scalars().all()))
            return _record(row)

    def version(self, name: str, number: int) -> AudienceVersion:
        with self._database.reading() as tx:
            one = (audiences.c.name == name) & (audience_versions.c.version == number) & _READY
            return _one(tx, one, f"audience {name!r} has no version {number}: see `dispatcher audiences list`")

    def by_id(self, version_id: int) -> AudienceVersion:
        with self._database.reading() as tx:
            return _one(tx, audience_versions.c.id == version_id, f"no audience version {version_id}")

    def list(self) -> list[Audience]:
        with self._database.reading() as tx:
            rows = tx.execute(_versions.where(_READY).order_by(audience_versions.c.version)).all()
            found: dict[str, list[AudienceVersion]] = {}
            for row in rows:
                found.setdefault(row.name, []).append(_record(row))
            names = tx.execute(select(audiences.c.name, audiences.c.created_at).order_by(audiences.c.name))
            return [
                Audience(name, at, len(found.get(name, ())), found[name][-1] if name in found else None)
                for name, at in names
            ]

    def members(self, version_id: int, after: int, limit: int) -> Sequence[tuple[int, str, str, str]]:
        with self._database.reading() as tx:
            found: Sequence[Any] = tx.rows(_MEMBERS, of_version=version_id, after=after, size=limit)
            return found

    def rejects(self, version_id: int, after: int, limit: int) -> Sequence[BadRow]:
        with self._database.reading() as tx:
            found = tx.rows(_REJECTS, of_version=version_id, after=after, size=limit)
            return [BadRow(n, name, reason, payload, bool(doubled)) for n, name, reason, payload, doubled in found]

    def drop(self, name: str, number: int | None, actor: Actor) -> int:
        with self._database.writing() as tx:
            meant = _READY if number is None else _READY & (audience_versions.c.version == number)
            mine = select(audience_versions.c.id).join(audiences).where(audiences.c.name == name, meant)
            ids = (
                tx.execute(mine.order_by(audience_versions.c.id).with_for_update(of=audience_versions)).scalars().all()
            )
            if not ids:
                _none_to_drop(tx, name, number)
            _free(tx, name, ids)
            gone = update(audience_versions).where(audience_versions.c.id.in_(ids))
            tx.execute(gone.values(ready_at=None, made_at=_DROPPED))
            what = f"audience {name}" if number is None else f"audience {name} version {number}"
            acting.record(tx, actor, "drop", what, count=len(ids))
            return len(ids)

    def forget(self, seconds: float, limit: int) -> int:
        with self._database.writing() as tx:
            old = audience_versions.c.ready_at.is_(None) & (audience_versions.c.made_at <= tx.now - seconds)
            one = select(audience_versions.c.id, audience_versions.c.audience_id).where(old).limit(1)
            row = tx.execute(one.with_for_update(skip_locked=True)).one_or_none()
            if row is None:
                return 0
            for table in (audience_members, audience_rejects):
                if count := _take(tx, table, row.id, limit):
                    return count
            tx.execute(delete(audience_versions).where(audience_versions.c.id == row.id))
            left = exists().where(audience_versions.c.audience_id == audiences.c.id)
            tx.execute(delete(audiences).where(audiences.c.id == row.audience_id, ~left))
            return 1


def _count(tx: Transaction, version_id: int, *, kept: int = 0, bad: int = 0, doubled: int = 0) -> None:
    """Note that so many more rows are known, of a version that is not ready."""
    if not tx.run(_ADD, of_version=version_id, more_kept=kept, more_bad=bad, more_doubled=doubled):
        raise _not_open(version_id)


def _not_open(version_id: int) -> NotFound:
    return NotFound(f"audience version {version_id} is not being read any more: it is ready, or was given up")


def _reject(tx: Transaction, version_id: int, rejects: Sequence[BadRow]) -> None:
    rows = [(version_id, r.n, storable(r.field), storable(r.reason), r.doubled, storable(r.payload)) for r in rejects]
    load(tx, audience_rejects, _REJECT, rows)


def _one(tx: Transaction, where: ColumnElement[bool], otherwise: str) -> AudienceVersion:
    row = tx.execute(_versions.where(where)).one_or_none()
    if row is None:
        raise NotFound(otherwise)
    return _record(row)


def _none_to_drop(tx: Transaction, name: str, number: int | None) -> None:
    if number is None:
        raise NotFound(unready(name, tx.execute(select(audiences.c.name)).scalars().all()))
    raise NotFound(f"audience {name!r} has no version {number}: see `dispatcher audiences list`")


def _free(tx: Transaction, name: str, ids: Sequence[int]) -> None:
    """Let the campaigns that are over go without these. Raises AudienceError where one is not over."""
    using = campaigns.c.version_id.in_(ids)
    busy = tx.execute(
        select(campaigns.c.name, campaigns.c.state).where(using, campaigns.c.state.not_in(_OVER)).limit(1)
    ).one_or_none()
    if busy is not None:
        raise AudienceError(
            f"audience {name}", f"campaign {busy.name} is {busy.state} and goes by it: cancel that first"
        )
    tx.execute(update(campaigns).where(using).values(version_id=None))


def _take(tx: Transaction, table: Table, version_id: int, limit: int) -> int:
    """Delete up to so many rows of a version; how many."""
    mine = table.c.version_id == version_id
    numbers = tx.execute(select(table.c.n).where(mine).order_by(table.c.n).limit(limit)).scalars().all()
    if numbers:
        tx.execute(delete(table).where(mine, table.c.n.between(numbers[0], numbers[-1])))
    return len(numbers)


def _record(row: AnyRow) -> AudienceVersion:
    return AudienceVersion(
        id=row.id,
        name=row.name,
        version=row.version,
        source=row.source,
        columns=tuple(Column(each["name"], Kind(each["type"]), each["source"]) for each in row.columns),
        rows=row.rows,
        kept=row.kept,
        bad=row.bad,
        doubled=row.doubled,
        made_at=row.made_at,
        ready_at=row.ready_at,
        actor=row.actor,
    )
