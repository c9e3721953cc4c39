import pytest

from dispatcher.errors import ConfigurationError
from dispatcher.relay import Capabilities, Relay


def parse(url: str, **options: object) -> Relay:
    return Relay.parse("main", url, setting="DISPATCHER_RELAY_URL", **options)


@pytest.mark.parametrize(
    ("url", "display"),
    [
        ("smtp://mail.example.com", "mail.example.com:587 starttls"),
        ("smtp://mail.example.com:2525/", "mail.example.com:2525 starttls"),
        ("smtps://mail.example.com", "mail.example.com:465 implicit"),
        ("smtps://mail.example.com?tls=implicit", "mail.example.com:465 implicit"),
        ("smtp://mail.example.com?tls=implicit", "mail.example.com:465 implicit"),
        ("smtp://mail.example.com?tls=none", "mail.example.com:25 none"),
        ("smtp://localhost:1025", "localhost:1025 none"),
        ("smtp://127.8.9.1:1025", "127.8.9.1:1025 none"),
        ("smtp://[::1]:1025", "[::1]:1025 none"),
        ("smtp://127.0.0.1:1025?tls=starttls", "127.0.0.1:1025 starttls"),
        ("smtp://127.evil.example:1025", "127.evil.example:1025 starttls"),
        ("smtp://10.0.0.1", "10.0.0.1:587 starttls"),
    ],
)
def test_tls_is_the_default_everywhere_but_on_the_loopback(url: str, display: str) -> None:
    assert parse(url).display == display


def test_credentials_are_percent_decoded() -> None:
    relay = parse("smtp://erp%40example.com:p%2Fa%3As%23s%20%C3%A9@mail.example.com")
    assert (relay.username, relay.password) == ("erp@example.com", "p/a:s#s é")


def test_options_go_over_the_url_and_are_fields_of_the_relay() -> None:
    relay = parse("smtp://erp@mail.example.com", xoauth2_command=("token",), priority=5, timeout_final=300.0)
    assert (relay.priority, relay.timeout_final, relay.timeout_command) == (5, 300.0, 60.0)


def test_a_password_may_go_in_the_clear_only_when_that_is_asked_for() -> None:
    assert parse("smtp://u:secret@127.0.0.1?insecure_auth=1").insecure_auth
    with pytest.raises(ConfigurationError, match="in the clear"):
        parse("smtp://u:secret@127.0.0.1")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://mail.example.com", "must begin with smtp:// or smtps://"),
        ("u:hunter2@mail.example.com", "must begin with smtp:// or smtps://"),
        ("smtp://", "names no host"),
        ("smtp://:587", "names no host"),
        ("smtp://mail.example.com:hunter2", "port that is not a number"),
        ("smtp://mail.example.com:70000", "port that is not a number"),
        ("smtp://mail.example.com:0", "port that is not a number"),
        ("smtp://u:hunter2#x@mail.example.com", "write it as"),
        ("smtp://u:hunter2/x@mail.example.com", "write it as"),
        ("smtp://u:1?hunter2@mail.example.com", "write it as"),
        ("smtp://u:[hunter2@mail.example.com", "is not a URL"),
        ("smtp://u:hunter2@mail example.com", "host name with characters"),
        ("smtp://mail.example.com/inbox", "has a path"),
        ("smtp://mail.example.com?tsl=none", "unknown option 'tsl'"),
        ("smtp://mail.example.com?tls=on", "tls='on'"),
        ("smtp://mail.example.com?tls=none&tls=none", "twice"),
        ("smtp://mail.example.com?insecure_auth=maybe", "insecure_auth='maybe'"),
        ("smtps://mail.example.com?tls=none", "contradicts itself"),
        ("smtp://u@mail.example.com", "neither a password"),
        ("smtp://:hunter2@mail.example.com", "no user name"),
    ],
)
def test_a_typo_is_told_with_the_setting_and_without_the_password(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(url)
    assert str(caught.value).startswith("DISPATCHER_RELAY_URL: ")
    assert reason in str(caught.value)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_relay_prints_without_its_secrets() -> None:
    relay = parse("smtp://u:hunter2@mail.example.com", xoauth2_command=("print", "hunter2"))
    assert "hunter2" not in repr(relay) + relay.display


def test_capabilities_are_found_by_keyword() -> None:
    offered = Capabilities(("SIZE 1000", "8BITMIME", "AUTH PLAIN LOGIN"))
    assert offered.offers("SIZE")
    assert offered.offers("8BITMIME")
    assert not offered.offers("SMTPUTF8")
    assert not offered.offers("AUTH PLAIN")
