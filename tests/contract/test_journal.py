"""What every journal promises."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from dispatcher.adapters.journals import FileJournals
from dispatcher.delivery import Lane, Lease, LeasedDelivery, LeasedMessage
from dispatcher.errors import LeaseLost
from dispatcher.interfaces import Journal, Journals
from dispatcher.memory import MemoryJournals
from dispatcher.reply import NoReply, Outcome, Phase, Reply
from tests.smtpd import message

SENT = Reply(250, "Ok", "2.0.0", Phase.FINAL)
REFUSED = Reply(550, "gone", "5.1.1", Phase.RCPT)


class Desk:
    """A folder of journals with one of them open, and a hand on its clock."""

    def __init__(self, journals: Journals, journal: Journal, age: Callable[[float], None]) -> None:
        self.journals, self.journal, self.age = journals, journal, age

    def lease(self, *numbers: int, token: str = "t1", seconds: float = 60.0) -> None:
        self.journal.leasing(seconds)
        self.journal.leased(lease_of(token, *numbers))


def lease_of(token: str, *numbers: int) -> Lease:
    return Lease(token, 0.0, tuple(leased(number) for number in numbers))


def leased(number: int) -> LeasedMessage:
    deliveries = tuple(LeasedDelivery(number * 10 + k, f"{k}@x.example", 0, 0.0) for k in range(3))
    return LeasedMessage(
        number, f"m{number}", "s1", Lane.BULK, 0.0, {}, {}, deliveries, None, None, "resend", None, None
    )


@pytest.fixture(params=["memory", "file"])
def desk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    late = [0.0]
    if request.param == "memory":
        journals: Journals = MemoryJournals(strict=True, clock=lambda: monotonic() + late[0])
    else:
        journals = FileJournals(tmp_path / "journal", page=256 * 1024)
        for module in ("journal", "journals"):
            monkeypatch.setattr(f"dispatcher.adapters.{module}.uptime", lambda: monotonic() + late[0])
    journal = journals.open("build 7")
    yield Desk(journals, journal, lambda seconds: late.__setitem__(0, late[0] + seconds))
    journal.close()


@pytest.fixture
def journal(desk: Desk) -> Journal:
    """One whose messages 0 to 1,199 are leased."""
    desk.lease(*range(1200))
    return desk.journal


def test_a_begun_message_is_open_for_the_recipients_that_were_not_refused(journal: Journal) -> None:
    journal.begin(message(1, "a@x.example", "gone@x.example", "c@x.example"), ((11, REFUSED),))
    journal.begin(message(2), ())
    assert journal.begun() == {1: (10, 12), 2: (20,)}


def test_a_reply_ends_it(journal: Journal) -> None:
    journal.begin(message(1), ())
    journal.begin(message(2), ())
    journal.reply(Outcome(1, ((10, SENT),), "main"))
    assert journal.begun() == {2: (20,)}


def test_a_known_silence_ends_it_too(journal: Journal) -> None:
    journal.begin(message(1), ())
    journal.reply(Outcome(1, ((10, NoReply(Phase.FINAL, "timed out")),), "main"))
    assert journal.begun() == {}


def test_a_message_that_was_never_begun_may_be_answered(journal: Journal) -> None:
    journal.reply(Outcome(1, ((10, REFUSED),), "main"))
    assert journal.begun() == {}


def test_settled_messages_are_forgotten(journal: Journal) -> None:
    for number in (1, 2, 3):
        journal.begin(message(number), ())
    journal.settled("t1", [1, 3, 99])
    assert journal.begun() == {2: (20,)}


def test_a_message_may_be_begun_again_with_other_recipients(journal: Journal) -> None:
    journal.begin(message(1, "a@x.example", "b@x.example"), ())
    journal.begin(message(1, "a@x.example", "b@x.example"), ((10, REFUSED),))
    assert journal.begun() == {1: (11,)}


def test_what_was_told_does_not_change_under_its_reader(journal: Journal) -> None:
    journal.begin(message(1), ())
    told = journal.begun()
    journal.begin(message(2), ())
    assert told == {1: (10,)}


def test_threads_may_write_at_once(journal: Journal) -> None:
    def work(first: int) -> None:
        for number in range(first, first + 300):
            journal.begin(message(number), ())
            if number % 3:
                journal.reply(Outcome(number, ((number * 10, SENT),), "main"))
            journal.begun()

    threads = [threading.Thread(target=work, args=(n * 300,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert journal.begun() == {number: (number * 10,) for number in range(0, 1200, 3)}


def test_what_is_not_leased_is_not_begun(desk: Desk) -> None:
    with pytest.raises(LeaseLost, match="not leased"):
        desk.journal.begin(message(1), ())


def test_what_is_past_its_term_is_not_begun(desk: Desk) -> None:
    desk.lease(1, 2, seconds=10.0)
    desk.journal.begin(message(1), ())
    desk.age(10.5)
    with pytest.raises(LeaseLost, match="term"):
        desk.journal.begin(message(2), ())
    assert desk.journal.begun() == {1: (10,)}


def test_the_term_counts_from_before_the_ledger_was_asked(desk: Desk) -> None:
    desk.journal.leasing(10.0)
    desk.age(10.5)
    desk.journal.leased(lease_of("t1", 1))
    with pytest.raises(LeaseLost, match="term"):
        desk.journal.begin(message(1), ())


def test_a_lease_is_held_until_all_of_it_is_settled(desk: Desk) -> None:
    desk.lease(1, 2)
    desk.lease(3, token="t2")
    desk.journal.settled("t1", [1, 3])
    desk.journal.settled("t2", [3])
    assert desk.journal.tokens() == {"t1"}
    desk.journal.abandon(lease_of("t1", 1, 2))
    assert desk.journal.tokens() == set()


def test_what_was_begun_and_answered_can_be_read(desk: Desk) -> None:
    desk.lease(1, 2, 3)
    desk.journal.begin(message(1, "a@x.example", "gone@x.example"), ((11, REFUSED),))
    desk.journal.reply(Outcome(1, ((10, SENT), (11, REFUSED)), "main", 0.25))
    desk.journal.begin(message(2), ())
    entries = desk.journal.entries()
    assert set(entries) == {("t1", 1), ("t1", 2)}
    first, second = entries["t1", 1], entries["t1", 2]
    assert (first.deliveries, first.result(10), first.result(11)) == ((10, 11), SENT, REFUSED)
    assert (first.relay, first.seconds, first.sha256) == ("main", 0.25, message(1).sha256)
    assert second.result(20) is None


def test_what_is_abandoned_stays_readable(desk: Desk) -> None:
    desk.lease(1)
    desk.journal.begin(message(1), ())
    desk.journal.reply(Outcome(1, ((10, SENT),), "main"))
    desk.journal.abandon(lease_of("t1", 1))
    assert desk.journal.entries()["t1", 1].result(10) == SENT


def test_a_process_that_lives_is_not_among_the_dead(desk: Desk) -> None:
    desk.lease(1)
    assert desk.journals.owners() == {desk.journal.owner}
    with desk.journals.dead() as found:
        assert list(found) == []


def test_what_is_settled_of_an_older_lease_is_held_under_the_newer_one(desk: Desk) -> None:
    desk.lease(1)
    desk.lease(1, token="t2")
    desk.journal.begin(message(1), ())
    desk.journal.settled("t1", [1])
    assert desk.journal.tokens() == {"t2"}
    assert desk.journal.begun() == {1: (10,)}
