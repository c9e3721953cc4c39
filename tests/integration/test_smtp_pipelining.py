"""Several commands at once (RFC 2920): what goes over the wire, and a server that errs, refuses or breaks on it."""

from collections.abc import Callable, Iterator

import pytest

from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.mail import Message
from dispatcher.rate import Rate
from dispatcher.reply import NoReply, Outcome, Phase, Reply
from tests.smtpd import Peer, ScriptedServer, TellingJournal, deliver, message, only

ENVELOPE = ("MAIL", "RCPT", "DATA")


def results(outcomes: list[Outcome]) -> list[str]:
    return [str(result)[:3] for outcome in outcomes for _, result in outcome.results]


def propose(peer: Peer, *replies: str, recipients: int = 1) -> None:
    """Hear a whole envelope before a word is said of it."""
    for verb in ("MAIL", *["RCPT"] * recipients, "DATA"):
        peer.hear(verb)
    peer.say(*(replies or ("250 ok", *["250 ok"] * recipients, "354 go on")))


def take(peer: Peer) -> None:
    """Take one mail, its envelope as a whole."""
    propose(peer)
    peer.body()
    peer.say("250 taken")


def test_an_envelope_is_one_write_and_the_next_one_goes_along_with_the_body() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        propose(peer)
        for _ in range(2):
            peer.body()
            for verb in ENVELOPE:  # of the next, while this one is not answered
                peer.hear(verb)
            peer.say("250 taken", "250 ok", "250 ok", "354 go on")
        peer.body()
        peer.say("250 taken")
        peer.quit()

    journal = TellingJournal()
    with ScriptedServer(script) as server:
        outcomes = deliver(server.relay(), message(1), message(2), message(3), journal=journal)
    assert results(outcomes) == ["250"] * 3
    # One message at a time is begun and not answered.
    assert journal.events == [each for n in (1, 2, 3) for each in (("begin", n, ()), ("reply", n))]


def test_a_server_that_does_not_offer_it_or_a_relay_without_it_gets_one_command_at_a_time() -> None:
    def script(*offered: str) -> Callable[[Peer], None]:
        def play(peer: Peer) -> None:
            peer.greet(*offered)
            peer.sock.settimeout(0.2)
            peer.hear("MAIL")
            with pytest.raises(TimeoutError):
                peer.sock.recv(1)
            peer.sock.settimeout(10)
            peer.say("250 ok")
            peer.hear("RCPT")
            peer.say("250 ok")
            peer.hear("DATA")
            peer.say("354 ok")
            peer.body()
            peer.say("250 taken")
            peer.quit()

        return play

    with ScriptedServer(script(), script("PIPELINING")) as server:
        assert results(deliver(server.relay(), message(1))) == ["250"]
        assert results(deliver(server.relay(pipelining=False), message(1))) == ["250"]


def test_a_body_that_nobody_is_to_have_is_an_empty_one() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        propose(peer, "250 ok", "550 5.1.1 no such user", "550 5.1.1 nor that one", "354 go on", recipients=2)
        assert peer.body() == b""
        peer.say("554 5.5.1 no valid recipients")
        peer.hear("RSET")
        peer.say("250 ok")
        take(peer)
        peer.quit()

    journal = TellingJournal()
    with ScriptedServer(script) as server:
        outcomes = deliver(server.relay(), message(1, "a@x.example", "b@x.example"), message(2), journal=journal)
    assert results(outcomes) == ["550", "550", "250"]
    assert ("begin", 1, ()) not in journal.events


def test_a_refused_sender_is_every_recipients_result_and_what_comes_behind_it_is_not() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        propose(peer, "550 5.7.1 not from you", "503 5.5.1 MAIL first", "503 5.5.1 RCPT first")
        peer.hear("RSET")
        peer.say("250 ok")
        take(peer)
        peer.quit()

    with ScriptedServer(script) as server:
        first, second = deliver(server.relay(), message(1), message(2))
    assert first.results[0][1] == Reply(550, "not from you", "5.7.1", Phase.MAIL)
    assert results([second]) == ["250"]


def test_a_refused_recipient_costs_the_others_nothing() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        propose(peer, "250 ok", "250 ok", "550 5.1.1 no", "250 ok", "354 go on", recipients=3)
        peer.body()
        peer.say("250 taken")
        peer.quit()

    journal = TellingJournal()
    with ScriptedServer(script) as server:
        outcomes = deliver(server.relay(), message(1, "a@x.example", "b@x.example", "c@x.example"), journal=journal)
    assert results(outcomes) == ["250", "550", "250"]
    assert journal.events == [("begin", 1, (11,)), ("reply", 1)]


def test_a_server_that_closes_after_a_mail_gets_the_next_one_over_a_new_connection() -> None:
    def closing(peer: Peer) -> None:
        peer.greet("PIPELINING")
        propose(peer)
        peer.body()
        for verb in ENVELOPE:
            peer.hear(verb)
        peer.say("250 taken", "421 4.3.2 going down")

    def gone(peer: Peer) -> None:
        peer.greet("PIPELINING")
        take(peer)

    def taking(peer: Peer) -> None:
        peer.greet("PIPELINING")
        take(peer)
        peer.quit()

    journal = TellingJournal()
    with ScriptedServer(closing, gone, taking) as server:
        outcomes = deliver(server.relay(), message(1), message(2), message(3), journal=journal)
    assert results(outcomes) == ["250"] * 3
    assert [event for event in journal.events if event[0] == "begin"] == [("begin", n, ()) for n in (1, 2, 3)]


def test_silence_after_the_dot_is_unknown_and_the_next_one_is_not() -> None:
    def silent(peer: Peer) -> None:
        peer.greet("PIPELINING")
        propose(peer)
        peer.body()
        for verb in ENVELOPE:
            peer.hear(verb)

    def taking(peer: Peer) -> None:
        peer.greet("PIPELINING")
        take(peer)
        peer.quit()

    with ScriptedServer(silent, taking) as server:
        first, second = deliver(server.relay(), message(1), message(2))
    (unknown,) = [result for _, result in first.results]
    assert isinstance(unknown, NoReply)
    assert unknown.phase is Phase.FINAL
    assert results([second]) == ["250"]


def forgetful(peer: Peer) -> None:
    """Answers the first of several commands, and drops the others."""
    peer.greet("PIPELINING")
    for verb in ENVELOPE:
        peer.hear(verb)
    peer.say("250 ok")
    assert not peer.sock.recv(1)


def one_by_one(peer: Peer) -> None:
    """Takes one command at a time, until the client leaves."""
    peer.greet("PIPELINING")
    while peer.hear() != "QUIT":
        peer.say("250 ok")
        peer.hear("RCPT")
        peer.say("250 ok")
        peer.hear("DATA")
        peer.say("354 ok")
        peer.body()
        peer.say("250 taken")
    peer.say("221 bye")


def test_a_server_that_offers_it_and_breaks_is_spared_it_after_the_second_time() -> None:
    with ScriptedServer(forgetful, one_by_one, forgetful, one_by_one, one_by_one) as server:
        relay = server.relay(timeout_command=1.0, max_messages_per_connection=1)
        transport = SmtpTransport(relay)
        journal = TellingJournal()
        for number in range(3):
            (outcome,) = transport.send([message(number)], journal)
            assert results([outcome]) == ["250"]
        transport.close()
        assert server.connections == 5


def test_a_silent_server_is_tried_once_more_and_then_it_is_silent() -> None:
    def silent(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.hear("MAIL")
        peer.sock.settimeout(5)
        while peer.sock.recv(100):
            pass

    with ScriptedServer(silent, silent) as server:
        result = only(deliver(server.relay(timeout_command=0.3), message(1)))
    assert isinstance(result, NoReply)
    assert result.phase is Phase.MAIL


def test_who_stops_listening_leaves_what_was_proposed_unsent() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        propose(peer)
        peer.body()
        for verb in ENVELOPE:
            peer.hear(verb)
        peer.say("250 taken", "250 ok", "250 ok", "354 go on")
        assert not peer.sock.recv(1), "a body, or its end"

    with ScriptedServer(script) as server:
        transport = SmtpTransport(server.relay())
        outcomes = transport.send([message(1), message(2)], TellingJournal())
        assert results([next(outcomes)]) == ["250"]
        outcomes.close()
        transport.close()


def test_where_each_mail_has_its_time_none_is_proposed_ahead() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        for _ in range(2):
            take(peer)
        peer.quit()

    taken = []

    def messages() -> Iterator[Message]:
        for number in (1, 2):
            taken.append(number)
            yield message(number)

    with ScriptedServer(script) as server:
        transport = SmtpTransport(server.relay(rate=Rate.parse(("1000/s",), "rate")))
        outcomes = transport.send(messages(), TellingJournal())
        next(outcomes)
        assert taken == [1]
        next(outcomes)
        outcomes.close()
        transport.close()


def test_an_envelope_of_very_many_recipients_goes_one_by_one() -> None:
    def script(peer: Peer) -> None:
        peer.greet("PIPELINING")
        peer.take(101)
        peer.quit()

    with ScriptedServer(script) as server:
        mail = message(1, *(f"a{n}@x.example" for n in range(101)))
        assert results(deliver(server.relay(), mail)) == ["250"] * 101
