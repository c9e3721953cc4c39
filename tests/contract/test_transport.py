"""What every transport promises; the fake that ships and the real one at a real server keep it alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.errors import ConnectFailed
from dispatcher.interfaces import Transport
from dispatcher.mail import Message
from dispatcher.relay import Relay
from dispatcher.reply import Phase, Reply
from dispatcher.servers.sink import Rule, Sink
from dispatcher.testing import MemoryTransport
from tests.smtpd import HOST, TellingJournal, closed_port, message

GONE = Reply(550, "No such user here", "5.1.1", Phase.RCPT)
LATER = Reply(451, "Greylisted, try again later", "4.7.1", Phase.RCPT)
SPAM = Reply(554, "Not liked", "5.7.1", Phase.FINAL)


class Bench:
    """A transport and a way to read what arrived through it, as (message id, recipients)."""

    def __init__(self, transport: Transport, arrived: Callable[[], list[tuple[bytes, tuple[str, ...]]]]) -> None:
        self.transport, self.arrived = transport, arrived
        self.journal = TellingJournal()

    def send(self, *messages: Message) -> dict[int, list[str]]:
        """The results by message, as text."""
        outcomes = list(self.transport.send(messages, self.journal))
        return {o.message: [str(result) for _, result in o.results] for o in outcomes}


@contextmanager
def memory() -> Iterator[Bench]:
    transport = MemoryTransport("main", {"gone@x.example": GONE, "later@x.example": [LATER], "spam@x.example": SPAM})
    yield Bench(transport, lambda: [(m.content, tuple(to for _, to in m.rcpt_to)) for m in transport.sent])


@contextmanager
def smtp() -> Iterator[Bench]:
    rules = (
        Rule.refuse("gone@x.example"),
        Rule.defer("later@x.example"),
        Rule("spam@x.example", str(SPAM), Phase.FINAL),
    )
    with Sink(rules=rules) as sink:
        transport = SmtpTransport(Relay.parse("main", sink.url, setting="url"), size=1)
        try:
            yield Bench(transport, lambda: [(r.content, r.rcpt_to) for r in sink.received()])
        finally:
            transport.close()


@pytest.fixture(params=[memory, smtp])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with request.param() as made:
        yield made


def sent(results: list[str]) -> list[bool]:
    return [result.startswith("250") for result in results]


def test_all_are_sent_in_order_with_their_bytes(bench: Bench) -> None:
    messages = [message(n, f"u{n}@x.example", content=b"Subject: %d\r\n\r\n.dot\r\n" % n) for n in range(5)]
    results = bench.send(*messages)
    assert list(results) == [0, 1, 2, 3, 4]
    assert all(sent(r) == [True] for r in results.values())
    assert bench.arrived() == [(m.content, (m.rcpt_to[0][1],)) for m in messages]


def test_an_outcome_names_message_relay_and_every_delivery_in_order(bench: Bench) -> None:
    (outcome,) = bench.transport.send([message(7, "a@x.example", "gone@x.example", "c@x.example")], bench.journal)
    assert (outcome.message, outcome.relay) == (7, "main")
    assert [delivery for delivery, _ in outcome.results] == [70, 71, 72]
    assert outcome.seconds >= 0


def test_one_refused_recipient_costs_the_others_nothing(bench: Bench) -> None:
    mail = message(1, "a@x.example", "gone@x.example", "c@x.example")
    assert [(r if "gone" in to else r[:3]) for r, (_, to) in zip(bench.send(mail)[1], mail.rcpt_to, strict=True)] == [
        "250",
        str(GONE),
        "250",
    ]
    assert bench.arrived() == [(mail.content, ("a@x.example", "c@x.example"))]
    assert bench.journal.events == [("begin", 1, (11,)), ("reply", 1)]


def test_a_refusal_is_a_reply_with_its_phase(bench: Bench) -> None:
    (outcome,) = bench.transport.send([message(1, "gone@x.example")], bench.journal)
    assert outcome.results == ((10, GONE),)


def test_a_message_that_nobody_may_have_is_never_begun(bench: Bench) -> None:
    assert bench.send(message(1, "gone@x.example", "later@x.example")) == {1: [str(GONE), str(LATER)]}
    assert bench.journal.events == [("reply", 1)]
    assert bench.arrived() == []


def test_a_refusal_after_the_body_was_begun(bench: Bench) -> None:
    (outcome,) = bench.transport.send([message(1, "spam@x.example")], bench.journal)
    assert outcome.results == ((10, SPAM),)
    assert bench.journal.events == [("begin", 1, ()), ("reply", 1)]
    assert bench.arrived() == []


def test_one_refused_message_is_not_in_the_way_of_the_next(bench: Bench) -> None:
    results = bench.send(
        message(1, "gone@x.example"), message(2), message(3, "spam@x.example"), message(4, "a@x.example")
    )
    assert {number: sent(r) for number, r in results.items()} == {1: [False], 2: [True], 3: [False], 4: [True]}
    assert len(bench.arrived()) == 2


def test_a_deferred_recipient_is_taken_the_next_time(bench: Bench) -> None:
    assert bench.send(message(1, "later@x.example")) == {1: [str(LATER)]}
    assert sent(bench.send(message(1, "later@x.example"))[1]) == [True]


def test_the_journal_hears_of_each_message_before_and_after_and_before_the_caller_does(bench: Bench) -> None:
    for outcome in bench.transport.send([message(1), message(2)], bench.journal):
        assert bench.journal.events[-2:] == [("begin", outcome.message, ()), ("reply", outcome.message)]
        assert bench.journal.begun() == {}
    assert [event[:2] for event in bench.journal.events] == [("begin", 1), ("reply", 1), ("begin", 2), ("reply", 2)]


def test_messages_are_taken_as_they_are_sent_and_at_most_one_ahead(bench: Bench) -> None:
    taken: list[int] = []

    def messages() -> Iterator[Message]:
        for number in (1, 2, 3):
            taken.append(number)
            yield message(number)

    outcomes = bench.transport.send(messages(), bench.journal)
    for number in (1, 2, 3):
        assert next(outcomes).message == number
        assert taken in (list(range(1, number + 1)), list(range(1, min(number + 1, 3) + 1)))


def test_who_stops_listening_leaves_the_rest_unsent_and_the_transport_usable(bench: Bench) -> None:
    outcomes = bench.transport.send([message(1), message(2)], bench.journal)
    assert next(outcomes).message == 1
    outcomes.close()
    assert len(bench.arrived()) == 1
    assert sent(bench.send(message(3))[3]) == [True]


def test_sending_nothing_does_nothing(bench: Bench) -> None:
    assert bench.send() == {}
    assert bench.journal.events == []


def down_memory() -> MemoryTransport:
    transport = MemoryTransport("main")
    transport.down = ConnectFailed("main", "connection refused")
    return transport


@pytest.mark.parametrize("kind", ["memory", "smtp"])
def test_a_relay_that_is_away_raises_and_nothing_is_yielded_or_begun(kind: str) -> None:
    with closed_port() as port:
        relay = Relay(name="main", host=HOST, port=port, tls="none")
        transport: Transport = down_memory() if kind == "memory" else SmtpTransport(relay)
        journal = TellingJournal()
        with pytest.raises(ConnectFailed) as caught:
            next(transport.send([message(1)], journal))
        transport.close()
    assert caught.value.temporary
    assert caught.value.relay == "main"
    assert journal.events == []
