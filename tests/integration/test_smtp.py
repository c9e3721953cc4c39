"""What SMTP silence, refusals and nonsense come to, phase by phase, at servers that are scripted line by line."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.errors import ConnectFailed
from dispatcher.reply import NoReply, Phase, Reply
from tests.smtpd import Peer, ScriptedServer, TellingJournal, deliver, message, only

HANG_UPS: list[tuple[Phase, Callable[[Peer], Any]]] = [
    (Phase.MAIL, lambda peer: peer.hear("MAIL")),
    (Phase.RCPT, lambda peer: (peer.hear("MAIL"), peer.say("250 ok"), peer.hear("RCPT"))),
    (
        Phase.DATA,
        lambda peer: (peer.hear("MAIL"), peer.say("250 ok"), peer.hear("RCPT"), peer.say("250 ok"), peer.hear("DATA")),
    ),
    (Phase.FINAL, lambda peer: (peer.until_body(), peer.body())),
]


@pytest.mark.parametrize(("phase", "until"), HANG_UPS, ids=[phase for phase, _ in HANG_UPS])
def test_a_connection_that_ends_leaves_no_reply_in_its_phase(phase: Phase, until: Callable[[Peer], Any]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        until(peer)

    journal = TellingJournal()
    again = () if phase is Phase.FINAL else (Peer.greet,)  # is the relay gone? It is not
    with ScriptedServer(script, *again) as server:
        result = only(deliver(server.relay(), message(1), journal=journal))
    assert result == NoReply(phase, "connection closed", closed=True)
    begun = [("begin", 1, ())] if phase is Phase.FINAL else []
    assert journal.events == [*begun, ("reply", 1)]


@pytest.mark.parametrize(("phase", "until"), HANG_UPS[:-1], ids=[phase for phase, _ in HANG_UPS[:-1]])
def test_a_relay_that_dies_before_the_dot_costs_the_mail_no_attempt(phase: Phase, until: Callable[[Peer], Any]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        until(peer)

    with ScriptedServer(script, lambda _: None) as server, pytest.raises(ConnectFailed):
        deliver(server.relay(), message(1))


@pytest.mark.parametrize(("phase", "until"), HANG_UPS, ids=[phase for phase, _ in HANG_UPS])
def test_a_reply_that_does_not_come_is_waited_for_with_a_bound(phase: Phase, until: Callable[[Peer], Any]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        until(peer)
        assert peer.sock.recv(1) == b""  # the client hangs up, without a QUIT

    with ScriptedServer(script) as server:
        result = only(deliver(server.relay(timeout_command=0.3, timeout_final=0.3), message(1)))
    assert result == NoReply(phase, "timed out")


NONSENSE = ("hello", "25 ok", "999 what", "-50 ok")
OUT_OF_STEP = {Phase.MAIL: "354 go on", Phase.RCPT: "354 go on", Phase.DATA: "250 ok", Phase.FINAL: "354 go on"}
GARBAGE = [(phase, until, line) for phase, until in HANG_UPS for line in (*NONSENSE, OUT_OF_STEP[phase])]


@pytest.mark.parametrize(("phase", "until", "garbage"), GARBAGE, ids=[f"{phase} {line}" for phase, _, line in GARBAGE])
def test_garbage_is_no_reply_and_ends_the_connection(phase: Phase, until: Callable[[Peer], Any], garbage: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        until(peer)
        peer.say(garbage)
        assert peer.sock.recv(1) == b""

    with ScriptedServer(script) as server:
        result = only(deliver(server.relay(), message(1)))
    assert isinstance(result, NoReply)
    assert result.phase is phase
    assert "not a reply that fits" in result.reason


@pytest.mark.parametrize(("phase", "until"), HANG_UPS, ids=[phase for phase, _ in HANG_UPS])
def test_421_is_a_reply_and_ends_the_connection(phase: Phase, until: Callable[[Peer], Any]) -> None:
    def closing(peer: Peer) -> None:
        peer.greet()
        until(peer)
        peer.say("421 4.3.2 shutting down")
        assert peer.sock.recv(1) == b""

    def fresh(peer: Peer) -> None:
        peer.greet()
        peer.take()
        peer.quit()

    with ScriptedServer(closing, fresh) as server:
        first, second = deliver(server.relay(), message(1), message(2))
    assert first.results == ((10, Reply(421, "shutting down", "4.3.2", phase)),)
    assert str(second.results[0][1]) == "250 2.0.0 taken"


def test_a_connection_that_breaks_within_a_long_body_is_known_to_be_unsent() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.until_body()
        peer.sock.recv(1000)
        peer.reset_connection()

    journal = TellingJournal()
    content = b"Subject: long\r\n\r\n" + (b"x" * 74 + b"\r\n") * 400_000
    with ScriptedServer(script, Peer.greet) as server:
        result = only(deliver(server.relay(), message(1, content=content), journal=journal))
    assert isinstance(result, NoReply)
    assert result.phase is Phase.DATA
    assert journal.events == [("begin", 1, ()), ("reply", 1)]


def test_a_reply_after_its_time_is_not_taken_for_the_next_mails() -> None:
    def late(peer: Peer) -> None:
        peer.greet()
        peer.until_body()
        peer.body()
        assert peer.sock.recv(1) == b""  # the client gave up; only now does the server answer
        peer.say("250 2.0.0 too late")

    def fresh(peer: Peer) -> None:
        peer.greet()
        peer.until_body()
        peer.body()
        peer.say("554 5.7.1 not this one")
        peer.quit()

    with ScriptedServer(late, fresh) as server:
        first, second = deliver(server.relay(timeout_final=0.3), message(1), message(2))
    assert first.results == ((10, NoReply(Phase.FINAL, "timed out")),)
    assert str(second.results[0][1]) == "554 5.7.1 not this one"


def test_the_final_reply_has_a_time_of_its_own() -> None:
    def slow(peer: Peer) -> None:
        peer.greet()
        peer.until_body()
        peer.body()
        time.sleep(0.6)  # the server's thinking is what is tested
        peer.say("250 2.0.0 at last")
        peer.quit()

    with ScriptedServer(slow) as server:
        result = only(deliver(server.relay(timeout_command=0.3, timeout_final=5), message(1)))
    assert str(result) == "250 2.0.0 at last"


# -- recipients


def test_silence_leaves_the_refusals_before_it_as_they_are() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.hear("MAIL")
        peer.say("250 ok")
        for reply in ("250 ok", "550 5.1.1 gone", "451 4.7.1 later"):
            peer.hear("RCPT")
            peer.say(reply)
        peer.hear("DATA")
        peer.say("354 go on")
        peer.body()

    journal = TellingJournal()
    with ScriptedServer(script) as server:
        mail = message(1, "a@x.example", "b@x.example", "c@x.example")
        (outcome,) = deliver(server.relay(), mail, journal=journal)
    assert outcome.results == (
        (10, NoReply(Phase.FINAL, "connection closed", closed=True)),
        (11, Reply(550, "gone", "5.1.1", Phase.RCPT)),
        (12, Reply(451, "later", "4.7.1", Phase.RCPT)),
    )
    assert journal.events == [("begin", 1, (11, 12)), ("reply", 1)]


def test_421_at_a_recipient_takes_the_accepted_ones_with_it_and_leaves_the_refused() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.hear("MAIL")
        peer.say("250 ok")
        for reply in ("550 5.1.1 gone", "250 ok", "421 4.3.2 bye"):
            peer.hear("RCPT")
            peer.say(reply)
        assert peer.sock.recv(1) == b""

    with ScriptedServer(script) as server:
        mail = message(1, "a@x.example", "b@x.example", "c@x.example", "d@x.example")
        (outcome,) = deliver(server.relay(), mail)
    bye = Reply(421, "bye", "4.3.2", Phase.RCPT)
    assert outcome.results == ((10, Reply(550, "gone", "5.1.1", Phase.RCPT)), (11, bye), (12, bye), (13, bye))


def test_when_all_recipients_are_refused_there_is_no_data_and_a_reset_before_the_next_mail() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.hear("MAIL")
        peer.say("250 ok")
        for _ in range(2):
            peer.hear("RCPT")
            peer.say("550 5.1.1 gone")
        peer.hear("RSET")
        peer.say("250 ok")
        peer.take()
        peer.take()  # and no RSET after a completed one
        peer.quit()

    journal = TellingJournal()
    with ScriptedServer(script) as server:
        deliver(server.relay(), message(1, "a@x.example", "b@x.example"), message(2), message(3), journal=journal)
    assert journal.events == [("reply", 1), ("begin", 2, ()), ("reply", 2), ("begin", 3, ()), ("reply", 3)]


@pytest.mark.parametrize(
    ("mail", "data", "phase"), [("552 5.3.4 too big", None, Phase.MAIL), ("250 ok", "451 4.3.0 full", Phase.DATA)]
)
def test_a_refusal_of_mail_or_data_is_for_all_and_is_reset(mail: str, data: str | None, phase: Phase) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.hear("MAIL")
        peer.say(mail)
        if data is not None:
            for _ in range(2):
                peer.hear("RCPT")
                peer.say("250 ok")
            peer.hear("DATA")
            peer.say(data)
        peer.hear("RSET")
        peer.say("250 ok")
        peer.take()
        peer.quit()

    with ScriptedServer(script) as server:
        first, second = deliver(server.relay(), message(1, "a@x.example", "b@x.example"), message(2))
    assert {str(result) for _, result in first.results} == {data or mail}
    assert {result.phase for _, result in first.results} == {phase}
    assert str(second.results[0][1]) == "250 2.0.0 taken"


def test_a_reply_of_several_lines_is_one_reply() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.hear("MAIL")
        peer.say("250 ok")
        peer.hear("RCPT")
        peer.say("550-5.1.1 The account does not exist.", "550-5.1.1 Please check", "550 5.1.1 the spelling.")
        peer.quit()

    with ScriptedServer(script) as server:
        assert only(deliver(server.relay(max_messages_per_connection=1), message(1))) == Reply(
            550, "The account does not exist. Please check the spelling.", "5.1.1", Phase.RCPT
        )
