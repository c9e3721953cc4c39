"""Databases that let nobody write, or nobody in: one line that names the setting and says what to do."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.adapters.sql import engine
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.cli import main
from dispatcher.errors import ConfigurationError, DispatcherError, LedgerUnavailable
from tests.ledgers import Balance, InSql, accepted, add, lease
from tests.servers import Postgres, Server, require
from tests.waiting import wait_for

NOBODY = 65534


class Standby(Postgres):
    """A hot standby of a server, which follows it."""

    def __init__(self, primary: Postgres) -> None:
        Server.__init__(self, "standby")
        self._postgres, self._settings, self.owner = primary._postgres, primary._settings, primary.owner
        self._data, self.url = self.folder / "data", self.named("postgres")
        if self.owner:
            shutil.chown(self.folder, "nobody")
        copy = require("pg_basebackup", "/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin")
        command = [copy, "-h", "127.0.0.1", "-p", str(primary.port), "-U", "test", "-D", str(self._data)]
        command += ["-X", "stream", "--checkpoint=fast", "--write-recovery-conf", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self.owner)
        self.start()

    def promote(self) -> None:
        with self._connection() as connection:
            connection.execute("SELECT pg_promote()")


@pytest.fixture
def standby(own_postgres: Postgres) -> Iterator[Standby]:
    """Of a server with a ledger that holds one mail."""
    engine.upgrade(own_postgres.url)
    ledger = SqlLedger(own_postgres.url)
    add(ledger, accepted())
    ledger.close()
    server = Standby(own_postgres)
    yield server
    server.close()


def command(url: str, *arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A command of ``dispatcher`` on this ledger."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
    settings = {"DISPATCHER_LEDGER_URL": url, "DISPATCHER_DATA_DIR": str(folder), "DISPATCHER_FROM": "a@example.com"}
    return subprocess.run(
        [sys.executable, "-c", f"from {main.__module__} import main; main()", *arguments],
        env={**outer, **settings, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.server
def test_a_standby_is_refused_naming_the_primary_as_the_way_out(standby: Standby, tmp_path: Path) -> None:
    ledger = SqlLedger(standby.url)
    what = r"^ledger postgresql\+psycopg://.*: it is a read-only standby: name the primary in DISPATCHER_LEDGER_URL$"
    for act in (lambda: add(ledger, accepted()), lambda: lease(ledger), lambda: engine.upgrade(standby.url)):
        with pytest.raises(LedgerUnavailable, match=what):
            act()
    for words in (("db", "check"), ("db", "upgrade"), ("status",)):
        done = command(standby.url, *words, folder=tmp_path)
        assert done.returncode == 3
        assert done.stderr.count("\n") == 1
        assert "read-only standby: name the primary in DISPATCHER_LEDGER_URL" in done.stderr
    standby.promote()
    wait_for(lambda: Balance.of(ledger) == Balance(1, 1) if not _in_recovery(standby) else False)
    add(ledger, accepted())
    assert len(lease(ledger).messages) == 2
    ledger.close()


def _in_recovery(server: Postgres) -> bool:
    with server._connection() as connection:
        found = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        return bool(found and found[0])


@pytest.mark.server
def test_a_server_that_takes_no_changes_any_more_says_so_and_is_used_again_later(postgres_ledger: InSql) -> None:
    ledger = postgres_ledger.ledger
    add(ledger, accepted())
    name = postgres_ledger.url.rpartition("/")[2]
    with postgres_ledger.engine.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
        connection.commit()
    ledger.close()  # connections that are open already go on
    what = r"^ledger .*: default_transaction_read_only is on, .*: turn it off$"
    for act in (lambda: add(ledger, accepted()), lambda: lease(ledger)):
        with pytest.raises(LedgerUnavailable, match=what):
            act()
    with postgres_ledger.engine.connect() as connection:
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"))
        connection.commit()
        connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
        connection.commit()
    ledger.close()
    assert len(lease(ledger).messages) == 1


@pytest.fixture
def guarded(own_postgres: Postgres) -> Postgres:
    """A server that lets the user ``app`` in with the password ``right`` only."""
    engine.upgrade(own_postgres.url)
    with own_postgres._connection() as connection:
        connection.execute("CREATE ROLE app LOGIN PASSWORD 'right'")
        rules = "host all test 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (own_postgres._data / "pg_hba.conf").write_text(rules)
        connection.execute("SELECT pg_reload_conf()")
    return own_postgres


@pytest.mark.server
@pytest.mark.parametrize("login", ["app:hunter2@", "app@", "unknown:hunter2@"])
def test_a_wrong_password_names_the_setting_and_is_told_to_nobody(
    guarded: Postgres, login: str, tmp_path: Path
) -> None:
    url = guarded.url.replace("test@", login)
    ledger = SqlLedger(url)
    wait_for(lambda: _refused(ledger))  # by the rules that were read again
    for act in (lambda: add(ledger, accepted()), lambda: lease(ledger), lambda: engine.upgrade(url)):
        with pytest.raises(LedgerUnavailable, match=r"correct user and password in DISPATCHER_LEDGER_URL$") as caught:
            act()
        assert "hunter2" not in f"{caught.value} {caught.value!r}"
    for words in (("db", "check"), ("db", "upgrade")):
        done = command(url, *words, folder=tmp_path)
        assert done.returncode == 3
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("dispatcher: ledger postgresql+psycopg://")
        assert "hunter2" not in done.stderr + done.stdout


def _refused(ledger: SqlLedger) -> bool:
    try:
        ledger.totals()
    except LedgerUnavailable as error:
        return "correct user and password" in str(error)
    return False


@pytest.mark.server
def test_a_user_without_rights_to_the_tables_is_told_so(guarded: Postgres) -> None:
    url = guarded.url.replace("test@", "app:right@")
    ledger = SqlLedger(url)
    with pytest.raises(LedgerUnavailable, match=r"permission denied for .*: let its user own the ledger's tables"):
        add(ledger, accepted())
    with pytest.raises(LedgerUnavailable, match=r"does not exist: create the database, or correct its name in DISP"):
        SqlLedger(guarded.named("nowhere")).totals()
    ledger.close()


@pytest.mark.server
def test_a_user_who_may_create_nothing_is_told_so(guarded: Postgres) -> None:
    with pytest.raises(LedgerUnavailable, match=r"permission denied for schema public: let its user own"):
        engine.upgrade(guarded.create().replace("test@", "app:right@"))


def refused(act: Callable[[], Any]) -> tuple[type[DispatcherError], str]:
    """How an act is refused to a user who owns nothing here."""
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=_report, args=(act, theirs))
    child.start()
    theirs.close()
    found: tuple[type[DispatcherError], str] = ours.recv()
    child.join(20)
    return found


def _report(act: Callable[[], Any], answers: Any) -> None:
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    try:
        answers.send((DispatcherError, f"it was let do it: {act()}"))
    except DispatcherError as error:
        answers.send((type(error), str(error)))


@pytest.fixture
def locked_file(sqlite_ledger: InSql) -> Iterator[str]:
    """The URL of a ledger in a file that may only be read."""
    add(sqlite_ledger.ledger, accepted())
    sqlite_ledger.close()
    folder = Path(tempfile.mkdtemp())
    shutil.copy(sqlite_ledger.url.removeprefix("sqlite:///"), folder / "ledger.db")
    (folder / "ledger.db").chmod(0o444)
    folder.chmod(0o555)
    yield f"sqlite:///{folder / 'ledger.db'}"
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_file_that_may_only_be_read_says_so(locked_file: str) -> None:
    ledger = SqlLedger(locked_file)
    for act in (lambda: add(ledger, accepted()), lambda: lease(ledger), lambda: engine.upgrade(locked_file)):
        kind, said = refused(act)
        assert kind in (ConfigurationError, LedgerUnavailable), said
        assert "ledger.db" in said
        assert "let this user write to the file and to its folder" in said
