"""The sink's inbox over HTTP: what it lists, what it gives out, and what a hostile mail cannot do to it."""

import http.client
import json
import os
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from http.client import HTTPMessage
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from dispatcher.adapters.stack import Stack
from dispatcher.servers.inbox import Inbox
from dispatcher.servers.inbox.content import Content
from dispatcher.servers.inbox.listing import PAGE, Listing
from dispatcher.servers.recording import Received, Recording
from dispatcher.servers.sink import Sink
from tests.waiting import wait_for


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "sink.jsonl"


@pytest.fixture
def recording(record: Path) -> Iterator[Recording]:
    found = Recording(record)
    yield found
    found.close()


@pytest.fixture
def inbox(recording: Recording, record: Path) -> Iterator[Inbox]:
    with Inbox(record, relay_url="smtp://127.0.0.1:2525?tls=none") as found:
        yield found


def mail(content: bytes = b"Subject: S\r\n\r\nT\r\n", *rcpt_to: str, time: float = 0.0) -> Received:
    return Received.of(time, "a@x.example", rcpt_to or ("b@x.example",), content)


def letter(subject: str = "S", **fields: str) -> EmailMessage:
    found = EmailMessage()
    found["Subject"] = subject
    for name, value in fields.items():
        found[name] = value
    found.set_content("T\n")
    return found


@dataclass(frozen=True)
class Answer:
    """An answer, its body read."""

    status: int
    headers: HTTPMessage
    body: bytes


def get(inbox: Inbox, path: str, host: str | None = None) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(inbox.url).netloc, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def page(inbox: Inbox, path: str = "/") -> str:
    answer = get(inbox, path)
    assert answer.status == 200, path
    return answer.body.decode()


def wait_for_mails(inbox: Inbox, count: int) -> None:
    wait_for(lambda: json.loads(page(inbox, "/newest"))["newest"] == count)


def followed(record: Path) -> Listing:
    """The table of contents of a whole record."""
    listing = Listing(record)
    while listing.follow(100):
        pass
    return listing


def subjects(listing: Listing, query: str = "") -> Sequence[str]:
    return [entry.subject for entry in listing.page(query)]


# -- the listing


def test_mails_are_listed_newest_first_and_found_by_recipient_or_subject(record: Path, recording: Recording) -> None:
    recording.append(mail("Subject: Größe\r\nFrom: Shop <shop@x.example>\r\n\r\n".encode(), "Li@x.example"))
    recording.append(mail(letter("您的订单 SO-7").as_bytes(), "ada@x.example", "li@y.example"))
    listing = followed(record)
    assert subjects(listing) == ["您的订单 SO-7", "Größe"]
    assert subjects(listing, "GRÖSSE") == subjects(listing, "shop") == ["Größe"]
    assert subjects(listing, "订单 li@y") == subjects(listing, "ada") == ["您的订单 SO-7"]
    assert subjects(listing, "li") == ["您的订单 SO-7", "Größe"]
    assert subjects(listing, "li nobody") == subjects(listing, "%") == subjects(listing, "_") == []


def test_a_query_of_any_length_is_answered(record: Path, recording: Recording) -> None:
    recording.append(mail())
    assert subjects(followed(record), "s " * 5000) == ["S"]


def test_folded_and_broken_headers_are_listed_as_far_as_they_can_be_read(record: Path, recording: Recording) -> None:
    long = " ".join(["A long subject with ümlauts"] * 9)
    for content in (
        letter(long).as_bytes().replace(b"\n", b"\r\n"),
        b"Subject: =?no-such-charset?q?x?=\r\n\r\n",
        b"Subject: \xff\xfe\r\n\r\n",
        b"no header at all",
        b"",
    ):
        recording.append(mail(content))
    assert subjects(followed(record)) == ["", "", "\ufffd\ufffd", "=?no-such-charset?q?x?=", long]


def test_a_mail_is_read_back_whole_whatever_its_size_and_envelope(record: Path, recording: Recording) -> None:
    sent = [
        mail(b"Subject: S\r\n\r\n" + os.urandom(size), *(f"{n}@x.example" for n in range(count)))
        for size, count in ((0, 1), (1, 1), (2, 2), (100_000, 3), (10, 2000))
    ]
    sent.append(Received.of(1.5, 'a", "content": "@x.example', ("李@x.example",), b"x"))
    for received in sent:
        recording.append(received)
    listing = followed(record)
    assert [listing.mail(number) for number in range(1, len(sent) + 1)] == sent
    with pytest.raises(KeyError):
        listing.mail(len(sent) + 1)


def test_a_line_that_is_being_written_is_listed_when_it_is_whole(record: Path) -> None:
    line = mail(b"Subject: S\r\n\r\n" + b"x" * 20_000).line
    record.write_bytes(line)
    listing = followed(record)
    for end in (0, 10, 200, len(line) - 1):
        record.write_bytes(line + line[:end])
        assert listing.follow(10) == 0
    record.write_bytes(line + line)
    assert listing.follow(10) == 1


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_text("something else\n" * 10)
    with pytest.raises(ValueError, match="not a line of a sink's record"):
        Listing(path)


def test_no_page_reads_the_whole_of_a_large_record(record: Path) -> None:
    count, line = 3000, mail(b"Subject: S\r\n\r\n" + b"x" * 60_000, "many@x.example").line
    with record.open("wb") as file:
        for _ in range(count):
            file.write(line)
    listing = followed(record)

    def read() -> int:
        found = dict(row.split(": ") for row in Path("/proc/self/io").read_text().splitlines())
        return int(found["rchar"])

    before = read()
    assert listing.newest == count
    assert [entry.number for entry in listing.page("many", before=2000)] == list(range(1999, 1999 - PAGE - 1, -1))
    assert listing.mail(1234).size == len(b"Subject: S\r\n\r\n") + 60_000
    assert read() - before < record.stat().st_size / 100


# -- the pages


def test_the_inbox_shows_what_a_sink_takes_and_goes_on_beside_it(record: Path) -> None:
    with Sink(record=record) as sink, Inbox(record) as inbox, smtplib.SMTP("127.0.0.1", sink.port) as client:
        for number in range(1, 4):
            client.send_message(letter(f"Mail {number}"), "a@x.example", ["b@x.example"])
            wait_for_mails(inbox, number)
        assert page(inbox).index("Mail 3") < page(inbox).index("Mail 1")


def test_an_empty_inbox_says_how_to_fill_it(inbox: Inbox) -> None:
    assert "DISPATCHER_RELAY_URL='smtp://127.0.0.1:2525?tls=none'" in page(inbox)


def test_older_mails_are_a_page_away(inbox: Inbox, recording: Recording) -> None:
    for number in range(PAGE + 2):
        recording.append(mail(f"Subject: Mail-{number:03}-\r\n\r\n".encode(), "b&q@x.example"))
    wait_for_mails(inbox, PAGE + 2)
    first = page(inbox, "/?q=b%26q")
    assert "Mail-051-" in first
    assert "Mail-001-" not in first
    assert 'href="/?before=3&amp;q=b%26q"' in first
    older = page(inbox, "/?before=3&q=b%26q")
    assert "Mail-001-" in older
    assert "Mail-002-" not in older
    assert "Older mails</a>" not in older


def test_a_mail_has_all_its_views(inbox: Inbox, recording: Recording) -> None:
    sent = letter("您的订单", To="李雷 <li@x.example>")
    sent.add_alternative("<p>HTML &amp; more</p>", subtype="html")
    recording.append(mail(sent.as_bytes().replace(b"\n", b"\r\n")))
    wait_for_mails(inbox, 1)
    assert "<h1>您的订单</h1>" in page(inbox, "/mail/1")
    assert 'src="/mail/1/frame"' in page(inbox, "/mail/1/html")
    assert '<div class="text">T' in page(inbox, "/mail/1/text")
    assert "李雷 &lt;li@x.example&gt;" in page(inbox, "/mail/1/headers")
    assert "Content-Type: multipart/alternative" in page(inbox, "/mail/1/raw")
    assert page(inbox, "/mail/1/frame").strip() == '<base target="_blank"><p>HTML &amp; more</p>'
    source = get(inbox, "/mail/1/source")
    assert source.headers["Content-Disposition"] == 'attachment; filename="mail-1.eml"'
    assert source.body == sent.as_bytes().replace(b"\n", b"\r\n")


@pytest.mark.parametrize("path", ["/mail/9", "/mail/9/frame", "/mail/1/attachment/1", "/mail/1/x", "/etc/passwd"])
def test_what_is_not_there_is_said_on_a_page(inbox: Inbox, recording: Recording, path: str) -> None:
    recording.append(mail())
    wait_for_mails(inbox, 1)
    answer = get(inbox, path)
    assert answer.status == 404
    assert "Show all mails" in answer.body.decode()


def test_a_page_number_that_is_none_is_refused(inbox: Inbox) -> None:
    assert get(inbox, "/?before=x").status == 400


def test_attachments_come_as_they_were_sent_under_their_name(inbox: Inbox, recording: Recording) -> None:
    sent = letter()
    sent.add_attachment(b"%PDF-1", maintype="application", subtype="pdf", filename="发票 1.pdf")
    sent.add_attachment(letter("inner"))
    recording.append(mail(sent.as_bytes()))
    wait_for_mails(inbox, 1)
    answer = get(inbox, "/mail/1/attachment/1")
    assert answer.body == b"%PDF-1"
    assert answer.headers["Content-Type"] == "application/pdf"
    named = f"attachment; filename=\"__ 1.pdf\"; filename*=UTF-8''{quote('发票 1.pdf')}"
    assert answer.headers["Content-Disposition"] == named
    inner = get(inbox, "/mail/1/attachment/2")
    assert b"Subject: inner" in inner.body


# -- hostile mail


def test_a_filename_adds_no_header_and_leads_out_of_no_folder(inbox: Inbox, recording: Recording) -> None:
    names = "=?utf-8?q?a=0D=0ASet-Cookie=3A_x=3D1=22=3B_b=2Ehtml?=", "../../../etc/passwd", 'x"; evil="y', ""
    for name in names:
        head = f'Content-Type: text/html\r\nContent-Disposition: attachment; filename="{name}"\r\n\r\n'
        recording.append(mail(head.encode() + b"<script>alert(1)</script>"))
    wait_for_mails(inbox, len(names))
    for number in range(1, len(names) + 1):
        answer = get(inbox, f"/mail/{number}/attachment/1")
        disposition = answer.headers["Content-Disposition"]
        assert answer.status == 200
        assert answer.headers["Set-Cookie"] is None
        assert disposition.startswith('attachment; filename="')
        assert disposition.count('"') == 2
        assert not {"/", "\\", "\r", "\n"} & set(disposition)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_a_content_type_adds_no_header() -> None:
    content = Content.of(b'Content-Type: text/x;charset="y"\r\nContent-Disposition: attachment\r\n\r\nx')
    assert content.attachments[0].content_type == "text/x"
    content = Content.of(b"Content-Type: a\x01b/c d\r\nContent-Disposition: attachment\r\n\r\nx")
    assert content.attachments[0].content_type in ("text/plain", "application/octet-stream")


def test_markup_from_a_mail_is_text_on_our_pages(inbox: Inbox, recording: Recording) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    content = (
        f'Subject: {evil}\r\nFrom: "{evil}" <a@x>\r\nX-{evil}: {evil}\r\n\r\n{evil} javascript:alert(1) https://x/"><b>'
    )
    recording.append(mail(content.encode(), f'"{evil}"@x.example'))
    wait_for_mails(inbox, 1)
    for path in ("/", f"/?q={quote(evil)}", "/mail/1/text", "/mail/1/headers", "/mail/1/raw"):
        found = page(inbox, path)
        assert "<script>alert" not in found, path
        assert "<img src=x" not in found, path
        assert 'href="javascript:' not in found, path
        assert "&lt;script&gt;alert" in found, path


def test_every_answer_forbids_what_it_does_not_need(inbox: Inbox, recording: Recording) -> None:
    recording.append(mail(b"Content-Type: text/html\r\n\r\n<p>x"))
    wait_for_mails(inbox, 1)
    for path in ("/", "/mail/1", "/newest", "/inbox.css", "/inbox.js", "/mail/1/source", "/mail/9"):
        policy = get(inbox, path).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, path
        assert "script-src 'self'" in policy, path
        assert "unsafe" not in policy, path
    frame = get(inbox, "/mail/1/frame").headers["Content-Security-Policy"]
    assert frame.startswith("sandbox allow-popups")
    assert "script-src" not in frame
    assert "default-src 'none'" in frame


def test_a_foreign_name_that_points_here_is_turned_away(inbox: Inbox) -> None:
    for host in ("evil.example.com", "127.0.0.1.evil.example"):
        assert get(inbox, "/", host).status == 403
    for host in ("localhost:8025", "sink", "192.0.2.7", "[::1]:8025", "app.localhost"):
        assert get(inbox, "/", host).status == 200


@pytest.mark.parametrize(
    "content",
    [
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\nno part at all",
        b"Content-Type: multipart/mixed\r\n\r\n--\r\n",
        b"Content-Type: text/html; charset=no-such\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!",
        b'Content-Type: text/html; charset="idna"\r\n\r\n\xff\xff',
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA",
        b"Content-Type: /\r\nContent-Disposition: ;;;=\r\nContent-ID: <\xff>\r\n\r\n\x00",
        b"Subject: =?utf-8?b?!!?=\r\nFrom: =?utf-8?q?=FF?=\r\n\r\n",
        b"\r\n\r\n",
        b"\x00" * 100,
    ],
)  # fmt: skip
def test_a_broken_mail_is_shown_as_far_as_it_goes(inbox: Inbox, recording: Recording, content: bytes) -> None:
    recording.append(mail(content))
    wait_for_mails(inbox, 1)
    for path in ("", "/html", "/text", "/headers", "/raw", "/frame", "/source"):
        assert get(inbox, f"/mail/1{path}").status == 200, path


def test_an_image_that_the_mail_brings_is_shown_within_it() -> None:
    sent = letter()
    sent.add_alternative('<head><title>x</title></head><img src="cid:a@b"><img src="cid:none">', subtype="html")
    body = sent.get_payload(1)
    assert isinstance(body, EmailMessage)
    body.add_related(b"PNG", maintype="image", subtype="png", cid="<a@b>")
    content = Content.of(sent.as_bytes())
    assert content.document.startswith('<head><base target="_blank">')
    assert 'src="data:image/png;base64,UE5H"' in content.document
    assert 'src="cid:none"' in content.document


# -- beside SMTP


def test_smtp_goes_on_while_pages_are_read(record: Path) -> None:
    with Sink(record=record) as sink, Inbox(record) as inbox:
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                page(inbox)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        slowest = 0.0
        try:
            with smtplib.SMTP("127.0.0.1", sink.port) as client:
                for _ in range(100):
                    started = time.monotonic()
                    client.send_message(letter(), "a@x.example", ["b@x.example"])
                    slowest = max(slowest, time.monotonic() - started)
        finally:
            stop.set()
            for reader in readers:
                reader.join(20)
        wait_for_mails(inbox, 100)
    assert slowest < 2


@pytest.mark.slow
def test_the_command_serves_both_and_stops_on_sigterm(tmp_path: Path) -> None:
    arguments = [*Stack.command, "sink", "--port", "0", "--web", "0", "--host", "0.0.0.0", "--json"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "}\n")
            found = json.loads("".join(lines) + "}")
            assert found["url"].startswith("smtp://127.0.0.1:")
            with smtplib.SMTP("127.0.0.1", found["port"]) as client:
                client.send_message(letter("Über SMTP"), "a@x.example", ["b@x.example"])
            inbox = Inbox(tmp_path, port=urlsplit(found["inbox"]).port or 0)
            wait_for_mails(inbox, 1)
            assert "Über SMTP" in page(inbox)
        finally:
            process.terminate()
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "sink stopped after 1 mails" in errors


@pytest.mark.slow
def test_a_port_that_is_taken_and_a_file_that_is_no_record_are_one_line_each(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_text("hello\n")
    with Sink() as sink:
        for arguments, error in (
            (["--port", "0", "--web", str(sink.port)], f"--web: cannot listen on 127.0.0.1 port {sink.port}"),
            (["--port", "0", "--web", "0", "--record", str(foreign)], f"--record: {foreign}: byte 0: not a line"),
            (["--port", "0", "--host", "no.such.invalid"], "--port: cannot listen on no.such.invalid port 0"),
        ):
            done = subprocess.run(
                [sys.executable, *Stack.command[1:], "sink", *arguments],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 2
            assert len(done.stderr.splitlines()) == 1
            assert error in done.stderr
