"""``dispatcher doctor`` on real servers that are misconfigured on purpose: each flaw is one line with what to do."""

import json
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as Client

from dispatcher.adapters.redis import Broker
from dispatcher.adapters.redis_health import hazards
from dispatcher.adapters.sql.inspecting import inspect_server
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.cli import doctor
from dispatcher.cli.doctor import findings
from dispatcher.cli.doctor.ledger import replication
from dispatcher.delivery import Actor
from tests.commands import Cli, QuickStack, cli
from tests.ledgers import InSql, accepted, add
from tests.processes import sink_process
from tests.servers import Postgres, Redis, Standby
from tests.waiting import wait_for

__all__ = ["cli"]
ANNA = Actor("anna", "desk-7", "the relay's night")


def told(cli: Cli, **environment: str) -> dict[str, dict[str, str]]:
    """What the doctor found, by what it looked at; the worst where it said several things of one."""
    done = cli("doctor", "--json", **environment)
    found: dict[str, dict[str, str]] = {}
    for each in json.loads(done.stdout):
        worst = found.get(each["what"])
        if worst is None or LEVELS.index(each["level"]) > LEVELS.index(worst["level"]):
            found[each["what"]] = each
        assert bool(each["advice"]) == (each["level"] != "ok"), each
    assert done.returncode == max(LEVELS.index(each["level"]) for each in found.values())
    return found


LEVELS = (doctor.OK, doctor.WARN, doctor.FAIL)


@pytest.fixture
def evicting() -> Iterator[Redis]:
    server = Redis("--save", "", "--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru")
    yield server
    server.close()


# -- the broker


@pytest.mark.server
def test_a_redis_that_deletes_queues_and_keeps_nothing_is_told(cli: Cli, evicting: Redis) -> None:
    found = told(cli, DISPATCHER_BROKER_URL=evicting.url)
    assert found["eviction"]["level"] == "fail"
    assert found["eviction"]["found"] == "the broker's maxmemory-policy is allkeys-lru"
    assert found["persistence"]["level"] == "warn"
    assert "appendonly yes" in found["persistence"]["advice"]
    assert found["workers"]["level"] == "warn"
    assert found["stream"]["found"] == "0 entries wait to be accepted"
    assert "memory" not in found
    with Client.from_url(evicting.url) as client:
        for n in range(15):
            client.set(f"ballast{n}", b"x" * 1_000_000)
        client.xadd("mail:submissions", {"submission": "{}"})
    found = told(cli, DISPATCHER_BROKER_URL=evicting.url)
    assert (found["memory"]["level"], "of its maxmemory of 21 MB" in found["memory"]["found"]) == ("warn", True)
    assert found["stream"]["found"] == "1 entries wait to be accepted"


@pytest.mark.server
def test_a_redis_that_is_a_replica_is_told(cli: Cli, redis_server: Redis) -> None:
    replica = Redis("--save", "", "--replicaof", "127.0.0.1", str(redis_server.port))
    try:
        found = told(cli, DISPATCHER_BROKER_URL=replica.url)["broker"]
        assert found["level"] == "fail"
        assert found["found"].startswith(f"DISPATCHER_BROKER_URL: redis://127.0.0.1:{replica.port}/0 is a read-only")
    finally:
        replica.close()


@pytest.mark.server
def test_a_redis_that_cannot_write_its_files_is_told() -> None:
    """Its directory is gone, so the next snapshot fails."""
    server = Redis("--appendonly", "yes", "--save", "1 1")
    broker = Broker(server.url)
    try:
        assert not list(broker.hazards())
        shutil.rmtree(server.folder)
        with Client.from_url(server.url) as client:
            client.set("a", 1)
            client.bgsave()
        assert wait_for(lambda: list(broker.hazards()), 10)
        (hazard,) = broker.hazards()
        assert (hazard.failure, hazard.found) == (True, "the broker could not write its last snapshot")
    finally:
        broker.close()
        server.stop(signal.SIGKILL)  # it would not end without a last snapshot
        server.close()


def test_a_failed_write_of_the_append_only_file_and_an_old_server_are_told() -> None:
    info = {"redis_version": "5.0.14", "aof_enabled": 1, "aof_last_write_status": "err", "role": "slave"}
    assert {(hazard.what, hazard.failure) for hazard in hazards(info)} == {
        ("version", True),
        ("role", True),
        ("persistence", True),
    }


# -- the ledger


@pytest.mark.server
def test_a_postgresql_without_fsync_is_told(cli: Cli, postgres_ledger: InSql) -> None:
    done = cli("doctor", DISPATCHER_LEDGER_URL=postgres_ledger.url, DISPATCHER_BLOBS_URL=f"file:{cli.folder}/blobs")
    assert done.returncode == 2
    assert "database\tfail\tfsync is off\t" in done.stdout
    assert "database\twarn\tsynchronous_commit is off\t" in done.stdout
    assert "schema\tok\t" in done.stdout
    assert "attachments\twarn\tkept in " in done.stdout
    inside = told(cli, DISPATCHER_LEDGER_URL=postgres_ledger.url)
    assert inside["attachments"]["found"] == "kept in the ledger"


@pytest.mark.server
def test_a_postgresql_with_few_connections_and_without_autovacuum_is_told(cli: Cli) -> None:
    server = Postgres("max_connections=8", "superuser_reserved_connections=2", "autovacuum=off", "fsync=on")
    try:
        url = server.create()
        assert cli("db", "upgrade", DISPATCHER_LEDGER_URL=url).returncode == 0
        lines = cli("doctor", DISPATCHER_LEDGER_URL=url).stdout
        assert "fsync is off" not in lines
        assert "database\twarn\tautovacuum is off\t" in lines
        assert "database\twarn\tmax_connections leaves 6, and workers on 1 host may need 9\traise " in lines
    finally:
        server.close()


@pytest.fixture
def followed() -> Iterator[Postgres]:
    server = Postgres("synchronous_commit=on")
    yield server
    server.close()


@pytest.mark.server
def test_a_failover_that_would_forget_mail_is_told(cli: Cli, followed: Postgres) -> None:
    url = followed.create()
    here = {"DISPATCHER_LEDGER_URL": url}
    assert cli("db", "upgrade", **here).returncode == 0
    admin = SqlLedger(url)._database._connected().execution_options(isolation_level="AUTOCOMMIT")
    standby: Standby | None = None

    def ask(words: str) -> Any:
        with admin.connect() as connection:
            return connection.exec_driver_sql(words).scalar_one()

    def wait_for_standbys(names: str) -> None:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        ask("SELECT pg_reload_conf()")

    def said(options: str = "") -> tuple[str, str, str]:
        found = replication(inspect_server(url + options))
        return found.level, found.found, found.advice.partition(" if ")[0]

    try:
        assert said() == ("ok", "no standby server is attached", "")
        with admin.connect() as connection:
            connection.exec_driver_sql("CREATE ROLE plain; GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain")
        standby = Standby(followed)
        wait_for(lambda: ask("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == 1)
        forgets = "1 standby server, and commits wait for none: a failover forgets what was not sent over yet"
        assert told(cli, **here)["replication"]["found"] == forgets
        assert said() == ("warn", forgets, "set synchronous_standby_names")

        wait_for_standbys("*")
        wait_for(lambda: ask("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1)
        well = ("ok", "1 standby server; commits wait for *", "")
        assert said() == well
        assert said("?options=-csynchronous_commit%3Dlocal") == ("warn", forgets, "set synchronous_commit = on")
        assert said("?options=-crole%3Dplain") == well  # it sees that there is one, and no more

        standby.stop()
        wait_for(lambda: ask("SELECT count(*) FROM pg_stat_replication") == 0)
        assert said()[:2] == ("fail", "commits wait for *, which is not attached")
    finally:
        wait_for_standbys("")  # or the server would wait for it to its end
        admin.dispose()
        if standby is not None:
            standby.close()


@pytest.mark.server
def test_a_postgresql_that_is_a_standby_is_told_and_refuses_mail_in_one_line(cli: Cli, own_postgres: Postgres) -> None:
    url = own_postgres.create()
    assert cli("db", "upgrade", DISPATCHER_LEDGER_URL=url).returncode == 0
    standby = Standby(own_postgres)
    try:
        there = {"DISPATCHER_LEDGER_URL": standby.named(url.rpartition("/")[2])}
        found = told(cli, **there)
        assert (found["ledger"]["level"], "it is a read-only standby" in found["ledger"]["found"]) == ("fail", True)
        sent = cli("send", "--to", "a@example.com", "--subject", "s", "--text", "t", **there)
        assert sent.returncode == 3
        (line,) = sent.stderr.splitlines()
        assert "read-only" in line
    finally:
        standby.close()


@pytest.mark.server
def test_a_ledger_of_another_version_is_told(cli: Cli, postgres_ledger: InSql) -> None:
    def set_version(version: str) -> None:
        with postgres_ledger.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")

    set_version("1.9")
    found = told(cli, DISPATCHER_LEDGER_URL=postgres_ledger.url)
    assert found["schema"]["level"] == "warn"
    assert found["schema"]["found"].startswith("1.9, made by a newer program")
    for version, said in (("1.0", "db upgrade"), ("9.0", "update it")):
        set_version(version)
        found = told(cli, DISPATCHER_LEDGER_URL=postgres_ledger.url)
        assert (found["ledger"]["level"], said in found["ledger"]["found"]) == ("fail", True)


def test_a_damaged_file_is_told(cli: Cli) -> None:
    many = [{"to": [f"a{n}@example.com"], "subject": "s", "text": "t" * 500} for n in range(300)]
    assert cli("submit", cli.lines(*many)).returncode == 0
    assert told(cli)["ledger file"]["found"] == "SQLite in WAL mode, sound"
    path = cli.folder / "var" / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'attempts'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    found = told(cli)
    assert found["ledger file"]["level"] == "fail"
    assert "is damaged: " in found["ledger file"]["found"]


def test_refused_submissions_that_nobody_looked_after_are_told(cli: Cli) -> None:
    assert told(cli).keys().isdisjoint({"rejects"})
    ledger = SqlLedger(f"sqlite:///{cli.folder}/var/ledger.db")
    ledger.reject(door="task", reference="1", producer="", payload="{}", field="to", reason="required")
    ledger.close()
    assert told(cli)["rejects"]["found"] == "1 submission refused and not looked after"


def test_who_has_not_come_round_is_told(cli: Cli) -> None:
    found = told(cli)
    assert [found[what]["found"] for what in ("beat", "sweep", "upkeep")] == ["was never here"] * 3
    assert [found[what]["level"] for what in ("beat", "sweep", "upkeep")] == ["warn"] * 3
    kept = InSql(f"sqlite:///{cli.folder}/var/ledger.db")
    for name in ("beat", "sweep", "upkeep"):
        kept.ledger.tick(name, 0)
    assert {told(cli)[what]["level"] for what in ("beat", "sweep", "upkeep")} == {"ok"}
    kept.age(600)
    found = told(cli)
    assert [found[what]["level"] for what in ("beat", "sweep", "upkeep")] == ["warn", "warn", "ok"]
    assert found["beat"]["found"] == "was last here 10 min ago"
    kept.close()


# -- clocks


@pytest.mark.server
@pytest.mark.parametrize(("off", "way"), [(600.0, "ahead of"), (-600.0, "behind")])
def test_a_host_whose_clock_is_off_is_told_how_far(
    cli: Cli, postgres_ledger: InSql, redis_url: str, monkeypatch: pytest.MonkeyPatch, off: float, way: str
) -> None:
    monkeypatch.chdir(cli.folder)
    for name, value in {**cli.environment, "DISPATCHER_BROKER_URL": redis_url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DISPATCHER_LEDGER_URL", postgres_ledger.url)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + off)
    said = [finding for finding in findings() if finding.what == "clock"]
    assert [(f.level, f.found) for f in said] == [
        (doctor.WARN, f"this host's is 10 min {way} the ledger's"),
        (doctor.WARN, f"this host's is 10 min {way} the broker's"),
    ]


# -- this host


def test_a_data_folder_that_others_can_enter_is_told(cli: Cli) -> None:
    told(cli)
    (cli.folder / "var").chmod(0o755)
    assert told(cli)["data folder"]["advice"] == f"chmod 700 {cli.folder / 'var'}"


def test_secrets_that_everybody_can_read_are_told(cli: Cli) -> None:
    secrets = cli.folder / "secrets"
    secrets.mkdir()
    own = secrets / "DISPATCHER_FLOWER_PASSWORD"
    own.write_text("hunter2")
    own.chmod(0o600)
    toml = cli.folder / "dispatcher.toml"
    toml.write_text('mail_from = "bounces@example.com"\n')
    toml.chmod(0o644)
    environment = {"DISPATCHER_SECRETS_DIR": str(secrets)}
    assert "secrets" not in told(cli, **environment)
    own.chmod(0o644)
    assert told(cli, **environment)["secrets"]["advice"] == f"chmod o-rwx {own}"
    own.chmod(0o640)
    toml.write_text('relay_url = "smtp://user:hunter2@mail.example.com"\n')
    done = cli("doctor", **environment)
    assert f"chmod o-rwx {toml.resolve()}" in done.stdout or "chmod o-rwx dispatcher.toml" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


# -- templates, relays


def test_templates_that_differ_from_the_published_ones_are_told(cli: Cli) -> None:
    own = cli.folder / "own" / "notice"
    own.mkdir(parents=True)
    (own / "subject.txt").write_text("Hello")
    (own / "body.txt").write_text("Hello")
    environment = {"DISPATCHER_TEMPLATES_DIR": str(own.parent)}
    assert cli("templates", "publish", "--yes", **environment).returncode == 0
    assert "published" not in told(cli, **environment)
    (own / "body.txt").write_text("Good bye")
    found = told(cli, **environment)["published"]
    assert (found["level"], found["advice"].startswith("`dispatcher templates publish notice`")) == ("warn", True)
    (own / "body.txt").write_text("{{ nobody }}")
    assert told(cli, **environment)["templates"]["level"] == "fail"


def test_what_is_paused_is_told_with_its_reason(cli: Cli) -> None:
    told(cli)
    kept = InSql(f"sqlite:///{cli.folder}/var/ledger.db")
    add(kept.ledger, accepted())
    kept.ledger.pause("relay", "night", None, "closed at night", ANNA)
    kept.ledger.pause("relay", "main", 60, "451 4.7.1 try later")
    kept.ledger.pause("lane", "bulk", 3600, "sale", ANNA)
    found = told(cli)
    assert found["relay night"]["found"].startswith("paused until it is resumed by anna")
    assert "451 4.7.1 try later" in found["relay main"]["found"]
    assert found["lane bulk"]["advice"] == "`dispatcher resume bulk` when it may go on"
    kept.age(300)
    found = told(cli)
    assert found["relay main"]["found"].startswith("half open: ")
    kept.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_stack_that_is_well_has_nothing_to_be_told(tmp_path: Path) -> None:
    with sink_process(tmp_path / "sink.jsonl") as url:
        environment = {"DISPATCHER_DATA_DIR": str(tmp_path / "var"), "DISPATCHER_RELAY_URL": url}
        with QuickStack({**environment, "DISPATCHER_FROM": "erp@example.com"}) as stack:
            wait_for(lambda: (stack.json("status")["beat_seconds_ago"] or 99) < 10, 30)
            done = stack.run("doctor")
            assert (done.returncode, [line for line in done.stdout.splitlines() if "\tok\t" not in line]) == (0, [])

            for path in (stack.folder / "journal").glob("*.journal"):
                path.unlink()
            (found,) = [row for row in stack.json("doctor") if row["what"] == "journals"]
            assert found["level"] == "warn"
            assert "3 of this stack's have none: just started, or removed?" in found["found"]
