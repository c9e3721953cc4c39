"""Ledgers to test: each kind with a way to let time pass, and mails to put into them."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy import text

from dispatcher.adapters.sql import engine
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.delivery import Actor, Lane, Lease, Selector, Settlement, State
from dispatcher.interfaces import Ledger
from dispatcher.mail import Accepted, AcceptedDelivery, AcceptedMessage, Receipt
from dispatcher.memory import MemoryLedger
from dispatcher.records import DeliveryRecord
from tests.servers import Postgres

ANNA = Actor("anna", "desk-7", "asked by the customer")
DAY = 86400.0

# Every column that holds a moment. To let an hour pass, a test moves them all an hour back.
_MOMENTS = {
    "submissions": ("accepted_at", "send_at"),
    "deliveries": ("due_at", "expires_at", "changed_at", "lease_until", "last_at"),
    "attempts": ("at",),
    "keys": ("keep_until",),
    "rejects": ("at", "resolved_at"),
    "publications": ("at",),
    "blobs": ("touched_at",),
    "acts": ("at",),
    "pauses": ("until", "since", "probe_until"),
    "ticks": ("at",),
    "suppressions": ("at", "until"),
    "audiences": ("created_at",),
    "audience_versions": ("made_at", "ready_at"),
    "schedules": ("seen_until", "next_at", "created_at", "changed_at"),
    "occurrences": ("at", "changed_at"),
    "automations": ("scan_at", "held_until", "created_at", "changed_at"),
    "automation_versions": ("loaded_at",),
    "event_types": ("changed_at",),
    "events": ("at", "received_at"),
    "enrolments": ("planned_at", "due_at", "since", "entered_at", "changed_at"),
    "enrolment_steps": ("planned_at", "at"),
    "reports": ("created_at", "changed_at", "finished_at", "reported_at"),
    "campaigns": ("start_at", "created_at", "changed_at", "started_at", "finished_at", "reported_at"),
}


class Kept(Protocol):
    """A ledger with a hand on its clock."""

    @property
    def ledger(self) -> Ledger: ...

    def age(self, seconds: float) -> None:
        """Let time pass."""

    def remove(self, submission: str) -> None:
        """Take a submission out, as the end of its retention does."""


class StandingClock:
    """Moves only when it is told to."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class InMemory:
    """The ledger in memory."""

    def __init__(self) -> None:
        self._clock = StandingClock()
        self.ledger = MemoryLedger(self._clock)

    def age(self, seconds: float) -> None:
        self._clock.now += seconds

    def remove(self, submission: str) -> None:
        del self.ledger._store.submissions[submission]


class InSql:
    """A ledger in a database that is migrated."""

    def __init__(self, url: str) -> None:
        self.url, self.engine = url, engine.create(url)
        self.ledger = SqlLedger(url)

    def age(self, seconds: float) -> None:
        with self.engine.connect().execution_options(writing=True) as connection, connection.begin():
            for table, columns in _MOMENTS.items():
                moved = ", ".join(f"{column} = {column} - {float(seconds)}" for column in columns)
                connection.execute(text(f"UPDATE {table} SET {moved}"))

    def remove(self, submission: str) -> None:
        with self.engine.connect().execution_options(writing=True) as connection, connection.begin():
            connection.execute(text("DELETE FROM submissions WHERE public_id = :id"), {"id": submission})

    def close(self) -> None:
        self.ledger.close()
        self.engine.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger to copy: migrating one for every test would take most of the time."""
    path = tmp_path_factory.mktemp("ledger") / "template.db"
    engine.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """The name of an empty ledger to copy."""
    url = postgres.create()
    engine.upgrade(url)
    return url.rpartition("/")[2]


@pytest.fixture
def sqlite_ledger(sqlite_template: Path, tmp_path: Path) -> Iterator[InSql]:
    """A ledger in a new SQLite file."""
    shutil.copy(sqlite_template, tmp_path / "ledger.db")
    kept = InSql(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield kept
    kept.close()


@pytest.fixture
def postgres_ledger(postgres: Postgres, postgres_template: str) -> Iterator[InSql]:
    """A ledger in a new PostgreSQL database."""
    kept = InSql(postgres.create(postgres_template))
    yield kept
    kept.close()


@pytest.fixture
def memory_ledger() -> InMemory:
    """A ledger in memory."""
    return InMemory()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def kept(request: pytest.FixtureRequest) -> Kept:
    """Every kind of ledger, one after the other."""
    found: Kept = request.getfixturevalue(f"{request.param}_ledger")
    return found


def message(*rcpts: str, secrets: dict[str, Any] | None = None, **own: Any) -> AcceptedMessage:
    """One message to these."""
    return AcceptedMessage({"to": list(rcpts), **own}, tuple(AcceptedDelivery(rcpt) for rcpt in rcpts), secrets)


def accepted(*messages: AcceptedMessage | str, **fields: Any) -> Accepted:
    """A checked submission: of these messages, or of one to each of these addresses."""
    made = tuple(message(each) if isinstance(each, str) else each for each in messages or ("li@example.com",))
    usual: dict[str, Any] = {
        "lane": "transactional",
        "shared": {"from": "erp@example.com", "subject": "S", "text": "T"},
        "fingerprints": {"subject": "f1", "text": "f2"},
        "lifetime": DAY,
    }
    return Accepted(messages=made, **{**usual, **fields})


def add(ledger: Ledger, *submissions: Accepted) -> Receipt:
    """Add these; the receipt of the last."""
    answer = ledger.add(submissions)[-1]
    assert isinstance(answer, Receipt)
    return answer


def lease(ledger: Ledger, lane: Lane = Lane.TRANSACTIONAL, **fields: Any) -> Lease:
    """Lease up to 100 for a minute, unless told otherwise."""
    return ledger.lease(lane, **{"limit": 100, "seconds": 60.0, "owner": "worker", **fields})


def settlement(lease: Lease, state: State = State.SENT, nth: int = 0, **fields: Any) -> Settlement:
    """What became of the nth delivery of a lease."""
    pairs = [(delivery.id, each.id) for each in lease.messages for delivery in each.deliveries]
    delivery, number = pairs[nth]
    return Settlement(delivery, number, state, **{"attempted": True, **fields})


def settle(ledger: Ledger, lease: Lease, state: State = State.SENT, **fields: Any) -> int:
    """Give all deliveries of a lease the same end."""
    total = sum(len(each.deliveries) for each in lease.messages)
    return ledger.settle(lease.token, [settlement(lease, state, nth, **fields) for nth in range(total)])


def one(ledger: Ledger, *ids: str, **fields: Any) -> DeliveryRecord:
    """The only delivery that is meant."""
    (found,) = ledger.find(Selector(ids=ids, **fields))
    return found


def states(ledger: Ledger) -> dict[State, int]:
    """How many deliveries there are in each state."""
    return {state: count for (_, state), count in ledger.totals().states.items()}


@dataclass(frozen=True)
class Balance:
    """Both sides of the ledger's sum."""

    accepted: int
    found: int

    @classmethod
    def of(cls, ledger: Ledger) -> "Balance":
        totals = ledger.totals()
        return cls(totals.accepted, sum(totals.states.values()))
