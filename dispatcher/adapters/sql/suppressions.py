"""Whom not to write to: looked up for every address that mail is taken in for or leased, so by one statement."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Double, Insert, and_, bindparam, delete, func, or_, select, tuple_

from dispatcher.adapters.sql import acting
from dispatcher.adapters.sql.database import Database, Transaction, chunks, insert_in
from dispatcher.adapters.sql.schema import suppressions
from dispatcher.adapters.sql.spoken import among
from dispatcher.delivery import Actor
from dispatcher.ledger import ADDED, REMOVED, signature, suppressing
from dispatcher.suppression import Reason, Suppression, holding, normal

_AT_ONCE = 1000  # that are added in one transaction
_PAGE = 1000
_COLUMNS = (
    suppressions.c.address,
    suppressions.c.scope,
    suppressions.c.reason,
    suppressions.c.evidence,
    suppressions.c.origin,
    suppressions.c.at,
    suppressions.c.until,
    suppressions.c.actor,
)
_HOLDS = or_(suppressions.c.until.is_(None), suppressions.c.until > bindparam("now", type_=Double))
_OF_ADDRESSES = select(*_COLUMNS).where(among(suppressions.c.address), _HOLDS)
Found = dict[str, list[Suppression]]


class SqlSuppressions:
    """``interfaces.Suppressions`` in a ledger's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, suppressions: Iterable[Suppression], actor: Actor | None = None) -> int:
        rest = iter(suppressions)
        count, act = 0, None
        while group := list(islice(rest, _AT_ONCE)):
            with self._database.writing() as tx:
                new = put(tx, group, actor)
                if actor is not None and act is not None:
                    acting.more(tx, act, new)
                elif actor is not None and new:
                    act = acting.record(tx, actor, ADDED, suppressing(group), count=new)
            count += new
        return count

    def remove(self, address: str, scope: str | None, actor: Actor, *, reason: Reason | None = None) -> int:
        meant = _meant(address, scope, reason)
        with self._database.writing() as tx:
            held = tx.execute(select(func.count()).where(meant, _HOLDS), {"now": tx.now}).scalar_one()
            tx.execute(delete(suppressions).where(meant))
            if held:
                acting.record(tx, actor, REMOVED, f"{normal(address)} {scope or ''}".strip(), count=held)
        return int(held)

    def standing(self, address: str) -> list[Suppression]:
        with self._database.reading() as tx:
            found = of_addresses(tx, [normal(address)])
        return sorted(found.get(normal(address), ()), key=lambda each: each.scope)

    def find(
        self, *, scope: str | None = None, reason: Reason | None = None, address: str | None = None
    ) -> Iterator[Suppression]:
        meant = _meant(address, scope, reason)
        key = suppressions.c.address, suppressions.c.scope
        query = select(*_COLUMNS).where(meant, _HOLDS).order_by(*key).limit(_PAGE)
        after: tuple[str, str] | None = None
        while True:
            page = query if after is None else query.where(tuple_(*key) > after)
            with self._database.reading() as tx:
                rows = tx.execute(page, {"now": tx.now}).all()
            yield from (_suppression(row) for row in rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0], rows[-1][1]

    def count(self, *, scope: str | None = None, reason: Reason | None = None, address: str | None = None) -> int:
        query = select(func.count()).where(_meant(address, scope, reason), _HOLDS)
        with self._database.reading() as tx:
            return int(tx.execute(query, {"now": tx.now}).scalar_one())

    def held(self, addresses: Collection[str], list: str | None) -> dict[str, Suppression]:  # noqa: A002 - the Protocol's name
        with self._database.reading() as tx:
            found = of_addresses(tx, {normal(address) for address in addresses})
        held = {address: holding(theirs, list) for address, theirs in found.items()}
        return {address: each for address, each in held.items() if each is not None}


def _meant(address: str | None, scope: str | None, reason: Reason | None) -> ColumnElement[bool]:
    exactly = (
        (suppressions.c.address, None if address is None else normal(address)),
        (suppressions.c.scope, scope),
        (suppressions.c.reason, None if reason is None else reason.value),
    )
    return and_(True, *(column == value for column, value in exactly if value is not None))


def of_addresses(tx: Transaction, addresses: Collection[str]) -> Found:
    """Those that hold now, by address; the addresses are normal."""
    found: Found = {}
    for chunk in chunks(list(addresses)):
        for row in tx.rows(_OF_ADDRESSES, among=chunk, now=tx.now):
            found.setdefault(row[0], []).append(_suppression(row))
    return found


def _suppression(row: Sequence[Any]) -> Suppression:
    address, scope, reason, *rest = row
    return Suppression(address, scope, Reason(reason), *rest)


def put(tx: Transaction, new: Sequence[Suppression], actor: Actor | None = None) -> int:
    """Enter these; how many changed something: one that is there and as long stands.

    Sorted, so that two callers with the same addresses wait for each other in one order.
    """
    by = None if actor is None else signature(actor)
    rows = [
        {
            "address": normal(each.address),
            "scope": each.scope,
            "reason": str(each.reason),
            "evidence": each.evidence,
            "origin": each.origin,
            "at": each.at or tx.now,
            "until": each.until,
            "actor": each.actor or by,
        }
        for each in new
    ]
    rows.sort(key=lambda row: (row["address"], row["scope"]))
    return tx.many(_enter(tx.dialect), rows)


@cache
def _enter(dialect: str) -> Insert:
    """As ``suppression.stands`` has it."""
    upsert = insert_in(dialect, suppressions)
    new = upsert.excluded
    longer = suppressions.c.until.is_not(None) & (new.until.is_(None) | (new.until > suppressions.c.until))
    return upsert.on_conflict_do_update(
        index_elements=[suppressions.c.address, suppressions.c.scope],
        set_={name: new[name] for name in ("reason", "evidence", "origin", "at", "until", "actor")},
        where=longer,
    )
