"""What goes over the wire: the envelope's parameters, what a server cannot take, and the body's dots."""

import pytest

from dispatcher.reply import Phase, Reply
from tests.smtpd import Peer, ScriptedServer, deliver, message


def test_a_message_over_the_servers_size_is_answered_without_asking_it() -> None:
    def script(peer: Peer) -> None:
        peer.greet("SIZE 100")
        peer.hear("MAIL FROM:<erp@example.com> SIZE=25")
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
        ((b"x" * 998 + b"\r\n") * 3000, (b"x" * 998 + b"\r\n") * 3000),
    ],
    ids=["first", "alone", "several", "after a bare LF", "no line end", "long"],
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
