"""A worker that is deaf ends; one that hears, waits or works does not."""

import pytest

from tasks.watchdog import Watchdog
from tests.waiting import wait_for

IDLE, BUSY = 3.0, 6.0


class Worker:
    """What a watchdog sees of one."""

    def __init__(self) -> None:
        self.bells: int | None = 5
        self.heard, self.busy, self.ended, self.over = 0, False, 0, False

    def end(self) -> None:
        self.ended += 1

    def dog(self, look_seconds: float = 1.0) -> Watchdog:
        return Watchdog(
            waiting=lambda: self.bells,
            taken=lambda: self.heard,
            busy=lambda: self.busy,
            idle_seconds=IDLE * look_seconds,
            busy_seconds=BUSY * look_seconds,
            end=self.end,
            over=lambda: self.over,
            look_seconds=look_seconds,
        )


def looks(dog: Watchdog, most: int = 20) -> int | None:
    """At which look it finds the worker deaf; the first one only learns what it has heard so far."""
    return next((n for n in range(most) if dog.look()), None)


def test_bells_that_an_idle_worker_does_not_hear_make_it_deaf() -> None:
    assert looks(Worker().dog()) == IDLE


@pytest.mark.parametrize("bells", [0, None])
def test_without_bells_nobody_is_deaf(bells: int | None) -> None:
    worker = Worker()
    worker.bells = bells
    assert looks(worker.dog()) is None


def test_a_busy_worker_has_the_time_of_a_task() -> None:
    worker = Worker()
    worker.busy = True
    assert looks(worker.dog()) == BUSY


def test_a_bell_that_is_heard_begins_anew() -> None:
    worker = Worker()
    dog = worker.dog()
    for _ in range(20):
        assert looks(dog, int(IDLE)) is None
        worker.heard += 1


def test_an_empty_queue_begins_anew() -> None:
    worker = Worker()
    dog = worker.dog()
    for _ in range(20):
        worker.bells = 5
        assert looks(dog, int(IDLE) - 1) is None
        worker.bells = 0
        assert not dog.look()


def test_it_ends_the_worker_once() -> None:
    worker = Worker()
    dog = worker.dog(0.01)
    dog.start()
    dog.join(10)
    assert worker.ended == 1


def test_a_worker_that_is_asked_to_end_is_left_alone() -> None:
    worker = Worker()
    dog = worker.dog(0.01)
    worker.over = True
    dog.start()
    wait_for(lambda: not dog.is_alive())
    assert worker.ended == 0
