"""The settler: groups, patience with a ledger that is away, and an end that leaves nothing behind."""

import threading
from collections.abc import Sequence

from dispatcher.delivery import Settlement, State
from dispatcher.dispatcher import SystemClock
from dispatcher.errors import LedgerUnavailable
from dispatcher.events import Event, LedgerAway
from dispatcher.memory import MemoryJournal, MemoryLedger
from dispatcher.settler import GROUP, Settler
from tests.waiting import wait_for


class Recorder(MemoryLedger):
    """Remembers what it is asked to settle; ``away`` makes it refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[tuple[str, list[int]]] = []
        self.away = threading.Event()

    def settle(self, token: str, settlements: Sequence[Settlement]) -> int:
        if self.away.is_set():
            raise LedgerUnavailable("gone fishing")
        self.groups.append((token, [s.delivery for s in settlements]))
        return len(settlements)


class Stumbling(Recorder):
    """Cannot settle what is of the lease ``bad``."""

    def settle(self, token: str, settlements: Sequence[Settlement]) -> int:
        if token == "bad":
            raise ValueError("no such column")
        return super().settle(token, settlements)


def sent(*numbers: int) -> list[Settlement]:
    return [Settlement(n, n, State.SENT, attempted=True) for n in numbers]


def settler(ledger: Recorder, seconds: float = 0.01, told: list[Event] | None = None) -> Settler:
    sink = told.append if told is not None else lambda _: None
    return Settler(ledger, MemoryJournal(), SystemClock(), seconds=seconds, sink=sink)


def test_flush_settles_all_that_waits_in_one_group_per_lease() -> None:
    ledger = Recorder()
    mine = settler(ledger)
    mine.add("a", sent(1))
    mine.add("a", sent(2))
    mine.add("b", sent(3))
    assert mine.flush()
    assert ledger.groups == [("a", [1, 2]), ("b", [3])]
    assert mine.flush()
    assert len(ledger.groups) == 2


def test_the_thread_settles_by_itself_soon() -> None:
    ledger = Recorder()
    mine = settler(ledger)
    mine.start()
    mine.add("a", sent(1))
    wait_for(lambda: ledger.groups, 5)
    assert mine.close()


def test_a_full_group_does_not_wait_for_its_time() -> None:
    ledger = Recorder()
    mine = settler(ledger, seconds=60.0)
    mine.start()
    mine.add("a", sent(1))
    mine.add("a", sent(*range(2, GROUP + 1)))
    wait_for(lambda: ledger.groups, 5)
    assert mine.close()


def test_a_settlement_that_fails_does_not_hold_up_the_others() -> None:
    ledger, told = Stumbling(), list[Event]()
    mine = settler(ledger, told=told)
    mine.add("bad", sent(1))
    mine.add("good", sent(2))
    assert not mine.flush()
    assert ledger.groups == [("good", [2])]
    assert told == [LedgerAway("ValueError: no such column", 1)]


def test_while_the_ledger_is_away_outcomes_wait_in_their_order_and_are_told_of() -> None:
    ledger, told = Recorder(), list[Event]()
    mine = settler(ledger, told=told)
    ledger.away.set()
    mine.add("a", sent(1))
    assert not mine.flush()
    mine.add("a", sent(2))
    assert not mine.flush()
    assert told == [LedgerAway("gone fishing", n) for n in (1, 2)]
    ledger.away.clear()
    assert mine.flush()
    assert ledger.groups == [("a", [1, 2])]


def test_the_thread_offers_again_when_the_ledger_is_back() -> None:
    ledger = Recorder()
    ledger.away.set()
    mine = settler(ledger)
    mine.start()
    mine.add("a", sent(1))
    wait_for(lambda: not ledger.groups)
    ledger.away.clear()
    wait_for(lambda: ledger.groups, 10)
    assert mine.close()


def test_closing_settles_what_is_left_and_says_when_it_could_not() -> None:
    ledger = Recorder()
    mine = settler(ledger, seconds=60.0)
    mine.start()
    mine.add("a", sent(1))
    assert mine.close()
    assert ledger.groups == [("a", [1])]
    away = Recorder()
    away.away.set()
    other = settler(away)
    other.add("a", sent(1))
    assert not other.close()


def test_the_thread_outlives_a_look_that_fails() -> None:
    ledger, told = Recorder(), list[Event]()

    def look() -> float:
        raise OSError("broken")

    mine = Settler(ledger, MemoryJournal(), SystemClock(), seconds=0.01, look=look, sink=told.append)
    mine.start()
    wait_for(lambda: told, 10)
    mine.add("a", sent(1))
    wait_for(lambda: ledger.groups, 10)
    assert mine.close()
