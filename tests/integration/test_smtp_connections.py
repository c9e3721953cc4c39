"""Kept connections: what their end costs, what they carry; and 500 mails on one to Postfix's own sink."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.errors import ConnectFailed, TransportError
from dispatcher.mail import Message
from dispatcher.memory import MemoryJournal
from dispatcher.relay import Relay
from dispatcher.reply import NoReply, Phase
from tests.servers import free_port, require, wait_until
from tests.smtpd import HOST, Peer, ScriptedServer, TellingJournal, deliver, message


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
        started = time.monotonic()
        _, second = deliver(server.relay(timeout_command=0.3, timeout_final=60), message(1), message(2))
        assert time.monotonic() - started < 5  # the final reply's long wait is over with the mail before
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


@pytest.fixture
def smtp_sink(tmp_path: Path) -> Iterator[Relay]:
    program, port = require("smtp-sink", "/usr/sbin", "/usr/local/sbin"), free_port()
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    process = subprocess.Popen([program, *user, f"{HOST}:{port}", "100"], stdout=subprocess.DEVNULL, cwd=tmp_path)

    def listens() -> bool:
        assert process.poll() is None, "smtp-sink ended at once"
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    try:
        wait_until(listens, "smtp-sink listens")
        yield Relay(name="postfix", host=HOST, port=port, tls="none", max_messages_per_connection=1000)
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.server
def test_postfixs_sink_takes_500_messages_on_one_kept_connection(smtp_sink: Relay) -> None:
    transport = SmtpTransport(smtp_sink, size=1)
    mails = (message(n, f"u{n}@x.example", content=b"Subject: hi\r\n\r\n" + b"." * 70 + b"\r\n") for n in range(500))
    outcomes = list(transport.send(mails, MemoryJournal()))
    assert [o.message for o in outcomes] == list(range(500))
    assert {str(result)[:3] for o in outcomes for _, result in o.results} == {"250"}
    (session,) = (idle.session for idle in transport.pool._idle)
    assert session.transactions == 500
    transport.close()
    with pytest.raises(TransportError, match="closed"):
        next(transport.send([message(1)], MemoryJournal()))
