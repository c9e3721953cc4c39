"""The ledger goes away under load: locked, stopped like a crash, its connections cut, the answers to its commits lost.

What the relay said meanwhile waits in the journals and counts when the ledger is back, so nothing is sent again.
"""

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dispatcher.cli.exits import OUT_OF_REACH
from dispatcher.delivery import Lane
from tests import orders
from tests.faults.world import BOTH, CONNECTIONS, COUNT, KINDS, OUTAGE, POSTGRES, World, make_world
from tests.ledgers import ANNA
from tests.processes import children, kill, member
from tests.servers import Standby, missing, require
from tests.sizes import FULL, sized
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(300, 3600))]
BACKLOG = sized(300, COUNT) * CONNECTIONS
FEW, MORE = 300, 600  # mails; the latter are more than a full disk has room for in what was written there before
CUT_EVERY = 0.5  # seconds
ROOM = "160m"  # of which journals reserve 16 for each process
# A commit is on the disk when it returns, unlike what the tests' server does by itself.
SAFE = {"PGOPTIONS": "-c synchronous_commit=on"}
# Batches that are still being sent for some seconds after the ledger went.
LONG = {
    "DISPATCHER_DELIVERY__BATCH_SECONDS": "5",
    "DISPATCHER_DELIVERY__TASK_SECONDS": "9.5",
    "DISPATCHER_DELIVERY__LEASE_SECONDS": "10",
}
# All that is submitted goes out in one lease of one process.
ONE_LEASE = {
    "DISPATCHER_DELIVERY__BATCH_SECONDS": "30",
    "DISPATCHER_DELIVERY__TASK_SECONDS": "50",
    "DISPATCHER_DELIVERY__LEASE_SECONDS": "60",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__CONNECT": "3",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__COMMAND": "3",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__FINAL": "3",
}
postgres_only = pytest.mark.parametrize(
    "world", [pytest.param("postgres+redis", marks=pytest.mark.server)], indirect=True
)


@pytest.fixture(scope="module", params=KINDS if BOTH else POSTGRES)
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


def begin_backlog(world: World) -> None:
    """Mail enough for the whole test waits, and the first of it is sent."""
    with world.producer() as producer:
        producer.ledger.pause("lane", Lane.TRANSACTIONAL.value, None, "until all of it is there", ANNA)
        world.submit(BACKLOG)
        producer.ledger.resume("lane", Lane.TRANSACTIONAL.value, ANNA)
    world.flows(20)


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
    begin_backlog(world)
    with away(world):
        world.flows(10)  # ten that the relay took, and that the ledger cannot know of
        time.sleep(OUTAGE)
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)


def test_what_a_killed_worker_knew_counts_when_the_ledger_is_back(world: World) -> None:
    begin_backlog(world)
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
    begin_backlog(world)
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
    begin_backlog(world)
    with administrator(world) as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        admin.execute("SELECT pg_reload_conf()")
        try:
            with cutting(world, "wait_event = 'SyncRep'") as cut:
                wait_for(lambda: sum(cut) >= 10, 60)
        finally:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)


# -- servers of their own


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        [require("mount"), "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        missing("a file system of the test's own (mount)", made.stderr)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Not a byte is left while the block runs, whatever others remove."""
    ballast, over = folder / "ballast", threading.Event()

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            while not over.wait(0.01):
                for size in (1 << 20, 1 << 12, 1):
                    with contextlib.suppress(OSError):  # it is full
                        while file.write(bytes(size)) == size:
                            pass

    thread = threading.Thread(target=fill)
    thread.start()
    wait_for(lambda: shutil.disk_usage(folder).free == 0)
    try:
        yield
    finally:
        over.set()
        thread.join()
        ballast.unlink()


def test_a_full_disk_refuses_new_mail_in_one_line_and_nothing_is_lost(small: Path, tmp_path: Path) -> None:
    folder = {"DISPATCHER_DATA_DIR": str(small / "var")}
    more = tmp_path / "more.jsonl"
    orders.write(more, FEW + MORE)
    lines = more.read_text("utf-8").splitlines(keepends=True)
    more.write_text("".join(lines[FEW:]), "utf-8")
    with make_world("sqlite+valkey", tmp_path, final_seconds=0.03, **(folder if FULL else folder | LONG)) as world:
        world.submit(FEW)
        world.flows(20)
        with filled(small):
            world.flows(10)
            refused = world.stack.run("submit", str(more))
            time.sleep(OUTAGE)
        assert refused.returncode == OUT_OF_REACH
        (line,) = refused.stderr.splitlines()
        assert f"ledger {world.ledger_url}: " in line
        assert "make room on its disk" in line
        assert world.stack.run("submit", str(more)).returncode == 0
        world.submitted += MORE
        world.settle()
        world.prove(doubled=0, in_doubt_events=0)


@pytest.mark.server
def test_a_standby_that_takes_over_is_told_the_replies_that_it_never_saw(tmp_path: Path) -> None:
    with (
        contextlib.ExitStack() as ending,
        make_world("postgres+redis", tmp_path, final_seconds=0.05, **(SAFE | ONE_LEASE)) as world,
    ):
        primary = world.postgres
        assert primary is not None
        standby = Standby(primary)
        ending.callback(standby.close)
        world.submit(100)
        world.flows(10)
        wait_for(lambda: counted(world, "state IN ('leased', 'sent')") == 100)
        with administrator(world) as admin:
            (here,) = admin.execute("SELECT pg_current_wal_lsn()").fetchall()[0]
            wait_for(
                lambda: admin.execute("SELECT replay_lsn >= %s FROM pg_stat_replication", (here,)).fetchall()[0][0]
            )
        standby.stop()
        seen = counted(world, "state = 'sent'")
        wait_for(lambda: counted(world, "state = 'sent'") >= seen + 10)
        said = counted(world, "state = 'sent'")
        primary.stop(signal.SIGQUIT)

        standby.port = primary.port  # the address that both share
        standby.start()
        assert counted(world, "state = 'sent'") < said
        with administrator(world) as admin:
            admin.execute("SELECT pg_promote()")
        world.settle()
        world.prove(doubled=0, in_doubt_events=0)


def counted(world: World, which: str) -> int:
    with psycopg.connect(world.ledger_url.replace("+psycopg", "")) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM deliveries WHERE {which}".encode()).fetchall()[0][0]
        return found
