"""What a lease passes over is passed over inside an index, however much of it waits in front."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from dispatcher.delivery import Lane
from tests.ledgers import InSql, accepted, add, lease

MANY = 5000


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def sql(request: pytest.FixtureRequest) -> InSql:
    """A ledger in SQL."""
    found: InSql = request.getfixturevalue(f"{request.param}_ledger")
    return found


def fill(sql: InSql, relay: str | None) -> None:
    """Many that ask for this relay, in front of ten that ask for another; the database knows how many there are."""
    add(sql.ledger, accepted(*(f"{n}@example.com" for n in range(MANY)), relay=relay))
    sql.age(1)
    add(sql.ledger, accepted(*(f"free{n}@example.com" for n in range(10)), relay="free"))
    with sql.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


@contextmanager
def explained(sql: InSql) -> Iterator[dict[str, str]]:
    """How the database finds what is due, by the first word of each statement that asks for it."""
    plans = dict[str, str]()
    word = "EXPLAIN" if sql.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"

    def explain(connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "ORDER BY deliveries.due_at" in statement or statement.startswith("SELECT count("):
            with sql.engine.connect() as other:
                rows = other.exec_driver_sql(f"{word} {statement}", parameters)  # type: ignore[arg-type]
                plans["choose" if "ORDER BY" in statement else "count"] = "\n".join(str(row[-1]) for row in rows)

    watched = sql.ledger._database._connected()
    event.listen(watched, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(watched, "before_cursor_execute", explain)


def test_what_asks_for_no_relay_is_not_even_looked_at_when_it_is_avoided(sql: InSql) -> None:
    fill(sql, None)
    with explained(sql) as plans:
        assert sql.ledger.due(Lane.TRANSACTIONAL, 100, {"main", None}) == 10
        assert len(lease(sql.ledger, limit=20, avoid={"main", None}).messages) == 10
    assert set(plans) == {"choose", "count"}
    assert all("ix_deliveries_pinned" in plan for plan in plans.values()), plans
    assert not any(sorts(plan) for plan in plans.values()), plans


def test_what_asks_for_a_relay_that_is_avoided_is_passed_over_in_the_order_of_the_index(sqlite_ledger: InSql) -> None:
    fill(sqlite_ledger, "main")
    with explained(sqlite_ledger) as plans:
        assert len(lease(sqlite_ledger.ledger, limit=20, avoid={"main"}).messages) == 10
    assert "ix_deliveries_due" in plans["choose"], plans
    assert not sorts(plans["choose"]), plans


def sorts(plan: str) -> bool:
    return "Sort" in plan or "TEMP B-TREE" in plan
