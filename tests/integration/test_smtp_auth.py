"""AUTH: no password in the clear, no secret in any error."""

import base64
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.errors import AuthFailed, ConnectFailed
from dispatcher.relay import Relay
from dispatcher.servers.sink import Sink
from tests.smtpd import Certificates, Peer, ScriptedServer, deliver, message

USER, PASSWORD = "erp@example.com", "hünter2/#?@: secret"  # of nobody
USERS = {USER: PASSWORD}


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("trusted"))


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def at(sink: Sink, **options: Any) -> Relay:
    return Relay.parse("main", sink.url, setting="url", **options)


def plain(peer: Peer) -> None:
    peer.greet("AUTH PLAIN LOGIN")


@pytest.mark.parametrize(
    ("mechanisms", "chosen"), [("PLAIN LOGIN", "PLAIN"), ("LOGIN", "LOGIN"), ("CRAM-MD5 LOGIN plain", "PLAIN")]
)
def test_the_password_is_sent_as_the_server_wants_it(trusted: Certificates, mechanisms: str, chosen: str) -> None:
    def script(peer: Peer) -> None:
        peer.greet("STARTTLS")
        peer.secure(trusted.context)
        peer.hello(f"AUTH {mechanisms}")
        if chosen == "PLAIN":
            assert peer.hear("AUTH PLAIN ") == "AUTH PLAIN " + base64_of(f"\0{USER}\0{PASSWORD}")
        else:
            peer.hear("AUTH LOGIN")
            for challenge, answer in (("Username:", USER), ("Password:", PASSWORD)):
                peer.say("334 " + base64_of(challenge))
                assert peer.hear() == base64_of(answer)
        peer.say("235 2.7.0 welcome")
        peer.quit()

    with ScriptedServer(script) as server:
        relay = server.relay(tls="starttls", ca_file=trusted.ca_file, username=USER, password=PASSWORD)
        found = SmtpTransport(relay).check()
    assert (found.auth, found.extensions) == (chosen, (f"AUTH {mechanisms}",))


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
def test_a_real_server_lets_us_in_and_takes_the_mail(trusted: Certificates, implicit: bool) -> None:
    with Sink(tls=trusted.context, implicit=implicit, users=USERS) as sink:
        deliver(at(sink, ca_file=trusted.ca_file, username=USER, password=PASSWORD), message(1))
        assert len(sink.received()) == 1


def secrets_of(relay: Relay) -> Iterator[str]:
    secret = relay.password or ""
    yield from (secret, base64_of(secret), base64_of(f"\0{USER}\0{secret}"))
    yield from re.findall(r"\w{5,}", secret)


def test_a_wrong_password_is_told_in_the_servers_words_without_the_password(trusted: Certificates) -> None:
    with Sink(tls=trusted.context, users=USERS) as sink:
        relay = at(sink, ca_file=trusted.ca_file, username=USER, password="hunter2")
        with pytest.raises(AuthFailed, match=r"535 5\.7\.8") as caught:
            deliver(relay, message(1))
        told = str(caught.value) + repr(caught.value) + repr(relay) + repr(SmtpTransport(relay))
        assert not any(secret in told for secret in secrets_of(relay))
        assert sink.received() == []


@pytest.mark.parametrize("padding", [0, 940], ids=["whole", "cut off in the middle"])
def test_a_server_that_repeats_our_secrets_does_not_get_them_into_the_error(padding: int) -> None:
    password = "correct horse battery staple"

    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN")
        line = peer.hear("AUTH")
        peer.say("535-5.7.8 " + "x" * padding, f"535-5.7.8 {line}", f"535 5.7.8 {base64_of(password)} or <{password}>")

    with ScriptedServer(script) as server:
        relay = server.relay(username=USER, password=password, insecure_auth=True)
        with pytest.raises(AuthFailed) as caught:
            deliver(relay, message(1))
    told = repr(caught.value)
    for secret in (password, *password.split(), base64_of(password)[:12], base64_of(f"\0{USER}\0{password}")[:12]):
        assert secret not in told


def test_no_password_is_sent_in_the_clear() -> None:
    def script(peer: Peer) -> None:
        plain(peer)
        assert peer.sock.recv(1) == b""

    with ScriptedServer(script) as server, pytest.raises(AuthFailed, match="without TLS"):
        deliver(server.relay(username=USER, password=PASSWORD), message(1))


def test_a_password_is_sent_in_the_clear_only_where_that_is_allowed() -> None:
    with Sink(users=USERS) as sink:
        deliver(at(sink, username=USER, password=PASSWORD, insecure_auth=True), message(1))
        assert len(sink.received()) == 1


@pytest.mark.parametrize("offer", [(), ("AUTH GSSAPI",)], ids=["no AUTH", "another"])
def test_without_a_mechanism_in_common_both_sides_are_named(offer: tuple[str, ...]) -> None:
    with (
        ScriptedServer(lambda peer: peer.greet(*offer)) as server,
        pytest.raises(AuthFailed, match=f"offers {'AUTH GSSAPI' if offer else 'no AUTH'}; needed is AUTH PLAIN"),
    ):
        deliver(server.relay(username=USER, password=PASSWORD, insecure_auth=True), message(1))


def test_a_server_that_hangs_up_on_auth_is_not_taken_for_a_wrong_password() -> None:
    def script(peer: Peer) -> None:
        plain(peer)
        peer.hear("AUTH")

    with ScriptedServer(script) as server, pytest.raises(ConnectFailed, match="AUTH PLAIN: connection closed"):
        deliver(server.relay(username=USER, password=PASSWORD, insecure_auth=True), message(1))


def bearer(tmp_path: Path, **options: Any) -> dict[str, Any]:
    """A relay's options with a command that prints a token and a line end."""
    command = tmp_path / "token.py"
    command.write_text("print('ya29.bearer-token')\n")
    given = {"username": USER, "xoauth2_command": (sys.executable, str(command)), "insecure_auth": True}
    return given | options


def test_xoauth2_sends_the_token_that_the_command_prints(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH PLAIN XOAUTH2")
        expected = base64_of(f"user={USER}\1auth=Bearer ya29.bearer-token\1\1")
        assert peer.hear("AUTH XOAUTH2 ") == f"AUTH XOAUTH2 {expected}"
        peer.say("235 2.7.0 accepted")
        peer.take()
        peer.quit()

    with ScriptedServer(script) as server:
        deliver(server.relay(**bearer(tmp_path)), message(1))


def test_a_refused_token_is_told_by_the_code_behind_the_challenge(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.greet("AUTH XOAUTH2")
        peer.hear("AUTH XOAUTH2")
        peer.say("334 " + base64_of('{"status":"400","schemes":"Bearer"}'))
        assert peer.hear() == ""
        peer.say("535-5.7.8 Username and Password not accepted.", "535 5.7.8 ya29.bearer-token")

    with (
        ScriptedServer(script) as server,
        pytest.raises(AuthFailed, match=r"535 5\.7\.8 Username and Password") as caught,
    ):
        deliver(server.relay(**bearer(tmp_path)), message(1))
    assert "ya29" not in repr(caught.value)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/nowhere/ya29-token",), "the xoauth2 command could not be run"),
        ((sys.executable, "-c", "import sys; print('ya29'); sys.exit('ya29')"), "ended with status 1"),
        ((sys.executable, "-c", "import time; time.sleep(60) # ya29"), "timed out"),
    ],
    ids=["missing", "failing", "hanging"],
)
def test_a_command_without_a_token_is_told_without_what_it_said(
    tmp_path: Path, command: tuple[str, ...], reason: str
) -> None:
    with (
        ScriptedServer(lambda peer: peer.greet("AUTH XOAUTH2")) as server,
        pytest.raises(AuthFailed, match=reason) as caught,
    ):
        deliver(server.relay(**bearer(tmp_path, xoauth2_command=command, timeout_command=1.0)), message(1))
    assert "ya29" not in repr(caught.value)
    assert caught.value.__cause__ is None
