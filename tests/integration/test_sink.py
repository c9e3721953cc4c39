"""The recording sink, spoken to by Python's own smtplib."""

import asyncio
import hashlib
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from dispatcher.reply import Phase
from dispatcher.servers.recording import Received, Recording
from dispatcher.servers.sink import Rule, Sink
from tests.smtpd import HOST, Certificates

MAIL = b"Message-ID: <1@x.example>\r\nSubject: =?utf-8?b?w6k=?=\r\n\r\n.dot\r\n..two\r\n"


def connect(sink: Sink) -> smtplib.SMTP:
    client = smtplib.SMTP(HOST, sink.port, timeout=10, local_hostname="test")
    client.ehlo()
    return client


def try_mail(sink: Sink, sender: str, recipients: Sequence[str], content: bytes = MAIL) -> list[int]:
    """The reply codes of MAIL, each RCPT, DATA and the final dot, as far as it came."""
    with connect(sink) as client:
        codes = [client.mail(sender)[0]]
        if codes == [250]:
            codes += [client.rcpt(recipient)[0] for recipient in recipients]
        if codes[0] == 250 and 250 in codes[1:]:
            code, _ = client.docmd("DATA")
            codes.append(code)
            if code == 354:
                client.send(smtplib._quote_periods(content) + b".\r\n")  # type: ignore[attr-defined]
                codes.append(client.getreply()[0])
        return codes


def test_what_was_taken_is_read_back_as_it_was_sent() -> None:
    with Sink() as sink:
        before = time.time()
        assert try_mail(sink, "a@x.example", ["b@x.example", "c@x.example"]) == [250, 250, 250, 354, 250]
        (received,) = sink.received()
        assert before <= received.time <= time.time()
        assert (received.mail_from, received.rcpt_to) == ("a@x.example", ("b@x.example", "c@x.example"))
        assert (received.message_id, received.size, received.content) == ("<1@x.example>", len(MAIL), MAIL)
        assert received.sha256 == hashlib.sha256(MAIL).hexdigest()
        assert [mail["Subject"] for mail in sink.messages()] == ["é"]


def test_every_recipient_has_a_mailbox() -> None:
    with Sink() as sink:
        try_mail(sink, "a@x.example", ["b@x.example", "c@x.example"])
        try_mail(sink, "a@x.example", ["b@x.example"])
        assert {address: len(mails) for address, mails in sink.mailboxes().items()} == {
            "b@x.example": 2,
            "c@x.example": 1,
        }


def test_the_null_sender_and_quoted_and_foreign_addresses_are_taken() -> None:
    with Sink() as sink:
        assert try_mail(sink, "", ['"a b"@x.example']) == [250, 250, 354, 250]
        with connect(sink) as client:
            assert client.mail("jörg@x.example", ["SMTPUTF8"])[0] == 250
            assert client.rcpt("李@x.example")[0] == 250
            assert client.data(MAIL)[0] == 250
        assert [(r.mail_from, r.rcpt_to) for r in sink.received()] == [
            ("", ('"a b"@x.example',)),
            ("jörg@x.example", ("李@x.example",)),
        ]


def test_it_is_written_down_before_it_is_answered(tmp_path: Path) -> None:
    record = tmp_path / "sink.jsonl"
    with Sink(record=record, fsync=True) as sink:
        for number in range(1, 4):
            try_mail(sink, "a@x.example", ["b@x.example"])
            # Read by another, straight after the 250, while the sink still runs.
            assert len(list(Recording.read(record))) == number
    assert sink.received()[0].content == MAIL


def test_a_record_goes_on_where_it_ended(tmp_path: Path) -> None:
    record = tmp_path / "sink.jsonl"
    for _ in range(2):
        with Sink(record=record) as sink:
            try_mail(sink, "a@x.example", ["b@x.example"])
    assert len(sink.messages()) == 2


def test_a_line_that_was_cut_off_was_never_answered_and_is_not_read(tmp_path: Path) -> None:
    record = tmp_path / "sink.jsonl"
    with Sink(record=record) as sink:
        try_mail(sink, "a@x.example", ["b@x.example"])
    whole = record.read_bytes()
    record.write_bytes(whole + whole[:50])
    assert len(list(Recording.read(record))) == 1
    with Sink(record=record) as sink:  # and it does not spoil what comes after
        try_mail(sink, "a@x.example", ["c@x.example"])
        assert [r.rcpt_to for r in sink.received()] == [("b@x.example",), ("c@x.example",)]


def test_a_line_of_the_record_holds_all_that_was_received() -> None:
    received = Received.of(1.5, "a@x.example", ("b@x.example",), b"\xff\x00 no header")
    assert Received.parse(received.line) == received
    assert received.message_id == ""


def test_a_recipient_is_refused_by_pattern_whatever_its_case() -> None:
    with Sink(rules=[Rule.refuse("gone@*")]) as sink:
        assert try_mail(sink, "a@x.example", ["Gone@x.example", "b@x.example"]) == [250, 550, 250, 354, 250]
        assert list(sink.mailboxes()) == ["b@x.example"]


def test_a_recipient_is_deferred_the_first_times_each_for_itself() -> None:
    with Sink(rules=[Rule.defer("*@slow.example", times=2)]) as sink:
        answers = [try_mail(sink, "a@x.example", [f"{who}@slow.example"])[1] for who in "aabaabb"]
    assert answers == [451, 451, 451, 250, 250, 451, 250]


@pytest.mark.parametrize(
    ("phase", "codes"),
    [
        (Phase.MAIL, [571]),
        (Phase.RCPT, [250, 571]),
        (Phase.DATA, [250, 250, 571]),
        (Phase.FINAL, [250, 250, 354, 571]),
    ],
)
def test_a_rule_answers_at_its_phase_and_nothing_is_recorded(phase: Phase, codes: list[int]) -> None:
    with Sink(rules=[Rule("bad@*", "571 5.7.1 no", phase)]) as sink:
        assert try_mail(sink, "bad@x.example" if phase is Phase.MAIL else "a@x.example", ["bad@x.example"]) == codes
        assert sink.received() == []
        assert try_mail(sink, "a@x.example", ["b@x.example"])[-1] == 250


def test_the_final_reply_can_be_delayed() -> None:
    with Sink(final_seconds=0.3) as sink:
        started = time.monotonic()
        assert try_mail(sink, "a@x.example", ["b@x.example"])[-1] == 250
        assert time.monotonic() - started >= 0.3


def test_who_has_not_logged_in_may_not_send() -> None:
    with Sink(users={"u": "p"}) as sink:
        assert try_mail(sink, "a@x.example", ["b@x.example"]) == [530]
        with connect(sink) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("u", "wrong")
            client.login("u", "p")
            assert client.mail("a@x.example")[0] == 250


def test_with_tls_nothing_goes_in_the_clear(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    with Sink(tls=certificates.context) as sink:
        assert try_mail(sink, "a@x.example", ["b@x.example"]) == [530]
        with connect(sink) as client:
            client.starttls(context=ssl.create_default_context(cafile=certificates.ca_file))
            client.ehlo()
            assert client.mail("a@x.example")[0] == 250


def test_its_url_is_that_of_a_relay(tmp_path: Path) -> None:
    context = Certificates.make(tmp_path).context
    for sink, url in (
        (Sink(), "smtp://127.0.0.1:{}?tls=none"),
        (Sink(tls=context), "smtp://127.0.0.1:{}?tls=starttls"),
        (Sink(tls=context, implicit=True), "smtps://127.0.0.1:{}"),
    ):
        with sink:
            assert sink.url == url.format(sink.port)
            assert sink.port > 0


def test_a_port_that_is_taken_is_an_error() -> None:
    with Sink() as sink, pytest.raises(OSError, match="in use"):
        Sink(port=sink.port).start()


def test_stopping_hangs_up_on_who_is_connected_and_frees_the_port() -> None:
    with Sink() as sink:
        client = connect(sink)
        client.mail("a@x.example")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.rcpt("b@x.example")
    client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, sink.port), 5)
    sink.stop()  # once more does nothing


def test_it_starts_beside_a_running_event_loop() -> None:
    async def inside() -> list[int]:
        with Sink() as sink:
            return await asyncio.to_thread(try_mail, sink, "a@x.example", ["b@x.example"])

    assert asyncio.run(inside())[-1] == 250


def test_several_clients_at_once_lose_nothing(tmp_path: Path) -> None:
    def work(sink: Sink, name: int) -> None:
        with connect(sink) as client:
            for number in range(50):
                client.mail("a@x.example")
                client.rcpt(f"{name}-{number}@x.example")
                client.data(MAIL)

    with Sink(record=tmp_path / "sink.jsonl") as sink:
        threads = [threading.Thread(target=work, args=(sink, name)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert set(sink.mailboxes()) == {f"{name}-{number}@x.example" for name in range(4) for number in range(50)}
        assert len(sink.received()) == 200
