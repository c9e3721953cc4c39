"""What a worker asks of a ledger stays cheap: every statement of the hot path goes by an index, however many mails were
settled before."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from dispatcher.automation import Scan
from dispatcher.delivery import Lane, State
from dispatcher.enrolment import EnrolmentState, Entry
from dispatcher.ledger import KEY_SECONDS
from tests.ledgers import ANNA, DAY, InSql, accepted, lease, settle

SETTLED, WAITING = 8000, 150
GREAT = "submissions", "messages", "deliveries", "attempts", "keys"
Asked = list[tuple[str, Any]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def used(request: pytest.FixtureRequest) -> InSql:
    """A ledger that has a past; its statistics are up to date."""
    kept: InSql = request.getfixturevalue(f"{request.param}_ledger")
    for first in range(0, SETTLED, 1000):
        kept.ledger.add([accepted(f"{n}@example.com", key=f"{n}") for n in range(first, first + 1000)])
        while (taken := lease(kept.ledger, limit=1000)).messages:
            settle(kept.ledger, taken, code=250, text="Ok", relay="main", sha256="a" * 64)
    kept.ledger.add([accepted(f"{n}@example.com") for n in range(WAITING)])
    with kept.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return kept


@contextmanager
def asked(engine: Engine) -> Iterator[Asked]:
    """Every statement of the block, with its parameters; of many, the first."""
    found: Asked = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE", "WITH")):
            found.append((statement, parameters[0] if many else parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def whole(kept: InSql, statement: str, parameters: Any, great: Sequence[str] = GREAT) -> list[str]:
    """The great tables that this statement would read from end to end, as the planner says."""
    words = "EXPLAIN QUERY PLAN" if kept.engine.dialect.name == "sqlite" else "EXPLAIN"
    with kept.engine.connect() as connection:
        if words == "EXPLAIN":  # a table of this size may be read whole for a hundred rows; may an index serve?
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = [str(row[-1]) for row in connection.exec_driver_sql(f"{words} {statement}", parameters)]
    walked = [line for line in plan if "Seq Scan on" in line or (line.startswith("SCAN") and "INDEX" not in line)]
    return [f"{line.strip()}: {statement}" for line in walked if any(table in line for table in great)]


def test_what_a_worker_asks_goes_by_an_index(used: InSql) -> None:
    ledger = used.ledger
    engine = ledger._database._connected()  # type: ignore[attr-defined]
    with asked(engine) as statements:
        taken = lease(ledger, limit=100)
        named = lease(ledger, limit=10, messages=[taken.messages[0].id, SETTLED + WAITING])
        ledger.due(Lane.TRANSACTIONAL, 500)
        ledger.pauses()
        ledger.held("worker")
        settle(ledger, taken, code=250, text="Ok", relay="main", sha256="b" * 64)
        settle(ledger, named, State.DEFERRED, due_in=60.0)
        ledger.reclaim(("somebody",), KEY_SECONDS)
    assert len(taken.messages) == 100
    assert len(statements) > 10
    assert [line for each in statements for line in whole(used, *each)] == []


def test_what_a_producer_asks_goes_by_an_index(used: InSql) -> None:
    engine = used.ledger._database._connected()  # type: ignore[attr-defined]
    with asked(engine) as statements:
        used.ledger.add([accepted(f"new{n}@example.com", key=f"new-{n}") for n in range(100)])
        used.ledger.add([accepted("again@example.com", key="new-1")])
    assert [line for each in statements for line in whole(used, *each)] == []


def test_what_is_asked_of_people_in_automations_goes_by_an_index(used: InSql) -> None:
    """However many are in what is paused, are gone, or only known by their keys."""
    store = used.ledger.automations
    store.load([({"automation": "welcome", "steps": []}, None)], [], ANNA)
    owner = store.get("welcome")
    entry = Entry(1, 1000.0, "li@example.com", {})
    store.enrol(owner, [(str(n), entry) for n in range(50)], Scan("2027-01-01", None, 0, 1000.0))
    engine = used.ledger._database._connected()  # type: ignore[attr-defined]
    with asked(engine) as statements:
        assert len(store.due(20)) == 20
        store.next_at()
        store.standing()
        assert len(store.enrolments("welcome", EnrolmentState.ACTIVE, limit=10)) == 10
        store.enrolments("welcome", limit=10)
        store.inside()
        store.forget(30 * DAY, 100)
    great = (*GREAT, "enrolments", "enrolment_steps", "events")
    assert len(statements) > 10
    assert [line for each in statements for line in whole(used, *each, great)] == []


def test_that_a_walk_would_be_seen(used: InSql) -> None:
    assert whole(used, "SELECT count(*) FROM messages WHERE build = 'x'", ())
