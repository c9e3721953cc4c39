"""Every queue of doorbells: heard when it is there, and no obstacle when it is not."""

import base64
import json
import time
from collections.abc import Iterator

import pytest
from redis import Redis as Client

from dispatcher.adapters.celery import Doorbell
from dispatcher.adapters.redis import Broker
from dispatcher.delivery import Lane
from dispatcher.interfaces import Queue
from dispatcher.testing import MemoryQueue
from tests.servers import Redis, free_port


@pytest.fixture
def doorbell(redis_server: Redis) -> Iterator[Doorbell]:
    redis_server.flush()
    broker = Broker(redis_server.url)
    bell = Doorbell(broker)
    yield bell
    bell.close()
    broker.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.server)])
def queue(request: pytest.FixtureRequest) -> Queue:
    found: Queue = MemoryQueue() if request.param == "memory" else request.getfixturevalue("doorbell")
    return found


@pytest.fixture(params=["memory", "redis"])
def deaf(request: pytest.FixtureRequest) -> Queue:
    if request.param == "redis":
        return Doorbell(Broker(f"redis://127.0.0.1:{free_port()}/0"))
    queue = MemoryQueue()
    queue.down = True
    return queue


def test_a_bell_waits_in_its_lane_until_it_is_answered(queue: Queue) -> None:
    assert queue.depth(Lane.BULK) == 0
    assert queue.ring(Lane.BULK, [1, 2], "birthday")
    assert queue.ring(Lane.BULK, [3])
    assert (queue.depth(Lane.BULK), queue.depth(Lane.TRANSACTIONAL)) == (2, 0)


def test_nobody_there_is_said_and_costs_little_time(deaf: Queue) -> None:
    started = time.monotonic()
    for n in range(50):
        assert not deaf.ring(Lane.BULK, [n])
        assert deaf.depth(Lane.BULK) is None
    assert time.monotonic() - started < 5


def test_without_a_broker_nobody_is_there() -> None:
    bell = Doorbell(None)
    assert not bell.ring(Lane.BULK, [1])
    assert bell.depth(Lane.BULK) is None


@pytest.mark.server
def test_a_bell_carries_numbers_and_shows_how_many_and_whose(doorbell: Doorbell, redis_server: Redis) -> None:
    doorbell.ring(Lane.BULK, list(range(100)), "birthday-2026")
    with Client.from_url(redis_server.url) as client:
        bell = json.loads(client.lindex(Lane.BULK.queue, 0))
    assert bell["headers"]["argsrepr"] == "(100 messages, birthday-2026)"
    assert bell["headers"]["task"] == "mail.deliver"
    assert json.loads(base64.b64decode(bell["body"]))[0] == ["bulk", list(range(100))]


@pytest.mark.server
def test_strikes_count_the_starts_that_did_not_end(redis_server: Redis) -> None:
    broker = Broker(redis_server.url)
    assert [broker.strike("t"), broker.strike("t"), broker.strike("other")] == [1, 2, 1]
    broker.forgive("t")
    assert broker.strike("t") == 1
    broker.close()
    assert Broker(f"redis://127.0.0.1:{free_port()}/0").strike("t") == 0
