"""Limits when Redis forgets, falls back, goes away and returns; and what they cost it."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis as Client

from dispatcher.adapters.redis_limiter import RedisLimiter
from dispatcher.broker import BrokerAddress
from dispatcher.dispatcher import SystemClock
from dispatcher.rate import Usage
from dispatcher.relay import Relay
from dispatcher.throttle import Throttle
from tests.limits import most, relay
from tests.servers import Redis, free_port
from tests.waiting import wait_for

pytestmark = pytest.mark.server
Make = Callable[..., list[RedisLimiter]]


@pytest.fixture
def server() -> Iterator[Redis]:
    """A Redis of this test's own that keeps what it is told to save."""
    made = Redis("--save", "", "--appendonly", "no")
    yield made
    made.close()


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[RedisLimiter] = []

    def make_them(url: str, number: int, *relays: Relay) -> list[RedisLimiter]:
        for _ in range(number):
            made.append(RedisLimiter(BrokerAddress(url), SystemClock()))
            made[-1].limits({each.name: each for each in relays})
        return made[-number:]

    yield make_them
    for limiter in made:
        limiter.close()


def keep(*limiters: RedisLimiter) -> None:
    """As the processes' threads do, without waiting for their turn."""
    for limiter in limiters:
        limiter._kept = float("-inf")
        limiter.keep()


# -- loss of data


def test_the_first_start_waits_for_nothing_but_a_loss_of_data_waits_out_a_window(
    redis_server: Redis, redis_url: str, make: Make
) -> None:
    one, other = make(redis_url, 2, relay("main", (10, 3.0)))
    assert len(one.take("main", 10).slots) == 10
    assert not other.take("main", 1).slots
    time.sleep(0.1)  # so that what was used before is free again before the wait for it is over
    redis_server.flush()
    (new,) = make(redis_url, 1, relay("main", (10, 3.0)))
    refused = other.take("main", 1)
    assert (refused.slots, refused.reason) == ((), "10/3s may be used up: Redis has lost its counts")
    assert 2.5 < refused.wait < 3.2
    assert not new.take("main", 1).slots
    time.sleep(refused.wait - 1)  # a slot is granted up to a second ahead
    wait_for(lambda: one.take("main", 1).slots, 1)
    wait_for(lambda: other.take("main", 1).slots, 1)


def test_every_process_enters_what_it_knows_of_a_long_window_after_a_loss(
    redis_server: Redis, redis_url: str, make: Make
) -> None:
    one, other, idle = make(redis_url, 3, relay("main", (100, 1000.0)))
    assert len(one.take("main", 50).slots) == 50
    keep(idle)
    assert len(one.take("main", 10).slots) == 10
    assert len(other.take("main", 20).slots) == 20
    redis_server.flush()
    keep(idle)
    assert idle.usage()["main"].windows == (("100/1000s", 50),)
    assert not one.take("main", 1).slots
    assert not other.take("main", 1).slots
    # What was used since the last look is told by whoever used it: at worst a part of it counts twice.
    assert idle.usage()["main"].windows[0][1] in range(80, 131)


def test_a_restart_with_all_data_changes_nothing(make: Make) -> None:
    server = Redis("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    try:
        one, other = make(server.url, 2, relay("main", (10, 30.0), max_connections=1))
        assert len(one.take("main", 6).slots) == 6
        assert other.enter("main") == 0
        server.stop(signal.SIGKILL)
        server.start()
        assert len(one.take("main", 10).slots) == 4
        assert one.enter("main") > 0
        assert other.usage()["main"] == Usage((("10/30s", 10),), 1, 1)
    finally:
        server.close()


def test_a_restart_with_old_data_is_noticed_as_a_loss(server: Redis, make: Make) -> None:
    (limiter,) = make(server.url, 1, relay("main", (10, 30.0)))
    assert len(limiter.take("main", 3).slots) == 3
    with Client.from_url(server.url) as client:
        client.save()
    assert len(limiter.take("main", 5).slots) == 5
    server.stop(signal.SIGKILL)
    server.start()
    refused = limiter.take("main", 5)  # its data know of three
    assert refused.slots == ()
    assert 29 < refused.wait < 31
    assert limiter.usage()["main"].windows == (("10/30s", 11),)  # it knows no better than that all eight are new


def test_open_connections_survive_a_loss_of_data(redis_server: Redis, redis_url: str, make: Make) -> None:
    holder, other = make(redis_url, 2, relay("main", max_connections=1))
    assert holder.enter("main") == 0
    assert other.enter("main") > 0
    redis_server.flush()
    assert other.enter("main") > 0  # it remembers that there was more to know
    keep(holder)
    assert other.usage()["main"].connections == 1
    holder.leave("main")
    wait_for(lambda: other.enter("main") == 0, 8)


# -- away


def test_while_redis_is_away_each_goes_by_its_share_and_the_rate_holds_over_all(server: Redis, make: Make) -> None:
    limiters = make(server.url, 2, relay("main", (10, 2.0)))
    keep(*limiters, *limiters)  # each has seen both
    taken: list[float] = []

    def use(seconds: float) -> int:
        before, end = len(taken), time.monotonic() + seconds
        while time.monotonic() < end:
            for limiter in limiters:
                limiter.keep()
                grant = limiter.take("main", 3)
                taken.extend(grant.now + wait for wait in grant.slots)
            time.sleep(0.05)
        return len(taken) - before

    assert use(1) == 10
    server.stop(signal.SIGKILL)
    assert use(0.9) == 0  # and a slot is granted up to a second ahead
    assert 10 <= use(4) <= 30
    server.start()
    use(11)
    assert use(3) >= 10
    assert most(taken, 2.0) <= 10


def test_without_ever_having_seen_redis_an_eighth_is_used_and_nothing_raises(make: Make) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    (limiter,) = make(url, 1, relay("main", (16, 1.0), (1600, 100.0), max_connections=8), relay("free"))
    started = time.monotonic()
    assert limiter.take("main", 5).slots == ()
    refused = limiter.take("main", 5)
    assert refused.reason == "Redis is away, and this process' share of 16/1s is used up"
    assert refused.wait <= 2
    grant = wait_for(lambda: (found := limiter.take("main", 5)).slots and found, 3)
    assert time.monotonic() - started + grant.slots[0] > 1
    assert len(grant.slots) <= 3
    limiter.give_back("main", [grant.now + grant.slots[0]])
    assert limiter.enter("main") == 0
    assert limiter.enter("main") > 0  # an eighth of eight is open
    assert limiter.crowded("main") == 0
    assert not limiter.wanted("main")
    limiter.keep()
    assert limiter.usage()["main"].connections == 1
    limiter.leave("main")
    assert limiter.enter("main") == 0
    assert [limiter.enter("free") for _ in range(9)] == [0] * 9
    assert "secret" not in repr(limiter)


def test_a_long_windows_share_is_of_what_was_left(server: Redis, make: Make) -> None:
    one, other = make(server.url, 2, relay("main", (100, 1000.0)))
    assert len(one.take("main", 80).slots) == 80
    keep(one, other)
    keep(one, other)
    server.stop(signal.SIGKILL)
    assert len(other.take("main", 50).slots) == 10
    assert len(one.take("main", 50).slots) == 10


# -- processes and cost


def _open_one_more(limiter: RedisLimiter, answer: "multiprocessing.Queue[tuple[float, int]]") -> None:
    entered = limiter.enter("main")
    answer.put((entered, limiter.usage()["main"].connections))
    limiter.leave("main")
    limiter.leave("main")  # what it inherited is not its own to leave


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_is_a_process_of_its_own(redis_url: str, make: Make) -> None:
    (parent,) = make(redis_url, 1, relay("main", max_connections=5))
    assert parent.enter("main") == 0
    context = multiprocessing.get_context("fork")
    answer: multiprocessing.Queue[tuple[float, int]] = context.Queue()
    child = context.Process(target=_open_one_more, args=(parent, answer))
    child.start()
    assert answer.get(timeout=20) == (0, 2)
    child.join(20)
    assert parent.usage()["main"].connections == 1


def test_a_fast_relay_costs_far_fewer_calls_than_one_per_message(redis_url: str, make: Make) -> None:
    (limiter,) = make(redis_url, 1, relay("main", (500, 1.0), (100_000, 60.0)))
    with Client.from_url(redis_url) as client:
        client.config_resetstat()
        throttle, sent, end = Throttle(limiter, SystemClock()), 0, time.monotonic() + 3
        while time.monotonic() < end:
            if not throttle.admit("main", 1, lambda: False):
                throttle.told("main", 0.001)
                sent += 1
        calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert sent > 500
    assert calls < sent / 5


def test_its_keys_expire_by_themselves(redis_url: str, make: Make) -> None:
    one, other = make(redis_url, 2, relay("main", (5, 1.0), (50, 60.0), max_connections=2))
    one.take("main", 50, each=2)
    assert [one.enter("main"), other.enter("main")] == [0, 0]
    assert one.enter("main") > 0
    assert one.crowded("main") == 1
    keep(one, other)
    with Client.from_url(redis_url) as client:
        found = {key.decode().rpartition(":")[2]: client.ttl(key) for key in client.scan_iter()}
    assert set(found) >= {"state", "w1", "w60", "active", "alive", "open", "queue", "asked", "learned"}
    assert all(0 < seconds <= 7200 * 1.1 for seconds in found.values())
