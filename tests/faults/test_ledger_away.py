"""The ledger goes away under load: locked, stopped like a crash, its connections cut, the answers to its commits lost.

What the relay said meanwhile waits in the journals and counts when the ledger is back, so nothing is sent again.
"""

import contextlib
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from dispatcher.delivery import Lane
from tests.faults.world import COUNT, KINDS, OUTAGE, World, make_world
from tests.processes import children, kill, member
from tests.sizes import FULL, sized
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(300, 3600))]
BACKLOG = sized(300, COUNT)
CUT_EVERY = 0.5  # seconds
# A commit is on the disk when it returns, unlike what the tests' server does by itself.
SAFE = {"PGOPTIONS": "-c synchronous_commit=on"}
# Batches that are still being sent for some seconds after the ledger went.
LONG = {
    "DISPATCHER_DELIVERY__BATCH_SECONDS": "5",
    "DISPATCHER_DELIVERY__TASK_SECONDS": "9.5",
    "DISPATCHER_DELIVERY__LEASE_SECONDS": "10",
}
postgres_only = pytest.mark.parametrize(
    "world", [pytest.param("postgres+redis", marks=pytest.mark.server)], indirect=True
)


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    change = SAFE if FULL else SAFE | LONG
    with make_world(request.param, tmp_path_factory.mktemp("away"), final_seconds=0.03, **change) as made:
        yield made


@contextlib.contextmanager
def away(world: World) -> Iterator[None]:
    """Nothing can be committed during the block: another writer holds the file, or the server is killed."""
    if world.postgres is not None:
        world.postgres.stop(signal.SIGQUIT)
        try:
            yield
        finally:
            world.postgres.start()
        return
    path = world.ledger_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextlib.contextmanager
def cutting(world: World, which: str) -> Iterator[list[int]]:
    """Terminate those of the server's backends again and again while the block runs; how many, each time."""
    assert world.postgres is not None
    cut, over = list[int](), threading.Event()
    ours = "application_name = 'dispatcher' AND pid <> pg_backend_pid()"
    words = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {ours} AND {which}"

    def run() -> None:
        with administrator(world) as admin:
            while not over.wait(CUT_EVERY):
                cut.append(admin.execute(words.encode()).fetchall()[0][0])

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield cut
    finally:
        over.set()
        thread.join()


def administrator(world: World) -> "psycopg.Connection[tuple[int]]":
    assert world.postgres is not None
    return psycopg.connect(host="127.0.0.1", port=world.postgres.port, user="test", dbname="postgres", autocommit=True)


def idle(world: World, seconds: float = 1.0) -> None:
    """Wait until the workers have nothing in hand: no more mail comes."""
    seen = [(world.taken(), time.monotonic())]

    def quiet() -> bool:
        now = world.taken()
        if now != seen[-1][0]:
            seen.append((now, time.monotonic()))
        return time.monotonic() - seen[-1][1] >= seconds

    wait_for(quiet, 120)


def test_replies_wait_while_nothing_can_be_committed(world: World) -> None:
    world.submit(BACKLOG)
    world.flows(20)
    with away(world):
        world.flows(10)  # ten that the relay took, and that the ledger cannot know of
        time.sleep(OUTAGE)
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)


def test_what_a_killed_worker_knew_counts_when_the_ledger_is_back(world: World) -> None:
    world.submit(BACKLOG)
    world.flows(20)
    with away(world):
        world.flows(10)
        idle(world)  # so that none is between the body and the reply: of those nobody could know
        for child in children(member(world.stack, Lane.TRANSACTIONAL.queue)):
            kill(child)
        time.sleep(OUTAGE)
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)


@postgres_only
def test_connections_that_are_cut_again_and_again_double_nothing(world: World) -> None:
    world.submit(BACKLOG)
    world.flows(20)
    with cutting(world, "true") as cut:
        time.sleep(OUTAGE)
        world.flows(1)
    assert sum(cut) > 0
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)


@postgres_only
def test_commits_whose_answers_are_lost_count_once(world: World) -> None:
    """Each commit is made, waits for a standby that is not there, and is cut off: leases that nobody was told of, and
    replies that were settled unheard."""
    world.submit(BACKLOG)
    world.flows(20)
    with administrator(world) as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        admin.execute("SELECT pg_reload_conf()")
        try:
            with cutting(world, "wait_event = 'SyncRep'") as cut:
                wait_for(lambda: sum(cut) >= 10, 60)
        finally:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")
    world.settle(120)
    world.prove(doubled=0, in_doubt_events=0)
