"""The ledger's schema: what the migrations make is what the code expects, and what it cannot use it says."""

import multiprocessing
import shutil
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from dispatcher.adapters.sql import engine
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.adapters.sql.schema import SCHEMA, metadata
from dispatcher.errors import ConfigurationError
from tests.ledgers import Balance, InSql, accepted, add


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that holds nothing."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


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
    config = Config()
    config.set_main_option("script_location", "dispatcher.adapters.sql:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA


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
