"""Several sessions in one thread: they overlap where a server lets wait, and nothing is lost when one of them fails."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.errors import ConnectFailed
from dispatcher.mail import Message
from dispatcher.memory import MemoryJournal
from dispatcher.rate import Rate
from dispatcher.relay import Relay
from dispatcher.reply import NoReply, Phase
from dispatcher.servers.sink import Rule, Sink
from tests.smtpd import TellingJournal, message

SLOW = Rule(phase=Phase.FINAL, hold=0.1)


def mails(count: int) -> list[Message]:
    return [message(n, f"a{n}@example.com") for n in range(count)]


def relay(sink: Sink, **options: object) -> Relay:
    return Relay.parse("main", sink.url, setting="url", **options)


def test_a_server_that_lets_wait_is_sent_to_over_several_connections_and_each_mail_goes_once() -> None:
    with Sink(rules=(SLOW,)) as sink:
        transport = SmtpTransport(relay(sink), size=4)
        journal = TellingJournal()
        outcomes = list(transport.send(mails(24), journal))
        assert transport.pool.idle == 4
        transport.close()
        taken = [to for each in sink.received() for to in each.rcpt_to]
    assert sorted(taken) == sorted(f"a{n}@example.com" for n in range(24))
    assert sorted(outcome.message for outcome in outcomes) == list(range(24))
    for n in range(24):
        assert [event[0] for event in journal.events if event[1] == n] == ["begin", "reply"]


def test_at_most_as_many_mails_are_begun_and_not_answered_as_there_are_connections() -> None:
    with Sink(rules=(SLOW,)) as sink:
        transport = SmtpTransport(relay(sink), size=3)
        journal = TellingJournal()
        list(transport.send(mails(15), journal))
        transport.close()
    open_, most = set(), 0
    for what, number, *_ in journal.events:
        (open_.add if what == "begin" else open_.discard)(number)
        most = max(most, len(open_))
    assert 1 < most <= 3


def test_large_mails_are_not_all_in_hand_at_once_and_small_ones_after_them_overlap_again() -> None:
    """In hand are those that were taken from the stream and have no outcome yet."""
    size, large, small = 6 << 20, 12, 24
    taken = list[int]()

    def stream() -> Iterator[Message]:
        for n in range(large + small):
            taken.append(n)
            made = message(n, f"a{n}@example.com")
            yield replace(made, content=made.content + b"\r\n" * (size // 2)) if n < large else made

    with Sink(rules=(SLOW,)) as sink:
        transport = SmtpTransport(relay(sink), size=8)
        answered, most = set[int](), {True: 0, False: 0}
        for outcome in transport.send(stream(), MemoryJournal()):
            held = set(taken) - answered
            answered.add(outcome.message)
            for is_large, before in most.items():
                most[is_large] = max(before, sum((n < large) is is_large for n in held))
        transport.close()
        assert len(sink.received()) == large + small
    assert 1 < most[True] <= 5  # 24 MiB, and the one that made it so many
    assert most[False] > 5


def test_where_each_mail_has_its_time_there_is_one_connection() -> None:
    with Sink(rules=(SLOW,)) as sink:
        transport = SmtpTransport(relay(sink, rate=Rate.parse(("1000/s",), "rate")), size=4)
        assert len(list(transport.send(mails(5), MemoryJournal()))) == 5
        assert transport.pool.idle == 1
        transport.close()


def test_who_halts_gets_the_outcome_of_all_that_was_begun_and_begins_no_more() -> None:
    with Sink(rules=(SLOW,)) as sink:
        transport = SmtpTransport(relay(sink), size=4)
        journal, seen = TellingJournal(), list[int]()
        for outcome in transport.send(mails(100), journal, lambda: len(seen) >= 6):
            seen.append(outcome.message)
        transport.close()
        begun = {event[1] for event in journal.events if event[0] == "begin"}
        assert begun == set(seen) == {int(each.rcpt_to[0][1:-12]) for each in sink.received()}
        assert 6 <= len(seen) < 12


def test_a_further_connection_that_is_refused_costs_no_mail_and_the_others_go_on() -> None:
    crowded = Rule(phase=Phase.CONNECT, reply="554 5.7.1 no more of you", above=2)
    with Sink(rules=(SLOW, crowded)) as sink:
        transport = SmtpTransport(relay(sink), size=5)
        outcomes = list(transport.send(mails(20), MemoryJournal()))
        assert sorted(outcome.message for outcome in outcomes) == list(range(20))
        assert transport.pool.idle == 2
        transport.close()


def test_the_first_connection_that_is_refused_is_the_relays_trouble() -> None:
    with Sink(rules=(Rule(phase=Phase.CONNECT, reply="554 5.7.1 go away"),)) as sink:
        transport = SmtpTransport(relay(sink), size=5)
        taken: list[int] = []

        def telling() -> Iterator[Message]:
            for mail in mails(5):
                taken.append(mail.id)
                yield mail

        with pytest.raises(ConnectFailed):
            list(transport.send(telling(), MemoryJournal()))
        assert taken == []
        transport.close()


def test_silence_on_one_connection_is_the_result_of_its_own_mail_alone() -> None:
    silent = Rule("a3@*", phase=Phase.FINAL, hold=30.0)
    with Sink(rules=(silent, SLOW)) as sink:
        transport = SmtpTransport(relay(sink, timeout_final=0.5), size=4)
        outcomes = {o.message: o.results[0][1] for o in transport.send(mails(16), MemoryJournal())}
        transport.close()
    assert isinstance(outcomes[3], NoReply)
    assert all(str(result).startswith("250") for number, result in outcomes.items() if number != 3)
    assert len(outcomes) == 16
