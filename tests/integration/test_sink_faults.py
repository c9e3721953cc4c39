"""Every fault of the sink, seen from the client's end: by a plain socket, and by our own transport."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from dispatcher.errors import AuthFailed, ConnectFailed, TlsFailed
from dispatcher.relay import Relay
from dispatcher.reply import NoReply, Phase, Reply
from dispatcher.servers import connection
from dispatcher.servers.rule import Play
from dispatcher.servers.sink import Rule, Script, Sink
from tests.smtpd import HOST, Certificates, deliver, message, only
from tests.waiting import wait_for

MAIL = ["MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>", "DATA", "Message-ID: <1@x.example>\r\n\r\nhello\r\n."]
LINES: dict[Phase, list[str]] = {
    Phase.CONNECT: [],
    Phase.EHLO: ["EHLO test"],
    Phase.TLS: ["EHLO test", "STARTTLS"],
    Phase.AUTH: ["EHLO test", "AUTH PLAIN AHUAcA=="],
    Phase.MAIL: ["EHLO test", *MAIL[:1]],
    Phase.RCPT: ["EHLO test", *MAIL[:2]],
    Phase.DATA: ["EHLO test", *MAIL[:3]],
    Phase.FINAL: ["EHLO test", *MAIL],
}
USUAL = {
    Phase.CONNECT: "220 ",
    Phase.EHLO: "250-",
    Phase.AUTH: "535 ",  # the sink knows no users
    Phase.DATA: "354 ",
}
everywhere = pytest.mark.parametrize("phase", list(Phase))
SMALL_BODY = 5000


class Client:
    """A client that says lines and hears replies; one that never comes is an empty one."""

    def __init__(self, sink: Sink) -> None:
        self.sock = socket.create_connection((HOST, sink.port), 10)
        self._lines = self.sock.makefile("rb")

    def hear(self) -> str:
        reply = b""
        with contextlib.suppress(ConnectionError):  # an end is an end, by FIN or by RST
            while line := self._lines.readline():
                reply += line
                if line[3:4] != b"-":
                    break
        return reply.decode()

    def say(self, line: str) -> None:
        self.sock.sendall(line.encode() + b"\r\n")

    def ask(self, *lines: str) -> list[str]:
        """What each line is answered, after the greeting; as far as it comes."""
        replies = []
        for line in lines:
            self.say(line)
            replies.append(self.hear())
            if not replies[-1]:
                break
        return replies

    def codes(self, *lines: str) -> list[str]:
        return [reply[:3] for reply in self.ask(*lines)]

    def silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing comes for so long, not even an end."""
        self.sock.settimeout(seconds)
        try:
            self.sock.recv(1)
        except TimeoutError:
            return True
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self.sock.close()


def greeted(sink: Sink) -> Client:
    client = Client(sink)
    assert client.hear().startswith("220 ")
    assert client.codes("EHLO test") == ["250"]
    return client


def last_reply(client: Client, phase: Phase) -> str:
    """What the step is answered; those before it went as usual."""
    greeting, lines = client.hear(), LINES[phase]
    if not lines:
        return greeting
    assert greeting.startswith("220 ")
    replies = client.ask(*lines)
    assert len(replies) == len(lines)
    assert all(reply[0] in "23" for reply in replies[:-1])
    return replies[-1]


# -- at every step


@everywhere
def test_the_connection_is_dropped(phase: Phase) -> None:
    with Sink(rules=[Rule(phase=phase, drop=True)]) as sink, Client(sink) as client:
        assert last_reply(client, phase) == ""
        assert sink.struck == (1,)
        assert sink.received() == []


@everywhere
def test_garbage_is_answered_and_the_connection_goes_on(phase: Phase) -> None:
    with Sink(rules=[Rule(phase=phase, reply="x9 what\ud7ff")]) as sink, Client(sink) as client:
        assert last_reply(client, phase) == "x9 what\ud7ff\r\n"
        assert client.codes("NOOP") == ["250"]
        assert sink.received() == []


@everywhere
def test_421_is_said_and_ends_the_connection(phase: Phase) -> None:
    with Sink(rules=[Rule(phase=phase, reply="421 4.3.2 going down")]) as sink, Client(sink) as client:
        assert last_reply(client, phase) == "421 4.3.2 going down\r\n"
        assert client.hear() == ""
        assert sink.received() == []


@everywhere
def test_a_reply_may_be_the_last_one(phase: Phase) -> None:
    with Sink(rules=[Rule(phase=phase, reply="450-no\n450 really not", drop=True)]) as sink, Client(sink) as client:
        assert last_reply(client, phase) == "450-no\r\n450 really not\r\n"
        assert client.hear() == ""


@everywhere
def test_a_step_is_held_and_then_goes_as_usual(phase: Phase) -> None:
    with Sink(rules=[Rule(phase=phase, hold=0.2)], users={"u": "x"} if phase is Phase.AUTH else None) as sink:
        started = time.monotonic()
        with Client(sink) as client:
            assert last_reply(client, phase).startswith(USUAL.get(phase, "250 " if phase is not Phase.TLS else "454 "))
        assert time.monotonic() - started >= 0.2
        assert len(sink.received()) == (phase is Phase.FINAL)


@everywhere
def test_a_reply_drips_and_is_whole(phase: Phase) -> None:
    with Sink(rules=[Rule(phase=phase, drip=0.003)], users={"u": "x"} if phase is Phase.AUTH else None) as sink:
        with Client(sink) as client:
            started = time.monotonic()
            reply = last_reply(client, phase)
            assert time.monotonic() - started >= 0.003 * len(reply)
            assert reply.startswith(USUAL.get(phase, "250 " if phase is not Phase.TLS else "454 "))
            if phase is not Phase.DATA:
                assert client.codes("NOOP") == ["250"]
        assert sink.struck == (1,)


def test_bytes_come_one_by_one() -> None:
    with Sink(rules=[Rule(phase=Phase.CONNECT, reply="220 slow", drip=0.05)]) as sink, Client(sink) as client:
        pieces = []
        while b"".join(pieces) != b"220 slow\r\n":
            pieces.append(client.sock.recv(100))
        assert len(pieces) >= 5  # a busy machine may see two at once


def test_a_client_that_leaves_before_it_is_greeted_is_let_go() -> None:
    with Sink(rules=[Rule(phase=Phase.CONNECT, hold=30)]) as sink:
        with Client(sink):
            wait_for(lambda: len(sink._connections) == 1)
        wait_for(lambda: not sink._connections)


def test_a_hold_is_not_the_clients_silence() -> None:
    with Sink(rules=[Rule(phase=Phase.EHLO, hold=3600)]) as sink, Client(sink) as client:
        client.hear()
        client.say("EHLO test")
        (held,) = sink._connections
        wait_for(lambda: held._timeout_handle.when() - time.monotonic() > 3500)  # when it would be hung up on


# -- after the dot


def test_a_mail_is_taken_and_the_connection_dies_before_the_250() -> None:
    rule = Rule("lost@*", phase=Phase.FINAL, accept=True, drop=True, times=1)
    with Sink(rules=[rule]) as sink:
        lines = [MAIL[0], "RCPT TO:<b@x.example>", "RCPT TO:<lost@x.example>", *MAIL[2:]]
        with greeted(sink) as client:
            assert client.codes(*lines) == ["250", "250", "250", "354", ""]
        (received,) = sink.received()
        assert received.rcpt_to == ("b@x.example", "lost@x.example")
        with greeted(sink) as client:  # once was enough
            assert client.codes(*lines)[-1] == "250"


def test_a_mail_is_taken_long_before_it_is_answered() -> None:
    with Sink(rules=[Rule(phase=Phase.FINAL, accept=True, hold=30)]) as sink, greeted(sink) as client:
        client.ask(*MAIL[:3])
        client.say(MAIL[3])
        wait_for(lambda: sink.recording.count == 1)
        assert client.silent()


def test_a_late_250_comes() -> None:
    with Sink(rules=[Rule(phase=Phase.FINAL, accept=True, hold=0.3)]) as sink, greeted(sink) as client:
        assert client.codes(*MAIL)[-1] == "250"
        assert len(sink.received()) == 1


def test_a_held_mail_whose_client_leaves_is_not_taken() -> None:
    with Sink(rules=[Rule(phase=Phase.FINAL, hold=30)]) as sink:
        with greeted(sink) as client:
            client.ask(*MAIL[:3])
            client.say(MAIL[3])
            wait_for(lambda: sink.struck == (1,))
            assert client.silent()
        wait_for(lambda: not sink._connections)
        assert sink.received() == []


def test_it_can_take_a_mail_and_deny_it_or_lose_it_and_say_250() -> None:
    rules = [
        Rule("deny@*", "451 4.3.0 no", Phase.FINAL, accept=True),
        Rule("lose@*", "250 2.0.0 Ok", Phase.FINAL),
    ]
    with Sink(rules=rules) as sink, greeted(sink) as client:
        assert client.codes(MAIL[0], "RCPT TO:<deny@x.example>", *MAIL[2:])[-1] == "451"
        assert client.codes(MAIL[0], "RCPT TO:<lose@x.example>", *MAIL[2:])[-1] == "250"
        assert list(sink.mailboxes()) == ["deny@x.example"]


# -- within the body


def send_body(client: Client, size: int) -> str:
    """What a body of so many bytes is answered, its dot and all."""
    assert client.codes(*MAIL[:3]) == ["250", "250", "354"]
    with contextlib.suppress(ConnectionError):  # it may end while it is sent
        client.say(("x" * 70 + "\r\n") * (size // 72) + ".")
    return client.hear()


def test_the_connection_dies_within_a_body() -> None:
    with Sink(rules=[Rule(phase=Phase.DATA, body_bytes=2000, drop=True)]) as sink:
        with greeted(sink) as client:
            assert send_body(client, 1000)[:3] == "250"  # that was over before
        with greeted(sink) as client:
            assert client.codes(*MAIL[:3])[-1] == "354"
            client.sock.sendall(b"x" * 1000 + b"\r\n")
            assert sink.struck == (0,)
            client.sock.sendall(b"x" * 1000 + b"\r\n")  # no dot
            assert client.hear() == ""
        assert sink.struck == (1,)
        assert len(sink.received()) == 1


def test_421_within_a_body() -> None:
    with Sink(rules=[Rule(phase=Phase.DATA, body_bytes=0, reply="421 4.3.2 going down")]) as sink:
        with greeted(sink) as client:
            assert client.codes(*MAIL[:3])[-1] == "354"
            assert client.hear() == "421 4.3.2 going down\r\n"
            assert client.hear() == ""
        assert sink.received() == []


def test_a_body_is_held_up_and_then_taken_whole() -> None:
    rules = [Rule(phase=Phase.DATA, body_bytes=size, hold=0.1) for size in (0, 500, 1000, 1000_000)]
    with Sink(rules=rules) as sink, greeted(sink) as client:
        started = time.monotonic()
        assert send_body(client, SMALL_BODY)[:3] == "250"
        assert time.monotonic() - started >= 0.1
        (received,) = sink.received()
        assert received.content == (b"x" * 70 + b"\r\n") * (SMALL_BODY // 72)
        assert sink.struck[3] == 0


# -- when a rule strikes


def test_a_session_ends_after_some_mails() -> None:
    with Sink(rules=[Rule(phase=Phase.MAIL, per="session", after=2, reply="421 4.7.0 enough")]) as sink:
        for _ in range(2):
            with greeted(sink) as client:
                assert client.codes(*MAIL, *MAIL) == ["250", "250", "354", "250"] * 2
                assert client.codes(MAIL[0]) == ["421"]
        assert len(sink.received()) == 4


def test_a_session_ends_right_after_the_250() -> None:
    last = Rule(phase=Phase.FINAL, per="session", after=1, accept=True, reply="250 2.0.0 Bye", drop=True)
    with Sink(rules=[last]) as sink, greeted(sink) as client:
        assert client.codes(*MAIL, *MAIL, "NOOP") == [*["250", "250", "354", "250"] * 2, ""]
        assert len(sink.received()) == 2


def test_nothing_is_answered_before_the_third_mail() -> None:
    with Sink(rules=[Rule(phase=Phase.MAIL, per="sink", times=2, hold=30)]) as sink:
        for _ in range(2):
            with greeted(sink) as client:
                client.say(MAIL[0])
                assert client.silent()
        with greeted(sink) as client:
            assert client.codes(*MAIL)[-1] == "250"


def test_one_connection_too_many_is_refused_until_another_ends() -> None:
    rule = Rule(phase=Phase.CONNECT, above=2, reply="421 4.7.0 Too many connections")
    with Sink(rules=[rule]) as sink, greeted(sink), greeted(sink) as second:
        with Client(sink) as third:
            assert third.hear()[:3] == "421"
            assert third.hear() == ""
        second.ask("QUIT")
        wait_for(lambda: len(sink._connections) == 1)
        with greeted(sink) as fourth:
            assert fourth.codes(*MAIL)[-1] == "250"


@pytest.mark.parametrize(("per", "answers"), [("address", "242442"), ("session", "244244"), ("sink", "244222")])
def test_turns_are_counted_per_address_session_or_sink(per: Any, answers: str) -> None:
    found = ""
    with Sink(rules=[Rule("*@x.example", "451 no", per=per, after=1, times=2)]) as sink:
        for names in ("aab", "aba"):
            with greeted(sink) as client:
                client.ask(MAIL[0])
                found += "".join(client.codes(f"RCPT TO:<{name}@x.example>")[0][0] for name in names)
    assert found == answers


def test_one_mail_is_one_turn_however_many_recipients_it_has() -> None:
    with Sink(rules=[Rule(phase=Phase.FINAL, per="sink", after=1, reply="451 no")]) as sink, greeted(sink) as client:
        lines = [MAIL[0], "RCPT TO:<b@x.example>", "RCPT TO:<c@x.example>", *MAIL[2:]]
        assert [client.codes(*lines)[-1] for _ in range(2)] == ["250", "451"]


def test_chance_is_had_again_from_the_same_seed() -> None:
    def strikes(seed: int) -> list[bool]:
        play = Play([Rule("*", "451 no", chance=0.3)], seed)
        return [play.rule(Phase.RCPT, ["a@x"], play, 1) is not None for _ in range(1000)]

    assert strikes(1) == strikes(1) != strikes(2)
    assert 200 < sum(strikes(1)) < 400


def test_a_hold_is_a_time_between_two() -> None:
    def holds(seed: int) -> list[float]:
        rule = Rule(phase=Phase.FINAL, hold=(0.1, 0.3))
        play = Play([rule], seed)
        return [play.seconds(rule) for _ in range(1000)]

    assert holds(1) == holds(1) != holds(2)
    assert 0.1 <= min(holds(1)) < 0.12
    assert 0.28 < max(holds(1)) <= 0.3


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "it does nothing"),
    ({"accept": True, "phase": Phase.FINAL}, "it does nothing"),
    ({"drop": True, "accept": True}, "accept: .* only at final"),
    ({"drop": True, "address": "a@*", "phase": Phase.EHLO}, "address: at ehlo there is none"),
    ({"drop": True, "times": 0}, "times: must be at least 1"),
    ({"drop": True, "after": -1}, "after: must not be negative"),
    ({"drop": True, "above": -1}, "above: must not be negative"),
    ({"drop": True, "chance": 0}, "chance: must be above 0"),
    ({"drop": True, "chance": 1.1}, "chance: must be above 0"),
    ({"drop": True, "per": "day"}, "per: must be one of address, session, sink"),
    ({"hold": (0.3, 0.1)}, "hold: must be a time, or two"),
    ({"hold": -1.0}, "hold: must be a time"),
    ({"drip": -1.0}, "drip: must not be negative"),
    ({"drop": True, "body_bytes": 5}, "body_bytes: the body comes at data"),
    ({"drop": True, "phase": Phase.DATA, "body_bytes": -5}, "body_bytes: must not be negative"),
    ({"reply": "550 no", "phase": Phase.DATA, "body_bytes": 5}, "body_bytes: .* a reply needs drop"),
    ({"drip": 1.0, "phase": Phase.DATA, "body_bytes": 5}, "body_bytes: .* can drop or hold"),
]


@pytest.mark.parametrize(("fields", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_rule_without_sense_is_none(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Rule(**fields)


# -- bodies are read in one piece


PIECES: list[tuple[str, Callable[[bytes], list[bytes]]]] = [
    ("at once", lambda body: [body]),
    ("byte by byte", lambda body: [body[n : n + 1] for n in range(len(body))]),
    ("in threes", lambda body: [body[n : n + 3] for n in range(0, len(body), 3)]),
]


@pytest.mark.parametrize("pieces", [cut for _, cut in PIECES], ids=[name for name, _ in PIECES])
@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".x\r\n...\r\n.\r\n", b"x\r\n..\r\n"),
        (b"a\n.\n\r\n.\r\n", b"a\n.\n\r\n"),
        (b"a\r.\r\n..\n.\r\n.\r\n", b"a\r.\r\n.\n.\r\n"),
        (b"\xff\x00\r\n\r\n.\r\n", b"\xff\x00\r\n\r\n"),
    ],
)
def test_a_body_is_what_was_sent_however_it_was_cut(
    wire: bytes, content: bytes, pieces: Callable[[bytes], list[bytes]]
) -> None:
    with Sink() as sink, greeted(sink) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert client.codes(*MAIL[:3])[-1] == "354"
        for piece in pieces(wire):
            client.sock.sendall(piece)
        assert client.hear()[:3] == "250"
        assert [received.content for received in sink.received()] == [content]
        assert client.codes("NOOP") == ["250"]


def test_a_client_that_waits_for_nothing_is_understood() -> None:
    with Sink() as sink, greeted(sink) as client:
        lines = [*MAIL, *MAIL, "QUIT"]
        client.sock.sendall("".join(f"{line}\r\n" for line in lines).encode())
        assert [client.hear()[:3] for _ in lines] == [*["250", "250", "354", "250"] * 2, "221"]
        assert len(sink.received()) == 2


def test_a_body_that_comes_before_the_354_is_in_its_order() -> None:
    with Sink(rules=[Rule(phase=Phase.DATA, drip=0.002)]) as sink, greeted(sink) as client:
        client.ask(*MAIL[:2])
        client.say("DATA\r\nfirst")
        assert client._lines.read(1) == b"3"  # it is saying 354
        client.say("second\r\n.")
        assert client.hear()[:2] == "54"
        assert client.hear()[:3] == "250"
        assert [received.content for received in sink.received()] == [b"first\r\nsecond\r\n"]


def test_what_is_too_large_or_too_wide_is_refused_and_the_next_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_MAX_BYTES", 100_000)
    with Sink() as sink, greeted(sink) as client:
        assert send_body(client, 120_000)[:3] == "552"
        assert client.codes(*MAIL[:3])[-1] == "354"
        assert client.codes("x" * 998 + "\r\n." + "x" * 998 + "\r\n.") == ["250"]
        assert client.codes(*MAIL[:3])[-1] == "354"
        assert client.codes("x" * 1000 + "\r\n.") == ["500"]
        assert client.codes(*MAIL)[-1] == "250"
    assert len(sink.received()) == 2


def test_data_out_of_order_is_refused() -> None:
    with Sink() as sink, Client(sink) as client:
        client.hear()
        assert client.codes("DATA", "EHLO test", "DATA", *MAIL[:2], "DATA now", "DATA") == [
            *["503", "250", "503", "250", "250", "501", "354"]
        ]


# -- what our own transport makes of it


def at(sink: Sink, **options: Any) -> Relay:
    given: dict[str, Any] = {"host": HOST, "port": sink.port, "tls": "none"}
    return Relay(name="bad", **(given | {"timeout_command": 5.0, "timeout_final": 5.0} | options))


def test_taken_without_an_answer_is_in_doubt() -> None:
    with Sink(rules=[Rule(phase=Phase.FINAL, accept=True, drop=True)]) as sink:
        assert only(deliver(at(sink), message(1))) == NoReply(Phase.FINAL, "connection closed", closed=True)
        assert len(sink.received()) == 1


def test_not_taken_and_without_an_answer_is_as_much_in_doubt() -> None:
    with Sink(rules=[Rule(phase=Phase.FINAL, drop=True)]) as sink:
        assert only(deliver(at(sink), message(1))) == NoReply(Phase.FINAL, "connection closed", closed=True)
        assert sink.received() == []


def test_a_250_that_is_too_late_is_in_doubt() -> None:
    with Sink(rules=[Rule(phase=Phase.FINAL, accept=True, hold=30)]) as sink:
        assert only(deliver(at(sink, timeout_final=1), message(1))) == NoReply(Phase.FINAL, "timed out")
        assert len(sink.received()) == 1


def test_a_connection_that_dies_within_a_long_body_leaves_no_doubt() -> None:
    content = b"Subject: long\r\n\r\n" + (b"x" * 74 + b"\r\n") * 400_000
    with Sink(rules=[Rule(phase=Phase.DATA, body_bytes=1000, drop=True, per="sink", times=1)]) as sink:
        result = only(deliver(at(sink), message(1, content=content)))
        assert isinstance(result, NoReply)
        assert (result.phase, result.closed) == (Phase.DATA, True)
        assert sink.received() == []


def test_a_relay_that_hangs_up_after_each_second_mail_gets_them_all() -> None:
    with Sink(rules=[Rule(phase=Phase.MAIL, per="session", after=2, reply="421 4.7.0 enough")]) as sink:
        outcomes = deliver(at(sink), *(message(n) for n in range(1, 8)))
        assert {result.code for o in outcomes for _, result in o.results if isinstance(result, Reply)} == {250}
        assert len(sink.received()) == 7
        assert sink.struck == (3,)


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (Rule(phase=Phase.CONNECT, drop=True), ConnectFailed),
        (Rule(phase=Phase.CONNECT, hold=30), ConnectFailed),
        (Rule(phase=Phase.CONNECT, reply="421 4.3.2 no"), ConnectFailed),
        (Rule(phase=Phase.EHLO, reply="554 5.7.1 no", drop=True), ConnectFailed),
        (Rule(phase=Phase.TLS, drop=True), ConnectFailed),
        (Rule(phase=Phase.TLS, reply="220 go on", drop=True), TlsFailed),
        (Rule(phase=Phase.TLS, reply="454 4.7.0 not now"), TlsFailed),
        (Rule(phase=Phase.AUTH, reply="535 5.7.8 no"), AuthFailed),
        (Rule(phase=Phase.AUTH, drop=True), ConnectFailed),
    ],
    ids=str,
)
def test_trouble_before_a_mail_is_the_relays(rule: Rule, error: type[Exception], secure: tuple[str, Sink]) -> None:
    ca_file, sink = secure
    sink.follow(Script([rule]))
    options = {"tls": "starttls", "ca_file": ca_file, "username": "erp", "password": "secret"}
    before, seconds = sink.recording.count, 0.5 if rule.hold else 5
    with pytest.raises(error):
        deliver(at(sink, timeout_command=seconds, timeout_connect=seconds, **options), message(1))
    assert sink.struck[0] >= 1
    assert sink.recording.count == before


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Sink]]:
    """A sink with STARTTLS and a login, and the file of its authority."""
    certificates = Certificates.make(tmp_path_factory.mktemp("authority"))
    with Sink(tls=certificates.context, users={"erp": "secret"}) as sink:
        yield certificates.ca_file, sink


def test_under_tls_a_session_is_as_bad(secure: tuple[str, Sink]) -> None:
    ca_file, sink = secure
    sink.follow(Script([Rule(phase=Phase.FINAL, accept=True, drop=True)]))
    options = {"tls": "starttls", "ca_file": ca_file, "username": "erp", "password": "secret"}
    before = sink.recording.count
    result = only(deliver(at(sink, **options), message(1)))
    assert isinstance(result, NoReply)
    assert result.phase is Phase.FINAL
    assert sink.recording.count == before + 1


def test_the_answer_to_starttls_may_be_a_lie(secure: tuple[str, Sink]) -> None:
    ca_file, sink = secure
    sink.follow(Script([Rule(phase=Phase.TLS, reply="220 go on")]))
    with Client(sink) as client:
        client.hear()
        assert client.codes("EHLO test", "STARTTLS") == ["250", "220"]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ssl.create_default_context(cafile=ca_file).wrap_socket(client.sock, server_hostname=HOST)


def test_who_is_read_slowly_waits_for_its_reply_no_longer_than_it_says() -> None:
    with Sink(rules=[Rule(phase=Phase.FINAL, drip=0.05)]) as sink:
        assert str(only(deliver(at(sink), message(1)))) == "250 2.0.0 Ok"


def test_the_record_of_a_fault_is_there_before_the_end(tmp_path: Path) -> None:
    record = tmp_path / "sink.jsonl"
    with Sink(record=record, rules=[Rule(phase=Phase.FINAL, accept=True, drop=True)]) as sink:
        with greeted(sink) as client:
            assert client.codes(*MAIL)[-1] == ""
        assert record.read_bytes().count(b"\n") == 1
