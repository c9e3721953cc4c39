"""Trouble before the first mail is the relay's: nothing is begun and nothing bounces."""

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.errors import ConnectFailed
from tests.smtpd import HOST, Peer, ScriptedServer, TellingJournal, deliver, message, only


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
