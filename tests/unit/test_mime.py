"""Whole messages: read back by the standard library, the same bytes twice, and no way in for a header."""

import hashlib
import re
from dataclasses import replace
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.utils import collapse_rfc2231_value
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher import mime
from dispatcher.address import parse
from dispatcher.errors import InvalidAddress, SubmissionError
from dispatcher.mail import Address
from dispatcher.mime import Content, Part, build
from dispatcher.transfer import encode_bytes
from tests.addresses import read_addresses

WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=80)
BODIES = st.text(st.characters(exclude_categories=["Cs"]), max_size=400) | st.text("From =_.\t\n\r aÜ李-", max_size=400)
TYPES = st.sampled_from(["application/pdf", "text/csv; charset=gbk", "image/png", "text/plain", "Application/X-Thing"])
PARTS = st.builds(
    Part,
    content=st.binary(max_size=300),
    content_type=TYPES,
    filename=st.none() | WORDS.filter(bool),
    content_id=st.none() | st.from_regex(r"[A-Za-z0-9._@-]{1,20}", fullmatch=True),
)
ADDRESSES = st.builds(
    Address, st.sampled_from(["a", "b.c", "d e", "f+g"]), st.sampled_from(["b.example", "[127.0.0.1]"]), WORDS
)
CONTENTS = st.builds(
    Content,
    public_id=st.from_regex(r"[A-Za-z0-9_-]{8,24}", fullmatch=True),
    dated=st.floats(0, 4e9),
    from_=ADDRESSES,
    to=st.lists(ADDRESSES, max_size=3).map(tuple),
    cc=st.lists(ADDRESSES, max_size=2).map(tuple),
    reply_to=st.lists(ADDRESSES, max_size=1).map(tuple),
    subject=WORDS,
    text=st.none() | BODIES,
    html=st.none() | BODIES,
    headers=st.dictionaries(st.from_regex(r"X-[A-Za-z0-9]{1,20}", fullmatch=True), WORDS, max_size=2).map(
        lambda d: tuple(d.items())
    ),
    attachments=st.lists(PARTS, max_size=3).map(tuple),
)
BASE = Content(
    public_id="Ab-_0123456789",
    dated=1790000000.75,
    from_=Address("erp", "example.com", "ERP"),
    to=(Address("li", "example.com", "李雷"),),
    cc=(),
    reply_to=(),
    subject="Order SO-1001",
    text="Hello\n",
    html=None,
)
PDF = Part(b"%PDF-1.7\n" * 30, "application/pdf", "发票.pdf")
LOGO = Part(b"\x89PNG\r\n", "image/png", "logo.png", "logo")


def read(content: Content) -> Message:
    return message_from_bytes(build(content)[0])


def shown(value: str | None) -> str:
    """A header as a reader shows it: unfolded and decoded, leaving white space alone."""
    assert value is not None
    return str(make_header(decode_header(value.replace("\r\n", ""))))


def text_of(part: Message) -> str:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode("utf-8")


def canonical(text: str) -> str:
    """What arrives of a text: CRLF line ends, one at the end, and nothing else changed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return (text if text.endswith("\n") else f"{text}\n").replace("\n", "\r\n")


def children(part: Message) -> list[Message]:
    parts = part.get_payload()
    assert isinstance(parts, list)
    return [child for child in parts if isinstance(child, Message)]


def tree(part: Message) -> str:
    """The structure in one line, such as ``mixed(plain pdf)``."""
    kind = part.get_content_subtype()
    if not part.is_multipart():
        return kind
    return f"{kind}({' '.join(tree(child) for child in children(part))})"


def mailboxes(message: Message, name: str) -> list[tuple[str, str]]:
    return [(shown(display), spec) for display, spec in read_addresses([message[name].replace("\r\n", "")])]


@given(CONTENTS)
def test_every_message_is_read_back_as_it_was_meant(content: Content) -> None:
    message = read(content)
    assert not [defect for part in message.walk() for defect in part.defects]
    assert shown(message["Subject"]) == content.subject
    assert message["Message-ID"] == f"<{content.public_id}@{content.from_.domain}>"
    for name, expected in (
        ("From", (content.from_,)),
        ("To", content.to),
        ("Cc", content.cc),
        ("Reply-To", content.reply_to),
    ):
        if expected:
            assert mailboxes(message, name) == [(address.display, address.spec) for address in expected]
    for name, value in {name.lower(): (name, value) for name, value in content.headers}.values():
        assert shown(message[name]) == value
    leaves = [part for part in message.walk() if not part.is_multipart()]
    bodies = [text_of(part) for part in leaves if part.get_content_disposition() is None]
    written = [text for text in (content.text, content.html) if text is not None] or [""]
    assert bodies == [canonical(text) for text in written]
    files = [part for part in leaves if part.get_content_disposition() is not None]
    assert sorted(map(repr, map(of_file, files))) == sorted(map(repr, map(of_part, content.attachments)))


def of_file(part: Message) -> tuple[object, ...]:
    name = part.get_param("filename", header="Content-Disposition")
    return (
        part.get_payload(decode=True),
        part.get_content_type(),
        collapse_rfc2231_value(name) if name else None,
        part["Content-ID"],
    )


def of_part(part: Part) -> tuple[object, ...]:
    kind = part.content_type.partition(";")[0].lower()
    return part.content, kind, part.filename, f"<{part.content_id}>" if part.content_id else None


@given(CONTENTS)
def test_every_message_is_seven_bit_lines_that_smtp_can_carry(content: Content) -> None:
    raw, utf8 = build(content)
    assert raw.isascii()
    assert not utf8
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\0" not in raw
    assert raw.endswith(b"\r\n")
    lines = raw.split(b"\r\n")
    assert all(len(line) <= 78 for line in lines)
    assert b"Bcc" not in raw.split(b"\r\n\r\n")[0]
    assert not any(line.startswith(b"From ") for line in lines)


@given(CONTENTS)
def test_the_same_content_gives_the_same_bytes(content: Content) -> None:
    assert build(content) == build(content._replace())


def test_the_bytes_of_this_builder_are_known() -> None:
    """A change of these bytes is a change of ``fingerprint``: mails in retention could not be rebuilt otherwise."""
    content = BASE._replace(html="<p>Größe</p>", attachments=(PDF, LOGO), headers=(("X-Order", "SO-1001"),))
    digest = hashlib.sha256(build(content)[0]).hexdigest()
    assert (mime.fingerprint(), digest[:16]) == ("mime-2", "1b181984ea37894e")


@given(BODIES)
@example("From here\nFrom there\nFrom From From\n")
@example("From " * 60)
@example("ü" + "From " * 60)
@example(" \n\t\n trailing \t\nü")
@example("." * 3 + "\n.\n..\nü\n.")
@example("a" * 76 + "\n" + "b" * 75 + "=\n" + "c" * 1000)
@example("\x00\x0b\x0c\x1a\x7f\u2028\x85")
@example("--=_a\n--=_m")
@example("")
@example("\r\r\n\n\r")
def test_a_text_arrives_as_it_was_written(text: str) -> None:
    part = read(BASE._replace(text=text))
    assert text_of(part) == canonical(text)
    assert part.get_content_charset() == "utf-8"


@pytest.mark.parametrize("text", ["From me", "x\nFrom me\n", "From From From\n", "a" * 75 + "From " * 40, "From \nü"])
def test_no_line_on_the_wire_begins_as_a_mailbox_separator(text: str) -> None:
    raw = build(BASE._replace(text=text))[0]
    assert not re.search(rb"^From ", raw, re.MULTILINE)
    assert max(map(len, raw.split(b"\r\n"))) <= 76


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Plain lines\nand more\n", "7bit"),
        ("a" * 77, "quoted-printable"),
        ("trailing \n", "quoted-printable"),
        ("From me", "quoted-printable"),
        ("bell\x07", "quoted-printable"),
        ("--=_a", "quoted-printable"),
        ("Grüße aus Köln, Ihre Bestellung ist unterwegs.", "quoted-printable"),
        ("您的订单已确认", "base64"),
    ],
)
def test_a_text_takes_the_shortest_safe_encoding(text: str, encoding: str) -> None:
    assert read(BASE._replace(text=text))["Content-Transfer-Encoding"] == encoding


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "plain"),
        ({"text": None}, "plain"),
        ({"text": None, "html": "<p>"}, "html"),
        ({"html": "<p>"}, "alternative(plain html)"),
        ({"attachments": (PDF,)}, "mixed(plain pdf)"),
        ({"text": None, "attachments": (PDF,)}, "mixed(plain pdf)"),
        ({"text": None, "html": "<p>", "attachments": (LOGO,)}, "related(html png)"),
        ({"html": "<p>", "attachments": (LOGO,)}, "alternative(plain related(html png))"),
        ({"html": "<p>", "attachments": (PDF, LOGO, PDF)}, "mixed(alternative(plain related(html png)) pdf pdf)"),
        ({"attachments": (LOGO,)}, "mixed(plain png)"),
    ],
)
def test_each_level_stands_only_where_it_is_needed(changes: dict[str, Any], expected: str) -> None:
    message = read(BASE._replace(**changes))
    assert tree(message) == expected
    assert message.get_all("MIME-Version") == ["1.0"]


def test_related_names_its_root_and_inline_parts_are_inline() -> None:
    message = read(BASE._replace(html='<img src="cid:logo">', attachments=(LOGO, PDF)))
    related = children(children(message)[0])[1]
    assert related.get_param("type") == "text/html"
    image = children(related)[1]
    assert (image["Content-ID"], image.get_content_disposition()) == ("<logo>", "inline")
    assert children(message)[1].get_content_disposition() == "attachment"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"subject": "订单确认 SO-1001", "cc": (Address("a", "b.example", "Doe, John"),)},
        {"html": "<p>Größe</p>\n", "attachments": (LOGO,)},
        {"html": "<p>x</p>\n", "attachments": (LOGO, PDF), "reply_to": (Address("r", "b.example"),)},
    ],
)
def test_it_means_what_the_standard_library_would_have_built(changes: dict[str, Any]) -> None:
    content = BASE._replace(**changes)
    theirs = EmailMessage(policy=policy.SMTP)
    theirs["Subject"] = content.subject
    theirs["From"] = str(content.from_)
    for name, found in (("To", content.to), ("Cc", content.cc), ("Reply-To", content.reply_to)):
        if found:
            theirs[name] = ", ".join(map(str, found))
    theirs.set_content(content.text)
    if content.html:
        theirs.add_alternative(content.html, subtype="html")
    for part in content.attachments:
        maintype, subtype = part.content_type.split("/")
        if part.content_id:
            html = children(theirs)[1]
            assert isinstance(html, EmailMessage)
            cid = f"<{part.content_id}>"
            html.add_related(part.content, maintype, subtype, cid=cid, disposition="inline", filename=part.filename)
        else:
            theirs.add_attachment(part.content, maintype=maintype, subtype=subtype, filename=part.filename)
    expected = message_from_bytes(theirs.as_bytes(), policy=policy.default)
    built = message_from_bytes(build(content)[0], policy=policy.default)
    assert tree(built) == tree(expected)
    for name in ("Subject", "From", "To", "Cc", "Reply-To"):
        assert built[name] == expected[name]
    for ours, other in zip(built.walk(), expected.walk(), strict=True):
        assert ours.get_filename() == other.get_filename()
        assert ours.get_content_disposition() == other.get_content_disposition()
        assert ours.is_multipart() or ours.get_content() == other.get_content()


def test_the_fixed_headers_follow_from_the_content() -> None:
    message = read(BASE)
    assert message["Date"] == "Mon, 21 Sep 2026 14:13:20 +0000"
    assert message["Message-ID"] == "<Ab-_0123456789@example.com>"
    assert message["From"] == "ERP <erp@example.com>"


def test_blind_copies_only_means_undisclosed_recipients() -> None:
    assert read(BASE._replace(to=()))["To"] == "undisclosed-recipients:;"
    only_cc = read(BASE._replace(to=(), cc=(Address("a", "b.example"),)))
    assert (only_cc["To"], only_cc["Cc"]) == (None, "a@b.example")


def test_smtputf8_is_asked_for_only_by_a_local_part() -> None:
    assert build(BASE._replace(to=(parse("李雷 <li@例え.jp>", "to"),)))[1] is False
    raw, utf8 = build(BASE._replace(cc=(parse("Jörg <jörg@example.com>", "cc"),)))
    assert utf8
    assert "<jörg@example.com>" in raw.decode()
    assert build(BASE._replace(headers=(("Sender", "ü@example.com"),)))[1] is True


def test_of_two_headers_with_one_name_the_later_counts() -> None:
    message = read(BASE._replace(headers=(("X-Order", "1"), ("x-order", "2"))))
    assert message.get_all("X-Order") == ["2"]


def test_an_unsubscribe_link_is_never_encoded_however_long() -> None:
    link = f"<https://example.com/{'u' * 300}>, <mailto:u@example.com>"
    message = read(
        BASE._replace(headers=(("List-Unsubscribe", link), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")))
    )
    assert message["List-Unsubscribe"].replace("\r\n", "") == link
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_a_whole_message_travels_as_a_file() -> None:
    part = Part(b"Subject: x\r\n\r\nbody", "message/rfc822", "mail.eml")
    attached = children(read(BASE._replace(attachments=(part,))))[1]
    assert attached.get_content_type() == "application/octet-stream"
    assert attached.get_filename() == "mail.eml"
    assert attached.get_payload(decode=True) == part.content


def test_what_was_encoded_before_is_taken_as_it_is() -> None:
    kept = replace(PDF, encoded=encode_bytes(PDF.content))
    assert build(BASE._replace(attachments=(kept,))) == build(BASE._replace(attachments=(PDF,)))


@pytest.mark.parametrize(
    "control", ["\r", "\n", "\r\nBcc: x@y.example", "\n\n<html>", "\0", "\x85", "\u2028", "\ud800"]
)
def test_a_line_end_gets_in_through_no_field(control: str) -> None:
    evil = f"a{control}b"
    changes: list[dict[str, Any]] = [
        {"subject": evil},
        {"public_id": evil},
        {"from_": Address("a", "b.example", evil)},
        {"to": (Address(evil, "b.example"),)},
        {"cc": (Address("a", evil),)},
        {"reply_to": (Address("a", "b.example", evil),)},
        {"headers": (("X-A", evil),)},
        {"headers": ((evil, "x"),)},
        {"headers": (("References", evil),)},
        {"headers": (("Sender", f"{evil}@b.example"),)},
        {"attachments": (replace(PDF, filename=evil),)},
        {"attachments": (replace(PDF, content_type=f"application/{evil}"),)},
        {"attachments": (replace(PDF, content_type=f'text/csv; charset="{evil}"'),)},
        {"attachments": (replace(PDF, content_type=f"text/csv;{control}charset=x"),)},
        {"html": "<p>", "attachments": (replace(LOGO, content_id=evil),)},
    ]
    for change in changes:
        with pytest.raises((ValueError, InvalidAddress)):
            build(BASE._replace(**change))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Order", "SO-1001"),
        ("X-Note", "Größe 李雷"),
        ("Auto-Submitted", "auto-generated"),
        ("Precedence", "bulk"),
        ("List-Unsubscribe", "<https://example.com/u>"),
        ("List-Id", "Neuigkeiten für alle <news.example.com>"),
        ("References", "<a@b.example> <c@d.example>"),
        ("In-Reply-To", "<a@b.example>"),
        ("Sender", "Büro <office@example.com>"),
        ("Importance", ""),
    ],
)
def test_a_producer_may_set_other_headers(name: str, value: str) -> None:
    mime.check_header(name, value, f"headers.{name}")
    assert shown(read(BASE._replace(headers=((name, value),)))[name]) == value


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *((name, "x", "field") for name in ("From", "TO", "cc", "Bcc", "Reply-To", "Subject")),
        *(
            (name, "x", "sets it")
            for name in ("Date", "message-id", "MIME-Version", "Content-Type", "content-id", "Resent-Bcc")
        ),
        *((name, "x", "sets it") for name in ("Return-Path", "Received", "DKIM-Signature")),
        ("Bcc ", "x", "not a header name"),
        ("X-Größe", "x", "not a header name"),
        ("X-A:", "x", "not a header name"),
        ("X-A", "a\r\nBcc: b@c.example", "line break"),
        ("X-A", "a\x00", "control character"),
        ("References", "<ü@b.example>", "ASCII"),
        ("References", "x" * 999, "998"),
        ("Sender", "nobody", "not an email address"),
        ("Sender", "a@b.example, c@d.example", "one address"),
        ("Sender", "a@b.example\nBcc: x@y.example", "control character"),
    ],
)
def test_a_producer_may_not_set_these(name: str, value: str, reason: str) -> None:
    with pytest.raises(SubmissionError, match=re.escape(reason)) as caught:
        mime.check_header(name, value, "recipients[2].headers.X")
    assert caught.value.field == "recipients[2].headers.X"
    with pytest.raises((ValueError, SubmissionError)):
        build(BASE._replace(headers=((name, value),)))


@pytest.mark.parametrize(
    ("content_type", "filename", "content_id", "field"),
    [
        ("pdf", None, None, "content_type"),
        ("application/", None, None, "content_type"),
        ("application/pdf\r\nX: y", None, None, "content_type"),
        ("text/csv; charset", None, None, "content_type"),
        ("multipart/mixed; boundary=x", None, None, "content_type"),
        ("a/" + "b" * 200, None, None, "content_type"),
        ("application/pdf", "a\nb.pdf", None, "filename"),
        ("application/pdf", None, "a b", "content_id"),
        ("application/pdf", None, "a>\r\nX: <b", "content_id"),
        ("application/pdf", None, "ü", "content_id"),
    ],
)
def test_an_attachment_that_no_mail_can_hold_is_named(
    content_type: str, filename: str | None, content_id: str | None, field: str
) -> None:
    with pytest.raises(SubmissionError) as caught:
        mime.check_attachment(content_type, filename, content_id, "attachments[1]")
    assert caught.value.field == f"attachments[1].{field}"


def test_an_attachment_that_passes_the_check_can_be_built() -> None:
    for part in (PDF, LOGO, Part(b"a,b", "text/csv; charset=utf-8; header=present", "表.csv", "<x@y>")):
        mime.check_attachment(part.content_type, part.filename, part.content_id, "attachments[0]")
        built = children(read(BASE._replace(attachments=(part,))))[1]
        assert built.get_content_type() == part.content_type.partition(";")[0]
    assert built.get_content_charset() == "utf-8"
    assert built["Content-ID"] == "<x@y>"
