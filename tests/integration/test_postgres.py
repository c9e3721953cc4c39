"""The ledger on PostgreSQL: no waiting for other workers, and no harm when the server goes away for a while."""

import multiprocessing
import signal
from typing import Any

import pytest
from sqlalchemy import event, text

from dispatcher.adapters.sql import engine
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.delivery import Selector, State
from dispatcher.errors import ConfigurationError, LedgerUnavailable
from tests.ledgers import ANNA, Balance, InSql, accepted, add, lease, message, settle
from tests.servers import Postgres, free_port

pytestmark = pytest.mark.server


def test_a_message_that_another_worker_is_taking_is_passed_over_whole(postgres_ledger: InSql) -> None:
    ledger = postgres_ledger.ledger
    taken = add(ledger, accepted(message("a@example.com", "b@example.com")))
    other = add(ledger, accepted(message("c@example.com", "d@example.com")))
    with postgres_ledger.engine.connect() as connection:
        lock = text("SELECT id FROM messages WHERE id = :id FOR UPDATE")
        connection.execute(lock, {"id": taken.message_ids[0]})
        leased = lease(ledger, messages=taken.message_ids)
        assert [each.submission for each in leased.messages] == [other.id]
        assert lease(ledger).messages == ()
    assert [each.submission for each in lease(ledger).messages] == [taken.id]


def test_a_delivery_that_a_person_is_changing_holds_up_no_lease(postgres_ledger: InSql) -> None:
    ledger = postgres_ledger.ledger
    add(ledger, accepted(message("a@example.com", "b@example.com")))
    with postgres_ledger.engine.connect() as connection:
        connection.execute(text("UPDATE deliveries SET state = 'cancelled' WHERE rcpt = 'a@example.com'"))
        (leased,) = lease(ledger).messages
        assert [delivery.rcpt for delivery in leased.deliveries] == ["b@example.com"]
        connection.rollback()
    (late,) = lease(ledger).messages
    assert [delivery.rcpt for delivery in late.deliveries] == ["a@example.com"]


def test_tables_that_change_with_every_mail_are_cleaned_up_often(postgres_ledger: InSql) -> None:
    with postgres_ledger.engine.connect() as connection:
        found = dict(connection.execute(text("SELECT relname, reloptions FROM pg_class WHERE relkind = 'r'")).all())
    for table in ("submissions", "messages", "deliveries", "keys"):
        assert "autovacuum_vacuum_scale_factor=0.02" in found[table]
    assert "fillfactor=90" in found["messages"]
    assert "fillfactor=70" in found["deliveries"]


def test_a_lease_uses_the_index_of_what_waits(postgres_ledger: InSql) -> None:
    ledger = postgres_ledger.ledger
    add(ledger, accepted(*(f"{n}@example.com" for n in range(4000))))
    ledger.change(Selector(limit=3000), State.CANCELLED, ANNA)
    with postgres_ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    said = list[tuple[str, Any]]()
    event.listen(
        ledger._database._connected(),
        "before_cursor_execute",
        lambda _connection, _cursor, statement, parameters, *_: said.append((statement, parameters)),
    )
    assert len(lease(ledger, limit=50).messages) == 50
    assert ledger.reclaim() == 0
    plans = dict[str, str]()
    with postgres_ledger.engine.connect() as connection:
        for statement, parameters in said:
            if "FOR UPDATE" in statement:
                rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()
                plans[statement] = "\n".join(rows)
    choosing, _, reclaiming = plans.values()
    assert "ix_deliveries_due" in choosing
    assert "Sort" not in choosing, choosing
    assert "ix_deliveries_lease" in reclaiming, reclaiming


def test_a_server_that_is_away_is_unavailable_and_used_again_when_it_is_back(own_postgres: Postgres) -> None:
    engine.upgrade(own_postgres.url)
    ledger = SqlLedger(own_postgres.url)
    add(ledger, accepted())
    leased = lease(ledger)
    own_postgres.stop()
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match=r"ledger postgresql\+psycopg://.*refused"):
            add(ledger, accepted())
        with pytest.raises(LedgerUnavailable):
            settle(ledger, leased)
    own_postgres.start()
    assert settle(ledger, leased) == 1
    assert Balance.of(ledger) == Balance(1, 1)
    own_postgres.stop(signal.SIGQUIT)  # as a crash: the server does not say goodbye
    own_postgres.start()
    add(ledger, accepted())
    assert Balance.of(ledger) == Balance(2, 2)
    ledger.close()


def test_a_connection_that_dies_in_a_transaction_changes_nothing(postgres_ledger: InSql) -> None:
    ledger = postgres_ledger.ledger
    add(ledger, accepted())

    @event.listens_for(ledger._database._connected(), "before_cursor_execute", once=True)
    def kill(connection: object, cursor: object, statement: str, *_: object) -> None:
        with postgres_ledger.engine.connect() as other:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            other.execute(text(f"{others} AND pid <> pg_backend_pid()"))

    with pytest.raises(LedgerUnavailable):
        add(ledger, accepted(), accepted())
    assert Balance.of(ledger) == Balance(1, 1)
    assert len(lease(ledger).messages) == 1


def test_a_child_made_by_fork_connects_for_itself(postgres_ledger: InSql) -> None:
    ledger = postgres_ledger.ledger
    add(ledger, accepted())
    children = [multiprocessing.get_context("fork").Process(target=_work, args=(ledger,)) for _ in range(3)]
    for child in children:
        child.start()
    for _ in range(10):
        add(ledger, accepted())
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert Balance.of(ledger) == Balance(41, 41)


def _work(ledger: SqlLedger) -> None:
    for _ in range(10):
        add(ledger, accepted())
    ledger.close()


def test_the_password_is_in_no_error() -> None:
    url = f"postgresql+psycopg://user:hunter2@127.0.0.1:{free_port()}/ledger?sslmode=disable"
    ledger = SqlLedger(url)
    for act in (ledger.totals, lambda: engine.upgrade(url)):
        with pytest.raises(LedgerUnavailable) as caught:
            act()
        assert "hunter2" not in f"{caught.value} {caught.value!r} {caught.value.args}"


def test_an_empty_database_says_what_to_do(postgres_url: str) -> None:
    with pytest.raises(ConfigurationError, match="has no tables yet: run `dispatcher db upgrade`"):
        SqlLedger(postgres_url).totals()
