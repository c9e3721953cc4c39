"""What every limiter promises: the one in memory and the one in Redis, each asked by several processes' worth."""

import time
from collections.abc import Callable, Iterator

import pytest

from dispatcher.adapters.redis_limiter import RedisLimiter
from dispatcher.broker import BrokerAddress
from dispatcher.dispatcher import SystemClock
from dispatcher.interfaces import RateLimiter
from dispatcher.memory import MemoryLimiter
from dispatcher.rate import Usage
from dispatcher.relay import Relay
from tests.ledgers import StandingClock
from tests.limits import most, relay


class Bench:
    """Makes limiters of different processes, and lets time pass."""

    def __init__(self, one: Callable[[], RateLimiter], wait: Callable[[float], None]) -> None:
        self._one, self.wait = one, wait
        self.made: list[RateLimiter] = []

    def __call__(self, number: int, *relays: Relay) -> list[RateLimiter]:
        """So many more, told of these relays."""
        for _ in range(number):
            self.made.append(self._one())
            self.made[-1].limits({each.name: each for each in relays})
        return self.made[-number:]


def memory(_: pytest.FixtureRequest) -> Bench:
    clock = StandingClock()

    def wait(seconds: float) -> None:
        clock.now += seconds

    return Bench(MemoryLimiter(clock.monotonic).beside, wait)


def redis(request: pytest.FixtureRequest) -> Bench:
    address = BrokerAddress(request.getfixturevalue("redis_url"))
    return Bench(lambda: RedisLimiter(address, SystemClock()), time.sleep)


@pytest.fixture(params=[memory, pytest.param(redis, marks=pytest.mark.server)])
def make(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each kind of limiter, one after the other."""
    bench: Bench = request.param(request)
    yield bench
    for limiter in bench.made:
        limiter.close()


def test_a_relay_without_a_rate_gives_all_at_once(make: Bench) -> None:
    (limiter,) = make(1, relay("free"), relay("main", (5, 1.0)))
    assert limiter.take("free", 1000).slots == (0.0,) * 1000
    assert limiter.take("unheard of", 2).slots == (0.0, 0.0)
    assert not limiter.rate("free")
    assert not limiter.rate("unheard of")
    assert limiter.rate("main").windows[0].limit == 5


def test_a_paced_rate_gives_even_slots_and_says_when_the_next_one_is(make: Bench) -> None:
    (limiter,) = make(1, relay("main", (10, 1.0)))
    grant = limiter.take("main", 100)
    pace = limiter.rate("main").windows[0].pace
    assert grant.slots == pytest.approx([n * pace for n in range(10)], abs=1e-5)
    assert grant.wait == pytest.approx(10 * pace, abs=1e-5)
    assert grant.reason == "10/1s is used up"
    assert limiter.usage()["main"].windows == (("10/1s", 10),)


def test_all_windows_give_or_none_does(make: Bench) -> None:
    (limiter,) = make(1, relay("main", (10, 2.0), (15, 20.0)))
    assert limiter.take("main", 100).slots == (0.0,) * 10
    full = limiter.take("main", 100)
    assert (full.slots, full.reason) == ((), "10/2s is used up")
    assert limiter.usage()["main"].windows == (("10/2s", 10), ("15/20s", 10))
    make.wait(full.wait)
    again = limiter.take("main", 100)
    assert len(again.slots) == 5
    assert again.reason == "15/20s is used up"
    assert 17 < again.wait < 20


def test_a_slot_can_be_had_when_the_wait_is_over_and_its_window_is_not_exceeded(make: Bench) -> None:
    limiters = make(3, relay("main", (8, 1.5)))
    taken = list[float]()
    for limiter in limiters * 30:
        grant = limiter.take("main", 3)
        taken += [grant.now + wait for wait in grant.slots]
        make.wait(0.05)
    assert most(taken, 1.6) <= 8
    assert len(taken) >= 24


def test_many_recipients_are_counted_as_many(make: Bench) -> None:
    (limiter,) = make(1, relay("main", (10, 30.0)))
    assert limiter.take("main", 5, each=4).slots == (0.0, 0.0)
    assert limiter.take("main", 1, each=3).slots == ()
    assert limiter.take("main", 5).slots == (0.0, 0.0)


def test_what_was_given_back_may_be_had_by_others(make: Bench) -> None:
    one, other = make(2, relay("main", (10, 30.0)))
    grant = one.take("main", 10)
    one.give_back("main", [grant.now + wait for wait in grant.slots[4:]])
    assert one.take("main", 1).slots == (0.0,)
    assert other.take("main", 10).slots == (0.0,) * 5


# -- connections


def test_connections_are_counted_even_where_there_is_no_maximum(make: Bench) -> None:
    one, other = make(2, relay("free"))
    assert [one.enter("free"), one.enter("free"), other.enter("free")] == [0, 0, 0]
    assert other.usage() == {"free": Usage((), 3, None)}
    one.leave("free")
    assert other.usage()["free"].connections == 2
    assert not one.wanted("free")
    one.close()
    assert other.usage()["free"].connections == 1


def test_no_more_connections_are_open_than_allowed_over_all(make: Bench) -> None:
    one, other = make(2, relay("main", max_connections=2))
    assert [one.enter("main"), other.enter("main")] == [0, 0]
    assert one.enter("main") > 0
    assert other.usage()["main"] == Usage((), 2, 2)
    other.leave("main")
    assert one.enter("main") == 0
    assert other.enter("main") > 0


def test_who_came_first_is_served_first_and_who_holds_one_hears_of_it(make: Bench) -> None:
    holder, first, second = make(3, relay("main", max_connections=1))
    assert holder.enter("main") == 0
    assert not holder.wanted("main")
    assert first.enter("main") > 0
    assert second.enter("main") > 0
    assert first.enter("main") > 0  # asking again does not lose the place
    assert holder.wanted("main")
    holder.leave("main")
    assert holder.enter("main") > 0
    assert second.enter("main") > 0
    assert first.enter("main") == 0
    assert first.wanted("main")


def test_a_place_is_not_kept_for_who_does_not_come_back(make: Bench) -> None:
    holder, gone, other = make(3, relay("main", max_connections=1))
    assert holder.enter("main") == 0
    assert gone.enter("main") > 0
    holder.leave("main")
    assert other.enter("main") > 0
    make.wait(4)
    assert other.enter("main") > 0
    make.wait(3)
    assert other.enter("main") == 0


def test_what_bulk_leaves_is_had_at_once_however_much_of_bulk_waits(make: Bench) -> None:
    all_of_it = relay("main", max_connections=2)
    one, *others = make(4, all_of_it.behind())
    urgent, late = make(2, all_of_it)
    assert one.enter("main") == 0
    for other in others:
        assert other.enter("main") > 0
    assert urgent.enter("main") == 0
    assert late.enter("main") > 0  # that was all
    one.leave("main")
    assert others[0].enter("main") > 0  # one is open still, so that what is left now is for the urgent
    assert late.enter("main") == 0


def test_a_refused_connection_teaches_how_many_the_relay_puts_up_with(make: Bench) -> None:
    one, other = make(2, relay("main"))
    for limiter in (one, one, other):
        assert limiter.enter("main") == 0
    assert other.crowded("main") == 2
    other.leave("main")
    assert other.enter("main") > 0
    assert one.usage()["main"] == Usage((), 2, 2, learned=True)
    assert one.enter("main") > 0  # here the learned number becomes known
    assert one.wanted("main")
    one.leave("main")
    assert other.enter("main") == 0


def test_a_relay_that_refuses_the_only_connection_is_not_crowded(make: Bench) -> None:
    (limiter,) = make(1, relay("main"))
    assert limiter.enter("main") == 0
    assert limiter.crowded("main") == 0
    limiter.leave("main")
    assert limiter.usage()["main"] == Usage((), 0, None)
