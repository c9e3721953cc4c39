"""What ``doctor`` asks of the ledger's database itself: read only, and bounded."""

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, select, text

from dispatcher.adapters.sql.database import Database
from dispatcher.adapters.sql.schema import SCHEMA, submissions
from dispatcher.errors import LedgerUnavailable

KNOWN_SCHEMA = SCHEMA
_SETTINGS = (
    *("server_version", "server_version_num", "fsync", "synchronous_commit", "autovacuum"),
    *("max_connections", "superuser_reserved_connections", "synchronous_standby_names"),
)
# Whoever is no administrator sees how many there are, and of each nothing but NULL. Neither a backup that is being made
# nor a reader of single tables could take over.
_STANDBYS = """
    SELECT count(*) FILTER (WHERE state IS DISTINCT FROM 'backup' AND slot_type IS DISTINCT FROM 'logical') AS attached,
           count(*) FILTER (WHERE state IS NULL) AS hidden,
           count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS waited
    FROM pg_stat_replication LEFT JOIN pg_replication_slots ON active_pid = pid
"""
_LATELY = 10_000  # submissions
_STEPS = 10_000  # of SQLite's machine between two looks at the clock


@dataclass(frozen=True, slots=True)
class Facts:
    """``schema``: the version that the ledger has. ``skew``: seconds that this host is ahead of its clock."""

    schema: str
    skew: float


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A PostgreSQL: its ``version`` in its own words, its ``settings``, and its ``connections`` now.

    ``standbys`` follow it, and commits wait for ``waited`` of them (None: not ours to see).
    """

    settings: dict[str, str]
    connections: int
    standbys: int
    waited: int | None

    @property
    def version(self) -> str:
        return self.settings["server_version"]

    @property
    def major(self) -> int:
        return int(self.settings["server_version_num"]) // 10000

    @property
    def room(self) -> int:
        """Connections for all who are not its administrators."""
        return int(self.settings["max_connections"]) - int(self.settings["superuser_reserved_connections"])


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A SQLite file: its journal's ``mode``, the first ``damage`` found, whether all of it was ``checked``."""

    path: Path
    mode: str
    damage: str | None
    checked: bool


def facts(url: str) -> Facts:
    """Raises ConfigurationError for a schema that this program cannot use, LedgerUnavailable."""
    database = Database(url)
    try:
        with database.reading() as tx:
            schema = str(tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
        with database.reading() as tx:
            before = time.time()
            theirs = tx.now
            return Facts(schema, (before + time.time()) / 2 - theirs)
    finally:
        database.close()


def lists(url: str) -> list[str]:
    """The lists that some of the last submissions were for. Raises ConfigurationError, LedgerUnavailable."""
    last = select(submissions.c.list).order_by(submissions.c.id.desc()).limit(_LATELY).subquery()
    database = Database(url)
    try:
        with database.reading() as tx:
            return sorted(tx.execute(select(last.c.list).where(last.c.list.is_not(None)).distinct()).scalars())
    finally:
        database.close()


def inspect_server(url: str) -> ServerFacts:
    """Raises ConfigurationError, LedgerUnavailable."""
    database = Database(url)
    try:
        with database.reading() as tx:
            settings = {name: tx.execute(text("SELECT current_setting(:name)"), {"name": name}) for name in _SETTINGS}
            busy = text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            standbys = tx.execute(text(_STANDBYS)).one()
            return ServerFacts(
                settings={name: str(found.scalar_one()) for name, found in settings.items()},
                connections=int(tx.execute(busy).scalar_one()),
                standbys=int(standbys.attached),
                waited=None if standbys.hidden else int(standbys.waited),
            )
    finally:
        database.close()


def inspect_file(url: str, seconds: float) -> FileFacts:
    """Look through the file for up to so long. Raises LedgerUnavailable."""
    path = Path(make_url(url).database or "")
    until = time.monotonic() + seconds
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"ledger {path}: {error}") from None
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        mode = _one(connection, "PRAGMA journal_mode")
        try:
            damage = _one(connection, "PRAGMA quick_check(1)")
        except sqlite3.OperationalError:  # our own clock stopped it
            return FileFacts(path, mode, None, checked=False)
        return FileFacts(path, mode, None if damage == "ok" else damage, checked=True)
    except sqlite3.DatabaseError as error:
        return FileFacts(path, "unknown", str(error), checked=True)
    finally:
        connection.close()


def _one(connection: sqlite3.Connection, words: str) -> Any:
    return connection.execute(words).fetchone()[0]
