"""The ledger on SQLite: durable settings, one writer at a time, work in proportion to the batch."""

import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from dispatcher.adapters.sql import engine
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.delivery import Lane, Selector, State
from dispatcher.errors import ConfigurationError, LedgerUnavailable
from tests.ledgers import ANNA, Balance, InSql, accepted, add, lease, settle


def file_of(kept: InSql) -> Path:
    return Path(kept.engine.url.database or "")


@contextmanager
def another_writer(kept: InSql) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file_of(kept), isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def test_a_commit_is_on_the_disk_when_it_returns(sqlite_ledger: InSql) -> None:
    with sqlite_ledger.engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15000}


def test_a_ledger_that_stays_locked_is_unavailable_and_nothing_has_changed(sqlite_ledger: InSql) -> None:
    impatient = SqlLedger(f"{sqlite_ledger.url}?timeout=0.1")
    add(impatient, accepted())
    with another_writer(sqlite_ledger):
        for act in (
            lambda: impatient.add([accepted()]),
            lambda: lease(impatient),
            lambda: impatient.change(Selector(), State.CANCELLED, ANNA),
        ):
            with pytest.raises(LedgerUnavailable, match="database is locked"):
                act()
        assert Balance.of(impatient) == Balance(1, 1)  # reading goes on
    add(impatient, accepted())
    impatient.close()


def test_a_bell_for_what_may_not_go_does_not_wait_for_a_writer(sqlite_ledger: InSql) -> None:
    impatient = SqlLedger(f"{sqlite_ledger.url}?timeout=0.1")
    numbers = add(impatient, accepted()).message_ids
    impatient.pause("lane", Lane.TRANSACTIONAL.value, None, "maintenance", ANNA)
    with another_writer(sqlite_ledger):
        assert lease(impatient, messages=numbers).messages == ()
    impatient.resume("lane", Lane.TRANSACTIONAL.value, ANNA)
    assert [each.id for each in lease(impatient, messages=numbers).messages] == list(numbers)
    with another_writer(sqlite_ledger):
        assert lease(impatient, messages=numbers).messages == ()
    impatient.close()


def test_a_writer_waits_for_another(sqlite_ledger: InSql) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool, another_writer(sqlite_ledger) as connection:
        waiting = pool.apply_async(_add, (sqlite_ledger.url,))
        with pytest.raises(multiprocessing.TimeoutError):
            waiting.get(2)
        connection.execute("COMMIT")
        assert waiting.get(30) == 1
        pool.close()
        pool.join()


def _add(url: str) -> int:
    ledger = SqlLedger(url)
    try:
        return add(ledger, accepted()).accepted
    finally:
        ledger.close()


def test_a_child_made_by_fork_connects_for_itself(sqlite_ledger: InSql) -> None:
    ledger = sqlite_ledger.ledger
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


def test_a_full_disk_is_temporary_and_changes_nothing(sqlite_ledger: InSql) -> None:
    add(sqlite_ledger.ledger, accepted())
    with sqlite_ledger.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    @event.listens_for(sqlite_ledger.ledger._database._engine, "checkout")
    def full(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}").close()

    with pytest.raises(LedgerUnavailable, match="full") as caught:
        sqlite_ledger.ledger.add([accepted(shared={"text": "x" * 100_000})])
    assert caught.value.temporary
    assert Balance.of(sqlite_ledger.ledger) == Balance(1, 1)


def steps(kept: InSql, act: Callable[[], object]) -> int:
    """How many instructions SQLite's machine runs for something, in hundreds."""
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1

    def watch(connection: sqlite3.Connection, *_: object) -> None:
        connection.set_progress_handler(count, 100)

    pool = kept.ledger._database._connected()
    event.listen(pool, "checkout", watch)
    try:
        act()
    finally:
        event.remove(pool, "checkout", watch)
    return counted


def test_neither_what_is_settled_nor_what_waits_makes_a_lease_or_settle_dearer(sqlite_ledger: InSql) -> None:
    ledger = sqlite_ledger.ledger

    def batch() -> None:
        settle(ledger, lease(ledger, limit=20))

    def named() -> None:
        numbers = add(ledger, accepted("x@example.com", "y@example.com")).message_ids
        assert [each.id for each in lease(ledger, limit=2, messages=numbers).messages] == list(numbers)

    def upkeep() -> None:
        ledger.reclaim()
        ledger.due(Lane.TRANSACTIONAL, 100)

    add(ledger, accepted(*(f"{n}@example.com" for n in range(200))))
    small = [steps(sqlite_ledger, act) for act in (batch, named, upkeep)]
    add(ledger, accepted(*(f"{n}@example.com" for n in range(20_000))))
    for _ in range(5):
        settle(ledger, lease(ledger, limit=1000))
    add(ledger, accepted(*(f"later{n}@example.com" for n in range(10_000)), send_at=1e11))
    large = [steps(sqlite_ledger, act) for act in (batch, named, upkeep)]
    assert all(after < 2 * before + 20 for before, after in zip(small, large, strict=True)), (small, large)


def test_nothing_is_touched_before_it_is_needed(tmp_path: Path) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing/ledger.db", "unable to open"), ("", "unable to open"), ("junk.db", "file is not a database")],
)
def test_a_file_that_cannot_be_a_ledger_is_named_with_the_setting(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "junk.db").write_text("no database " * 100)
    url = f"sqlite:///{tmp_path / name}"
    with pytest.raises(ConfigurationError, match=f"^DISPATCHER_LEDGER_URL: cannot use {tmp_path}.*: {reason}"):
        engine.upgrade(url)
    with pytest.raises(LedgerUnavailable, match=reason):
        SqlLedger(url).totals()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ledger.db", "no database URL"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("mysql://host/name", "mysql:// is not known"),
        ("postgresql+psycopg://user:secret@host:port/name", "no database URL"),
    ],
)
def test_a_url_with_a_mistake_is_named_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^DISPATCHER_LEDGER_URL: .*{reason}") as caught:
        SqlLedger(url).totals()
    assert "secret" not in str(caught.value)
