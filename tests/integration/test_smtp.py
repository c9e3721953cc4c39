"""The SMTP transport against servers that misbehave, line by line, and against Postfix's own sink."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.journal import MemoryJournal
from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.errors import ConnectFailed, TransportError
from dispatcher.mail import Message
from dispatcher.relay import Relay
from dispatcher.reply import NoReply, Outcome, Phase, Reply, Result
from tests.smtpd import HOST, Peer, ScriptedServer, TellingJournal, message


def deliver(relay: Relay, *messages: Message, journal: TellingJournal | None = None) -> list[Outcome]:
    transport = SmtpTransport(relay)
    try:
        return list(transport.send(messages, journal or TellingJournal()))
    finally:
        transport.close()


def only(outcomes: list[Outcome]) -> Result:
    """The one result of one message to one recipient."""
    (outcome,) = outcomes
    ((_, result),) = outcome.results
    return result


# -- before anything is taken


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (lambda peer: peer.say("421 4.3.2 too busy"), "421 4.3.2 too busy"),
        (lambda peer: peer.say("554 5.7.1 you are listed"), "554 5.7.1 you are listed"),
        (lambda peer: peer.say("SSH-2.0-OpenSSH_9.2"), "not a reply that fits"),
        (lambda peer: peer.close(), "connect"),
        (lambda peer: (peer.say("220 hello"), peer.hear("EHLO"), peer.say("421 4.3.2 bye")), "421 4.3.2 bye"),
        (lambda peer: (peer.say("220 hello"), peer.hear("EHLO"), peer.close()), "ehlo"),
        (lambda peer: peer.say("220-" + "x" * 9000), "a reply line without end"),
    ],
    ids=["421", "554", "not SMTP", "hung up", "421 at EHLO", "hung up at EHLO", "endless line"],
)
def test_trouble_before_the_first_mail_is_the_relays(script: Callable[[Peer], Any], words: str) -> None:
    journal = TellingJournal()
    with ScriptedServer(script) as server, pytest.raises(ConnectFailed, match=re.escape(words)) as caught:
        deliver(server.relay(), message(1), journal=journal)
    assert f"{HOST}:{server.port}" in str(caught.value)
    assert journal.events == []


def test_a_greeting_that_does_not_come_is_waited_for_with_a_bound() -> None:
    def silent(peer: Peer) -> None:
        assert peer.sock.recv(1) == b""

    with ScriptedServer(silent) as server, pytest.raises(ConnectFailed, match="timed out at connect"):
        deliver(server.relay(timeout_command=0.2), message(1))


def test_a_server_without_ehlo_is_greeted_with_helo() -> None:
    def old(peer: Peer) -> None:
        peer.say("220 old")
        peer.hear("EHLO")
        peer.say("502 what?")
        peer.hear("HELO [127.0.0.1]" if "." not in socket.gethostname() else "HELO " + socket.gethostname())
        peer.say("250 old")
        peer.hear("MAIL FROM:<erp@example.com>")
        assert "SIZE" not in peer.heard[-1]
        peer.say("250 ok")
        peer.hear("RCPT")
        peer.say("250 ok")
        peer.hear("DATA")
        peer.say("354 ok")
        peer.body()
        peer.say("250 ok")
        peer.quit()

    with ScriptedServer(old) as server:
        assert str(only(deliver(server.relay(), message(1)))) == "250 ok"


def test_the_name_that_we_greet_with_can_be_set() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.take()
        peer.quit()

    with ScriptedServer(script) as server:
        deliver(server.relay(ehlo="erp.example.com"), message(1))
    assert server.heard[0][0] == "ehlo erp.example.com"


# -- one phase after another

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
    with ScriptedServer(script) as server:
        result = only(deliver(server.relay(), message(1), journal=journal))
    assert result == NoReply(phase, "connection closed")
    begun = [("begin", 1, ())] if phase is Phase.FINAL else []
    assert journal.events == [*begun, ("reply", 1)]


@pytest.mark.parametrize(("phase", "until"), HANG_UPS, ids=[phase for phase, _ in HANG_UPS])
def test_a_reply_that_does_not_come_is_waited_for_with_a_bound(phase: Phase, until: Callable[[Peer], Any]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        until(peer)
        assert peer.sock.recv(1) == b""  # the client hangs up, without a QUIT

    with ScriptedServer(script) as server:
        result = only(deliver(server.relay(timeout_command=0.3, timeout_final=0.3), message(1)))
    assert result == NoReply(phase, "timed out")


@pytest.mark.parametrize("garbage", ["hello", "25 ok", "999 what", "354 go on", "200", "-50 ok"])
@pytest.mark.parametrize(("phase", "until"), HANG_UPS, ids=[phase for phase, _ in HANG_UPS])
def test_garbage_is_no_reply_and_ends_the_connection(phase: Phase, until: Callable[[Peer], Any], garbage: str) -> None:
    if phase is Phase.DATA and garbage == "354 go on":
        pytest.skip("is right there")
    if phase is not Phase.DATA and garbage == "200":
        pytest.skip("is a 2yz there, if an odd one")

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
    with ScriptedServer(script) as server:
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
        (10, NoReply(Phase.FINAL, "connection closed")),
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


# -- what the server cannot take


def test_a_message_over_the_servers_size_is_answered_without_asking_it() -> None:
    def script(peer: Peer) -> None:
        peer.greet("SIZE 100")
        peer.hear("MAIL FROM:<erp@example.com> SIZE=24")
        peer.say("250 ok")
        peer.hear("RCPT")
        peer.say("250 ok")
        peer.hear("DATA")
        peer.say("354 ok")
        peer.body()
        peer.say("250 ok")
        peer.quit()

    with ScriptedServer(script) as server:
        large = message(1, content=b"Subject: large\r\n\r\n" + b"x" * 100 + b"\r\n")
        first, second = deliver(server.relay(), large, message(2))
    reply = first.results[0][1]
    assert isinstance(reply, Reply)
    assert (reply.code, reply.enhanced, reply.phase) == (552, "5.3.4", Phase.MAIL)
    assert isinstance(second.results[0][1], Reply)


def test_an_address_that_needs_smtputf8_is_sent_with_it_where_the_server_has_it() -> None:
    def script(peer: Peer) -> None:
        peer.greet("8BITMIME", "SMTPUTF8")
        peer.hear("MAIL FROM:<erp@example.com> BODY=8BITMIME SMTPUTF8")
        peer.say("250 ok")
        peer.hear("RCPT TO:<jörg@example.com>")
        peer.say("250 ok")
        peer.hear("DATA")
        peer.say("354 ok")
        assert peer.body() == "To: jörg@example.com\r\n\r\n".encode()
        peer.say("250 ok")
        peer.take()
        peer.quit()

    with ScriptedServer(script) as server:
        mail = message(1, "jörg@example.com", content="To: jörg@example.com\r\n\r\n".encode(), utf8=True)
        deliver(server.relay(), mail, message(2))
    assert "MAIL FROM:<erp@example.com>" in server.heard[0]  # not for the mail that needs none


def test_an_address_that_needs_smtputf8_is_refused_for_a_server_without_it() -> None:
    def script(peer: Peer) -> None:
        peer.greet("8BITMIME")
        peer.take()
        peer.quit()

    with ScriptedServer(script) as server:
        first, second = deliver(server.relay(), message(1, "jörg@example.com", utf8=True), message(2))
    assert str(first.results[0][1]).startswith("550 5.6.7 ")
    assert str(second.results[0][1]) == "250 2.0.0 taken"


def test_a_line_break_in_an_address_never_reaches_the_wire() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.take()
        peer.quit()

    with ScriptedServer(script) as server:
        evil = message(1, "a@x.example>\r\nRCPT TO:<b@x.example")
        first, second = deliver(server.relay(), evil, message(2))
    assert str(first.results[0][1]).startswith("553 5.1.3 ")
    assert str(second.results[0][1]) == "250 2.0.0 taken"


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b".first\r\n", b"..first\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n"),
        (b"a\r\n..b\r\n...\r\n", b"a\r\n...b\r\n....\r\n"),
        (b"a\n.\nb\r\n", b"a\n..\nb\r\n"),
        (b"no end", b"no end\r\n"),
        (b"", b""),
        ((b"x" * 998 + b"\r\n") * 3000, (b"x" * 998 + b"\r\n") * 3000),
    ],
    ids=["first", "alone", "several", "after a bare LF", "no line end", "empty", "long"],
)
def test_dots_are_stuffed_on_the_wire(content: bytes, wire: bytes) -> None:
    bodies: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet()
        bodies.append(peer.take())
        peer.quit()

    with ScriptedServer(script) as server:
        deliver(server.relay(), message(1, content=content))
    assert bodies == [wire]


# -- kept connections


def first_one_then(end: Callable[[Peer], Any]) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.take()
        end(peer)

    return script


def take_and_quit(peer: Peer) -> None:
    peer.greet()
    peer.take()
    peer.quit()


@pytest.mark.parametrize(
    "end",
    [
        lambda peer: peer.close(),
        lambda peer: peer.say("421 4.4.2 idle for too long"),
        lambda peer: peer.hear("MAIL"),
        lambda peer: (peer.hear("MAIL"), peer.say("421 4.7.0 enough for this connection")),
        lambda peer: (peer.hear("MAIL"), peer.reset_connection()),
    ],
    ids=["closed", "421 on its own", "closed at MAIL", "421 at MAIL", "reset at MAIL"],
)
def test_a_used_connection_that_ends_before_the_next_mail_costs_it_nothing(end: Callable[[Peer], Any]) -> None:
    journal = TellingJournal()
    with ScriptedServer(first_one_then(end), take_and_quit) as server:
        outcomes = deliver(server.relay(), message(1), message(2), journal=journal)
    assert [str(outcome.results[0][1]) for outcome in outcomes] == ["250 2.0.0 taken"] * 2
    assert server.connections == 2
    assert journal.events == [("begin", 1, ()), ("reply", 1), ("begin", 2, ()), ("reply", 2)]


def test_when_the_fresh_connection_fails_too_the_message_is_unsent() -> None:
    journal = TellingJournal()
    gone = first_one_then(lambda peer: peer.close())
    with ScriptedServer(gone, lambda peer: peer.say("421 4.3.2 no more")) as server:
        transport = SmtpTransport(server.relay())
        outcomes = transport.send([message(1), message(2), message(3)], journal)
        assert next(outcomes).message == 1
        with pytest.raises(ConnectFailed, match="no more"):
            next(outcomes)
        assert "idle=0 busy=0" in repr(transport)
        transport.close()
    assert journal.events == [("begin", 1, ()), ("reply", 1)]


def test_a_used_connection_that_goes_silent_at_mail_is_not_tried_twice() -> None:
    def silent(peer: Peer) -> None:
        peer.hear("MAIL")
        assert peer.sock.recv(1) == b""

    with ScriptedServer(first_one_then(silent)) as server:
        _, second = deliver(server.relay(timeout_command=0.3), message(1), message(2))
    assert second.results == ((20, NoReply(Phase.MAIL, "timed out")),)


def test_a_connection_is_kept_between_calls_and_asked_by_rset_whether_it_lives() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.take()
        for _ in range(2):
            peer.hear("RSET")
            peer.say("250 ok")
            peer.take()
        peer.quit()

    with ScriptedServer(script) as server:
        transport = SmtpTransport(server.relay())
        for number in range(3):
            (outcome,) = transport.send([message(number)], MemoryJournal())
            assert str(outcome.results[0][1]) == "250 2.0.0 taken"
        assert "<Pool relay=scripted idle=1 busy=0 max=4>" in repr(transport)
        transport.close()


@pytest.mark.parametrize("answer", ["421 4.4.2 bye", "502 what?", "nonsense"])
def test_a_kept_connection_that_does_not_take_rset_is_replaced(answer: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.take()
        peer.hear("RSET")
        peer.say(answer)

    with ScriptedServer(script, take_and_quit) as server:
        transport = SmtpTransport(server.relay())
        for number in range(2):
            (outcome,) = transport.send([message(number)], MemoryJournal())
            assert str(outcome.results[0][1]) == "250 2.0.0 taken"
        transport.close()


def test_a_connection_carries_no_more_messages_than_its_cap() -> None:
    def two(peer: Peer) -> None:
        peer.greet()
        peer.take()
        peer.take()
        peer.quit()

    with ScriptedServer(two, two, take_and_quit) as server:
        outcomes = deliver(server.relay(max_messages_per_connection=2), *(message(n) for n in range(5)))
    assert len(outcomes) == 5
    assert server.connections == 3


def test_a_message_that_the_journal_cannot_begin_does_not_go_out() -> None:
    class Full(TellingJournal):
        def begin(self, message: Message, refused: Any) -> None:
            raise OSError(28, "No space left on device")

    def script(peer: Peer) -> None:
        peer.greet()
        peer.until_body()
        assert peer.sock.recv(1) == b""

    with ScriptedServer(script) as server, pytest.raises(OSError, match="No space left"):
        deliver(server.relay(), message(1), journal=Full())


def test_closing_waits_for_no_server_for_long() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.take()
        peer.hear("QUIT")
        assert peer.sock.recv(1) == b""

    with ScriptedServer(script) as server:
        started = time.monotonic()
        deliver(server.relay(timeout_command=60, timeout_final=60), message(1))
        assert time.monotonic() - started < 10


# -- Postfix's smtp-sink

SMTP_SINK = shutil.which("smtp-sink", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


@pytest.fixture
def smtp_sink(tmp_path: Path) -> Iterator[Relay]:
    if SMTP_SINK is None:
        if os.environ.get("DISPATCHER_TEST_REQUIRE") == "all":
            pytest.fail("smtp-sink (Debian package postfix) is required and not installed")
        pytest.skip("smtp-sink (Debian package postfix) is not installed")
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    process = subprocess.Popen(
        [SMTP_SINK, *user, f"{HOST}:{port}", "100"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=tmp_path
    )
    try:
        await_port(port, process)
        yield Relay(name="postfix", host=HOST, port=port, tls="none", max_messages_per_connection=1000)
    finally:
        process.terminate()
        process.communicate(timeout=10)


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((HOST, port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    process.kill()
    pytest.fail(f"smtp-sink did not listen: {process.communicate()[1].decode()}")


@pytest.mark.server
def test_postfixs_sink_takes_500_messages_on_one_kept_connection(smtp_sink: Relay) -> None:
    transport = SmtpTransport(smtp_sink, size=1)
    mails = (message(n, f"u{n}@x.example", content=b"Subject: hi\r\n\r\n" + b"." * 70 + b"\r\n") for n in range(500))
    outcomes = list(transport.send(mails, MemoryJournal()))
    assert [o.message for o in outcomes] == list(range(500))
    assert {str(result)[:3] for o in outcomes for _, result in o.results} == {"250"}
    (session,) = (idle.session for idle in transport._pool._idle)
    assert session.transactions == 500
    transport.close()
    with pytest.raises(TransportError, match="closed"):
        next(transport.send([message(1)], MemoryJournal()))
