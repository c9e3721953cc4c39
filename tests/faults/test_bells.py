"""Bells are lost, doubled, far too many or not heard, and beat is gone or there twice: the ledger knows what is due,
and no more bells than the watermark allows lie on Redis."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

from dispatcher.dispatcher import Dispatcher
from dispatcher.mail import Receipt
from dispatcher.sweeper import WATERMARK
from tests import orders
from tests.faults.world import BOTH, COUNT, KINDS, POSTGRES, World, make_world
from tests.processes import command, member
from tests.sizes import sized
from tests.waiting import wait_for

SHARE, LANE = COUNT // 5, "mail.transactional"
LATE = 10.0  # seconds that a mail with its time may be late when no beat runs
MOST = 2 * WATERMARK  # bells: those of the doors, and of a sweep that looked at the same moment
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(300, 3600))]


@pytest.fixture(scope="module", params=KINDS if BOTH else POSTGRES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One with four processes for its lane."""
    folder = tmp_path_factory.mktemp("world")
    change = {"DISPATCHER_DELIVERY__PROCESSES__TRANSACTIONAL": "4", "DISPATCHER_DELIVERY__DEAF_SECONDS": "3"}
    with make_world(request.param, folder, **change) as made:
        yield made


@pytest.fixture
def producer(world: World) -> Iterator[Dispatcher]:
    """Its first bell takes longest, so that one is rung."""
    with world.producer() as made:
        submit(world, made, 1)
        world.settle()
        yield made


def submit(world: World, producer: Dispatcher, count: int, **change: object) -> None:
    assert all(isinstance(answer, Receipt) for answer in producer.submit_many(world.orders(count, **change)))


def waiting(world: World) -> int:
    """The bells that wait in the lane."""
    with world.client() as client:
        return int(client.llen(LANE))


def test_a_bell_dies_between_redis_and_the_worker(world: World, producer: Dispatcher) -> None:
    """A worker that waits for a bell is stopped, takes one all the same, and is killed before it knows."""
    for _ in range(20):  # it may be stopped just when it does not wait
        with world.asleep(LANE) as worker:
            submit(world, producer, 1)
            if lost := not waiting(world):
                os.killpg(worker, signal.SIGKILL)
                break
        world.settle()
    assert lost
    world.settle()  # no other bell has rung: the sweep's is the one that counts
    submit(world, producer, SHARE)
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)


def test_the_same_bell_rings_fifty_times(world: World, producer: Dispatcher) -> None:
    with world.asleep(LANE), world.client() as client:
        submit(world, producer, SHARE)
        bell = client.lindex(LANE, 0)
        assert bell is not None
        client.lpush(LANE, *[bell] * 50)
    world.settle()
    wait_for(lambda: waiting(world) == 0, 60)
    world.prove(doubled=0, in_doubt_events=0)


def test_a_backlog_lies_in_the_ledger_and_not_on_redis(world: World, producer: Dispatcher) -> None:
    """Nobody hears the bells, whether mail comes by the thousand or one by one; those that are lost ring again."""
    with world.asleep(LANE), world.client() as client:
        memory = int(client.info("memory")["used_memory"])
        submit(world, producer, sized(COUNT // 2, 100_000))
        for document in world.orders(3 * WATERMARK):
            producer.submit(document)
        sweeps(producer, 5)
        assert 0 < waiting(world) <= MOST
        client.flushall()
        wait_for(lambda: waiting(world) > 0, 30)
        sweeps(producer, 5)
        assert 0 < waiting(world) <= MOST
        assert int(client.info("memory")["used_memory"]) - memory < 5_000_000
    world.settle(sized(120, 1800))
    world.prove(doubled=0, in_doubt_events=0)


def sweeps(producer: Dispatcher, count: int) -> None:
    """Wait until so many sweeps have been."""
    for _ in range(count):
        last = swept(producer)
        wait_for(lambda last=last: swept(producer) > last + 0.15, 30)  # type: ignore[misc]  # mypy knows no defaults


def swept(producer: Dispatcher) -> float:
    """When the last sweep was, on this process' clock."""
    return time.monotonic() - producer.ledger.ticks()["sweep"]


def test_without_a_beat_mail_goes_at_its_time(world: World, producer: Dispatcher) -> None:
    with world.asleep("tasks beat"):
        before = world.taken()
        at = scheduled(world, producer, 20)
        wait_for(lambda: world.taken() == before + 20, 60)
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)
    on_time(world, at, 20, LATE)


def test_two_beats_are_one_too_many_and_nothing_else(world: World, producer: Dispatcher) -> None:
    schedule = world.folder / "second-beat"
    command = [sys.executable, "-m", "tasks", "beat", "--schedule", str(schedule), "--pidfile", ""]
    quiet = subprocess.DEVNULL
    second = subprocess.Popen(command, env=world.stack.environment, stdout=quiet, stderr=quiet)
    try:
        wait_for(lambda: any(world.folder.glob("second-beat*")), 30)
        before = world.taken()
        at = scheduled(world, producer, 20)
        submit(world, producer, SHARE)
        wait_for(lambda: world.taken() == before + SHARE + 20, 120)
        assert second.poll() is None
    finally:
        second.terminate()
        second.wait(30)
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)
    on_time(world, at, SHARE + 20, LATE)


def test_a_deaf_worker_ends_and_the_next_one_hears(world: World, producer: Dispatcher) -> None:
    """Its consumer is cancelled, as a connection that breaks at a bad moment does it: it lives, and hears nothing."""
    deaf = member(world.stack, LANE)
    with Celery(broker=world.broker_url) as app:
        wait_for(lambda: app.control.cancel_consumer(LANE, reply=True))
    submit(world, producer, SHARE // 10)
    wait_for(lambda: not command(deaf), 60)
    world.settle()
    assert "hears none of them" in world.stack.log()
    world.prove(doubled=0, in_doubt_events=0)


def test_a_worker_that_waits_to_connect_again_is_not_deaf(world: World) -> None:
    """Celery tries after 2, 6, 12 and 20 seconds: the broker is back, with bells, long before the worker is."""
    with world.asleep(LANE) as worker:
        with world.producer() as producer:
            for document in world.orders(20):  # a bell for each, of which it may take one in its sleep
                producer.submit(document)
        assert waiting(world)
        world.kill_broker()
    time.sleep(13)  # that long it is away: nothing to wait for
    world.start_broker()
    world.submit(SHARE // 10)
    world.settle()
    assert member(world.stack, LANE) == worker
    world.prove(doubled=0, in_doubt_events=0)


def scheduled(world: World, producer: Dispatcher, count: int) -> float:
    """Submit some for two seconds from now; when that is."""
    at = datetime.now(UTC) + timedelta(seconds=2)
    submit(world, producer, count, send_at=at.isoformat())
    return at.timestamp()


def on_time(world: World, at: float, count: int, late: float) -> None:
    """The last ``count`` mails but those that were for at once are not early, nor much too late."""
    wanted = {f"buyer{n}@example.com" for n in range(world.submitted - count, world.submitted - count + 20)}
    taken = [mail.time for mail in orders.read(world.record) if mail.rcpt_to[0] in wanted]
    assert len(taken) == 20
    assert at <= min(taken)
    assert max(taken) <= at + late
