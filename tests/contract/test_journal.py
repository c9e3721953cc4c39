"""What every journal promises."""

import threading
from collections.abc import Callable

import pytest

from dispatcher.adapters.journal import MemoryJournal
from dispatcher.interfaces import Journal
from dispatcher.reply import NoReply, Outcome, Phase, Reply
from tests.smtpd import message

SENT = Reply(250, "Ok", "2.0.0", Phase.FINAL)
REFUSED = Reply(550, "gone", "5.1.1", Phase.RCPT)


@pytest.fixture(params=[MemoryJournal])
def journal(request: pytest.FixtureRequest) -> Journal:
    make: Callable[[], Journal] = request.param
    return make()


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
    journal.settled([1, 3, 99])
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
