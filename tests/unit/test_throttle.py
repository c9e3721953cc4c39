import pytest

from dispatcher.memory import MemoryLimiter
from dispatcher.rate import Grant
from dispatcher.throttle import IN_PLACE_SECONDS, Throttle
from tests.limits import most, relay


class Clock:
    """Moves only when somebody sleeps, or takes his time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


class Counting(MemoryLimiter):
    """Also tells how often it was asked for slots, and what it was given back."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock.monotonic)
        self.clock, self.asked, self.back, self.slow = clock, 0, 0, 0.0

    def take(self, relay: str, wanted: int, each: int = 1) -> Grant:
        self.asked += 1
        grant = super().take(relay, wanted, each)
        self.clock.sleep(0.0005 + self.slow)
        return grant

    def give_back(self, relay: str, slots: object, each: int = 1) -> None:
        self.back += len(slots)  # type: ignore[arg-type]
        super().give_back(relay, slots, each)  # type: ignore[arg-type]


class Bench:
    """A throttle, a clock, and a relay that answers after so many seconds."""

    def __init__(self, *windows: tuple[int, float]) -> None:
        self.clock = Clock()
        self.limiter = Counting(self.clock)
        self.limiter.limits({"main": relay("main", *windows), "free": relay("free")})
        self.throttle = Throttle(self.limiter, self.clock, self.clock.sleep)
        self.answers: list[float] = []

    def admit(self, recipients: int = 1, name: str = "main") -> float:
        return self.throttle.admit(name, recipients, lambda: False)

    def send(self, seconds: float = 0.002, recipients: int = 1) -> float:
        wait = self.admit(recipients)
        if not wait:
            self.clock.sleep(seconds)
            self.answers += [self.clock.now] * recipients
            self.throttle.told("main", seconds)
        return wait

    def run(self, seconds: float, *, take: float = 0.002, recipients: int = 1) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            if wait := self.send(take, recipients):
                self.clock.sleep(wait)


def test_a_relay_without_a_rate_costs_no_call() -> None:
    bench = Bench((5, 1.0))
    assert [bench.admit(3, "free") for _ in range(1000)] == [0] * 1000
    bench.throttle.told("free", 1)
    assert bench.throttle.room("free", 100) == 100
    assert (bench.throttle.closed("free"), bench.throttle.reason("free")) == (0, "")
    assert bench.limiter.asked == 0


def test_on_a_fast_relay_a_call_is_made_for_many_messages() -> None:
    bench = Bench((1000, 1.0))
    bench.run(10)
    assert len(bench.answers) > 3000
    assert bench.limiter.asked < len(bench.answers) / 10
    bench = Bench((20, 1.0), (500, 60.0))
    bench.run(10)
    assert len(bench.answers) >= 180
    assert bench.limiter.asked < len(bench.answers) / 5


def test_on_a_slow_relay_no_slots_are_hoarded() -> None:
    bench = Bench((500, 60.0))
    bench.run(20, take=0.4)
    assert bench.limiter.asked >= len(bench.answers) - 6  # one each, once it is known how slow it is
    assert bench.limiter.back <= 6


@pytest.mark.parametrize("recipients", [1, 3])
@pytest.mark.parametrize("windows", [[(20, 1.0)], [(20, 1.0), (500, 60.0)], [(90, 60.0)]])
def test_a_rate_is_used_up_and_never_exceeded(windows: list[tuple[int, float]], recipients: int) -> None:
    bench = Bench(*windows)
    bench.run(180, recipients=recipients)
    for limit, seconds in windows:
        assert most(bench.answers, seconds) <= limit
    strictest = min(limit // recipients * recipients / seconds for limit, seconds in windows)
    assert len(bench.answers) >= 180 * strictest * (0.97 if len(windows) == 2 or windows[0][1] > 1 else 0.9)


def test_over_the_limit_the_exact_wait_is_told_and_the_relay_is_known_to_be_closed() -> None:
    bench = Bench((5, 10.0))
    assert [bench.send() for _ in range(5)] == [0] * 5
    wait = bench.send()
    assert 9 < wait < 11
    assert bench.throttle.closed("main") == pytest.approx(wait)
    assert bench.throttle.reason("main") == "5/10s is used up"
    asked = bench.limiter.asked
    assert bench.send() == pytest.approx(wait)
    assert bench.limiter.asked == asked
    bench.clock.sleep(wait)
    assert bench.throttle.closed("main") == 0
    assert bench.send() == 0


def test_a_slot_that_is_near_is_waited_for_unless_the_worker_is_to_stop() -> None:
    bench = Bench((2, 1.0))
    assert bench.send() == 0
    before = bench.clock.now
    assert 0 < bench.throttle.admit("main", 1, lambda: True) <= IN_PLACE_SECONDS
    assert bench.clock.now - before < 0.01
    assert bench.send() == 0
    assert bench.clock.now - before > 0.4


def test_a_slot_that_was_missed_is_given_back_not_used() -> None:
    bench = Bench((1000, 60.0))
    for _ in range(10):
        bench.send()
    at_hand = len(bench.throttle._relays["main"].slots)
    assert at_hand > 10
    bench.clock.sleep(5)
    asked = bench.limiter.asked
    assert bench.send() == 0
    assert bench.limiter.asked == asked + 1
    assert bench.limiter.back == at_hand
    assert bench.limiter.usage()["main"].windows[0][1] == 11 + len(bench.throttle._relays["main"].slots)


def test_a_late_answer_is_counted_when_it_came() -> None:
    bench = Bench((10, 5.0))
    for _ in range(4):
        bench.send()
    bench.send(seconds=4)
    before = bench.clock.now
    bench.run(6)
    assert most(bench.answers, 5.0) <= 10
    assert len([answer for answer in bench.answers if before <= answer < before + 1]) >= 4


def test_slots_that_come_too_late_are_not_used() -> None:
    bench = Bench((20, 1.0))
    bench.run(2)
    bench.limiter.slow = 0.3
    bench.run(1)
    bench.limiter.slow = 0
    bench.run(5)
    assert most(bench.answers, 1.0) <= 20


def test_a_limiter_that_is_always_slow_is_no_obstacle_for_ever() -> None:
    bench = Bench((20, 1.0))
    bench.limiter.slow = 0.2
    bench.run(20)
    assert len(bench.answers) > 40


def test_more_recipients_than_a_window_allows_go_some_day() -> None:
    bench = Bench((5, 2.0))
    assert bench.send() == 0
    wait = bench.send(recipients=50)
    assert wait > 1
    bench.clock.sleep(wait)
    assert bench.send(recipients=50) == 0


def test_what_others_found_out_closes_it_too() -> None:
    bench = Bench((5, 1.0))
    bench.throttle.close_for("free", 3, "all 5 connections are in use")
    assert bench.throttle.closed("free") == 3
    assert bench.throttle.reason("free") == "all 5 connections are in use"
    bench.clock.sleep(3.1)
    assert bench.throttle.closed("free") == 0


def test_no_more_is_leased_than_can_be_sent_soon() -> None:
    bench = Bench((5, 1.0), (100, 60.0))
    assert bench.throttle.room("main", 100) == 9
    assert bench.throttle.room("main", 3) == 3
    assert Bench((20, 60.0)).throttle.room("main", 100) == 20
    bench = Bench((20, 1.0))
    assert bench.throttle.room("main", 100) == 36
    assert Bench((1, 1.0)).throttle.room("main", 100) == 1
