"""The ledger's schema: what the migrations make is what the code expects, and what it cannot use it says."""

import multiprocessing
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from dispatcher.adapters.sql import engine, migrating
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.adapters.sql.schema import SCHEMA, metadata
from dispatcher.delivery import State
from dispatcher.errors import ConfigurationError, LedgerUnavailable
from dispatcher.retention import Retention
from tests.ledgers import Balance, InSql, accepted, add, lease, settle, states


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that holds nothing."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


def scripts() -> Config:
    config = Config()
    config.set_main_option("script_location", "dispatcher.adapters.sql:migrations")
    return config


def rewrite(url: str, version: str) -> None:
    """Pretend that the ledger has this version."""
    made = engine.create(url)
    with made.connect().execution_options(writing=True) as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    made.dispose()


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
def test_the_migrations_make_the_schema_that_the_code_expects(empty_url: str) -> None:
    assert engine.upgrade(empty_url) == SCHEMA
    made = engine.create(empty_url)
    with made.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    made.dispose()


def test_the_newest_migration_is_the_version_that_the_code_needs() -> None:
    assert ScriptDirectory.from_config(scripts()).get_current_head() == SCHEMA


def test_upgrading_again_keeps_what_is_there(empty_url: str) -> None:
    engine.upgrade(empty_url)
    ledger = SqlLedger(empty_url)
    add(ledger, accepted())
    assert engine.upgrade(empty_url) == SCHEMA
    assert Balance.of(ledger) == Balance(1, 1)
    ledger.close()


def test_processes_that_upgrade_at_once_make_one_ledger(empty_url: str) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(engine.upgrade, [empty_url] * 6, chunksize=1) == [SCHEMA] * 6
        pool.close()
        pool.join()
    ledger = SqlLedger(empty_url)
    assert Balance.of(ledger) == Balance(0, 0)
    ledger.close()


A, B, C = ("a" * 64, "b" * 64, "c" * 64)
_OLD_ROWS = (
    """INSERT INTO submissions (id, public_id, seed, lane, shared, accepted, accepted_at, lifetime, if_in_doubt, tags,
    metadata, labels, producer, key) VALUES (:n, :name, 7, 'transactional', :shared, 1, :now, 86400, 'resend', '[]',
    '{}', '[]', 'erp', :key)""",
    "INSERT INTO messages (id, submission_id, n, own) VALUES (:n, :n, 1, :own)",
    """INSERT INTO deliveries (id, message_id, submission_id, lane, k, rcpt, kind, state, due_at, expires_at,
    changed_at, attempts, crashes) VALUES (:n, :n, :n, 'transactional', 1, 'a@example.com', 'to', 'queued', :now,
    :now + 86400, :now, 0, 0)""",
    """INSERT INTO keys (key, producer, submission, accepted, fingerprints, keep_until)
    VALUES (:key, 'erp', :name, 1, '{"subject":"f1","text":"f2"}', :now + 864000)""",
)


class OldProgram:
    """Makes a ledger of schema 1.0, and takes mail in as the programs of that time do."""

    def __init__(self, url: str) -> None:
        self.engine = engine.create(url)
        self.migrate("1.0")

    def migrate(self, version: str) -> None:
        """Run the migrations as far as that, and nothing besides."""
        config = scripts()
        with self.writing() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, version)

    def indexes(self) -> dict[str, set[str]]:
        """The names of the indexes by table; of unfinished ones none."""
        names = "SELECT t.name, i.name FROM sqlite_master t LEFT JOIN pragma_index_list(t.name) i WHERE type = 'table'"
        if self.engine.dialect.name == "postgresql":
            names = (
                "SELECT t.relname, i.relname FROM pg_class t LEFT JOIN pg_index ON indrelid = t.oid AND indisvalid"
                " LEFT JOIN pg_class i ON i.oid = indexrelid"
                " WHERE t.relkind = 'r' AND t.relnamespace = current_schema()::regnamespace"
            )
        found: dict[str, set[str]] = {}
        with self.engine.connect() as connection:
            for table, index in connection.execute(text(names)):
                found.setdefault(table, set()).update(filter(None, (index,)))
        return found

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(writing=True) as connection, connection.begin():
            yield connection

    def add(self, n: int) -> None:
        """A submission with two attachments; of those with an even number one is the recipient's own."""
        shared, own = ([A], [B]) if n % 2 == 0 else ([A, C], [])
        texts = [
            ", ".join(f'{{"blob":"{blob}","content_type":"text/plain"}}' for blob in each) for each in (shared, own)
        ]
        values = {
            "n": n,
            "name": f"{n:016}",
            "key": f"{n:016}",
            "now": time.time() - 60,
            "shared": f'{{"from":"a@example.com","subject":"S","text":"T","attachments":[{texts[0]}]}}',
            "own": f'{{"to":["a@example.com"],"attachments":[{texts[1]}]}}' if own else '{"to":["a@example.com"]}',
        }
        with self.writing() as connection:
            for statement in _OLD_ROWS:
                connection.execute(text(statement), values)


@pytest.fixture
def old(empty_url: str) -> Iterator[OldProgram]:
    program = OldProgram(empty_url)
    yield program
    program.engine.dispose()


def test_a_ledger_of_1_0_is_upgraded_with_its_mail_while_programs_of_1_0_go_on(old: OldProgram, empty_url: str) -> None:
    old.add(1001)
    assert engine.upgrade(empty_url) == SCHEMA
    old.add(1002)
    ledger = SqlLedger(empty_url)
    again = add(ledger, accepted(key=f"{1001:016}", producer="erp"))
    assert (again.duplicate, again.id, again.accepted) == (True, f"{1001:016}", 1)
    add(ledger, accepted())
    assert Balance.of(ledger) == Balance(3, 3)
    leased = lease(ledger)
    assert [len(each.shared.get("attachments", ())) for each in leased.messages] == [2, 1, 0]
    assert settle(ledger, leased) == 3
    assert states(ledger) == {State.SENT: 3}
    assert ledger.unused([A, "d" * 64]) == []  # nobody knows yet what the old program's mail is made of
    while ledger.retire(Retention(), 1000).more:
        pass
    assert ledger.unused([A, B, C, "d" * 64]) == ["d" * 64]
    ledger.close()


def test_a_migration_makes_no_index_on_a_table_that_was_there_before(old: OldProgram) -> None:
    _, *later = reversed([script.revision for script in ScriptDirectory.from_config(scripts()).walk_revisions()])
    assert later[-1] == SCHEMA
    for revision in later:
        before = old.indexes()
        old.migrate(revision)
        after = old.indexes()
        assert {table: after[table] for table in before} == before, revision


def test_an_upgrade_makes_all_the_indexes_that_the_code_expects(old: OldProgram, empty_url: str) -> None:
    assert engine.upgrade(empty_url) == SCHEMA
    made = old.indexes()
    for table in metadata.sorted_tables:
        assert {str(index.name) for index in table.indexes} <= made[table.name]


@pytest.mark.server
def test_an_index_that_was_interrupted_is_made_anew(postgres_ledger: InSql) -> None:
    index = "ix_submissions_blobs_unnoted"
    valid = text("SELECT indisvalid FROM pg_index WHERE indexrelid = CAST(:name AS regclass)")
    with postgres_ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = CAST(:name AS regclass)"), {"name": index}
        )
        connection.execute(text("DROP INDEX ix_keys_gone"))
        assert engine.upgrade(postgres_ledger.url) == SCHEMA
        for name in (index, "ix_keys_gone"):
            assert connection.execute(valid, {"name": name}).scalar_one() is True


@pytest.fixture
def old_server(postgres_url: str) -> Iterator[OldProgram]:
    program = OldProgram(postgres_url)
    yield program
    program.engine.dispose()


@contextmanager
def in_use(old: OldProgram) -> Iterator[Connection]:
    """Somebody has read in a transaction that goes on."""
    with old.engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM submissions"))
        yield connection


@pytest.mark.server
def test_whoever_works_waits_but_a_moment_for_an_upgrade_that_has_to_wait(
    old_server: OldProgram, postgres_url: str
) -> None:
    took, done = [], threading.Event()

    def work() -> None:
        n = 0
        while not done.is_set():
            n += 1
            began = time.monotonic()
            old_server.add(n)
            took.append(time.monotonic() - began)

    upgrading = threading.Thread(target=engine.upgrade, args=(postgres_url,))
    working = threading.Thread(target=work)
    with in_use(old_server):
        old_server.add(0)  # its connection is open from now on, which is not what is timed
        working.start()
        upgrading.start()
        upgrading.join(3)
        assert upgrading.is_alive()  # it cannot be done yet
        before = len(took)
    upgrading.join(60)
    done.set()
    working.join(20)
    assert before > 5
    assert max(took) < 1.0, took
    ledger = SqlLedger(postgres_url)
    assert Balance.of(ledger) == Balance(len(took) + 1, len(took) + 1)
    ledger.close()


@pytest.mark.server
def test_an_upgrade_that_never_gets_its_turn_changes_nothing_and_says_why(
    old_server: OldProgram, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "_PATIENCE_SECONDS", 1.0)
    with in_use(old_server) as connection:
        with pytest.raises(LedgerUnavailable, match=r"nothing was changed: others held its tables for 1 s"):
            engine.upgrade(postgres_url)
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "1.0"
    assert engine.upgrade(postgres_url) == SCHEMA


def test_a_ledger_without_tables_says_what_to_do(empty_url: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^DISPATCHER_LEDGER_URL: .* no tables yet: run `dispatcher db upgrade`$"
    ):
        SqlLedger(empty_url).add([accepted()])


def test_an_older_ledger_says_what_to_do(sqlite_ledger: InSql) -> None:
    rewrite(sqlite_ledger.url, "0.9")
    with pytest.raises(
        ConfigurationError, match=r"has schema 0\.9, and this program needs .*: run `dispatcher db upgrade`"
    ):
        sqlite_ledger.ledger.totals()


def test_a_ledger_that_is_a_minor_version_ahead_is_used(sqlite_ledger: InSql) -> None:
    major, _, minor = SCHEMA.partition(".")
    ahead = f"{major}.{int(minor) + 1}"
    rewrite(sqlite_ledger.url, ahead)
    add(sqlite_ledger.ledger, accepted())
    assert engine.upgrade(sqlite_ledger.url) == ahead


def test_a_ledger_that_is_a_major_version_ahead_is_refused(sqlite_ledger: InSql) -> None:
    rewrite(sqlite_ledger.url, "99.0")
    with pytest.raises(ConfigurationError, match="made by a newer program"):
        engine.upgrade(sqlite_ledger.url)
    with pytest.raises(ConfigurationError, match="made by a newer program"):
        sqlite_ledger.ledger.totals()


def test_a_ledger_can_be_repaired_while_the_program_runs(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqlLedger(f"sqlite:///{path}")
    with pytest.raises(ConfigurationError):
        ledger.totals()
    shutil.copy(sqlite_template, path)
    assert Balance.of(ledger) == Balance(0, 0)
    ledger.close()
