"""TLS: required and verified by default, from the first byte or by STARTTLS."""

import re
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.errors import TlsFailed
from dispatcher.relay import Relay
from dispatcher.servers.sink import Sink
from tests.smtpd import HOST, Certificates, Peer, ScriptedServer, deliver, message


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("trusted"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("stranger"))


def at(sink: Sink, **options: Any) -> Relay:
    return Relay.parse("main", sink.url, setting="url", **options)


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
def test_mail_goes_under_verified_tls(trusted: Certificates, implicit: bool) -> None:
    with Sink(tls=trusted.context, implicit=implicit) as sink:
        relay = at(sink, ca_file=trusted.ca_file)
        deliver(relay, message(1), message(2))
        assert len(sink.received()) == 2
        assert str(SmtpTransport(relay).check().tls).startswith("TLSv1.")


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
def test_a_certificate_of_a_stranger_does_not_hold(
    trusted: Certificates, stranger: Certificates, implicit: bool
) -> None:
    with Sink(tls=stranger.context, implicit=implicit) as sink:
        for ca_file in (trusted.ca_file, None):
            with pytest.raises(TlsFailed, match="the certificate does not hold") as caught:
                deliver(at(sink, ca_file=ca_file), message(1))
            assert f"{HOST}:{sink.port}" in str(caught.value)
        assert sink.received() == []


def test_a_certificate_for_another_name_does_not_hold(tmp_path: Path) -> None:
    other = Certificates.make(tmp_path, "mail.example.com")
    with Sink(tls=other.context) as sink, pytest.raises(TlsFailed, match="IP address mismatch"):
        deliver(at(sink, ca_file=other.ca_file), message(1))


def test_a_server_without_starttls_gets_no_mail() -> None:
    with (
        ScriptedServer(lambda peer: peer.greet("AUTH PLAIN")) as server,
        pytest.raises(TlsFailed, match="offers no STARTTLS"),
    ):
        deliver(server.relay(tls="starttls"), message(1))


def test_a_refused_starttls_is_told_in_the_servers_words() -> None:
    def script(peer: Peer) -> None:
        peer.greet("STARTTLS")
        peer.hear("STARTTLS")
        peer.say("454 4.7.0 TLS not available due to local problem")

    with ScriptedServer(script) as server, pytest.raises(TlsFailed, match=re.escape("454 4.7.0 TLS not available")):
        deliver(server.relay(tls="starttls"), message(1))


def test_tls_spoken_to_a_server_that_does_not_fails() -> None:
    with ScriptedServer(lambda peer: peer.say("220 plain")) as server, pytest.raises(TlsFailed):
        deliver(server.relay(tls="implicit"), message(1))


def test_a_server_that_hangs_in_the_handshake_is_left_in_time() -> None:
    def script(peer: Peer) -> None:
        while peer.sock.recv(4096):
            pass

    with ScriptedServer(script) as server, pytest.raises(TlsFailed, match="timed out"):
        deliver(server.relay(tls="implicit", timeout_connect=0.3), message(1))


def test_a_missing_ca_file_is_named() -> None:
    with (
        ScriptedServer(lambda peer: peer.sock.recv(1)) as server,
        pytest.raises(TlsFailed, match=r"ca_file /nowhere/ca\.pem: No such file"),
    ):
        deliver(server.relay(tls="implicit", ca_file="/nowhere/ca.pem"), message(1))


def test_words_put_in_before_the_handshake_are_not_taken_for_the_servers(trusted: Certificates) -> None:
    def script(peer: Peer) -> None:
        peer.greet("STARTTLS")
        peer.hear("STARTTLS")
        # An attacker's EHLO reply in the clear, after the server's consent: it must not survive the handshake.
        peer.say("220 go", "250-evil", "250 AUTH PLAIN")
        peer.sock = trusted.context.wrap_socket(peer.sock, server_side=True)
        peer._lines.close()
        peer._lines = peer.sock.makefile("rb")
        peer.hello("SIZE 1000")
        peer.take()
        peer.quit()

    with ScriptedServer(script) as server:
        (outcome,) = deliver(server.relay(tls="starttls", ca_file=trusted.ca_file), message(1))
    assert str(outcome.results[0][1]) == "250 2.0.0 taken"
