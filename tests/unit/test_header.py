"""Header fields byte by byte: folded, encoded, and closed to injection."""

import re
import time
from collections.abc import Callable
from email import message_from_bytes
from email.header import decode_header, make_header
from email.utils import collapse_rfc2231_value, parsedate_to_datetime
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher import header
from dispatcher.mail import Address
from tests.addresses import read_addresses

TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=200)
ASCII = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300)
ANY = st.text(st.characters(), max_size=120) | st.text("a\r\n\0 \t:\x85\u2028ü=?", max_size=40)
CONTROLS = (
    "\r",
    "\n",
    "\r\nBcc: x@y.example",
    "\0",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1e",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\udc80",
)

FIELDS: dict[str, Callable[[str], bytes]] = {
    "unstructured": lambda text: header.unstructured("X-Any", text),
    "unstructured name": lambda text: header.unstructured(text, "value"),
    "identifier": lambda text: header.identifier("X-Any", text),
    "identifier name": lambda text: header.identifier(text, "value"),
    "display": lambda text: header.addresses("To", [Address("a", "b.example", text)]),
    "local": lambda text: header.addresses("To", [Address(text, "b.example", "N")], utf8=True),
    "domain": lambda text: header.addresses("To", [Address("a", text, "N")]),
    "value": lambda text: header.parameterised("Content-Type", text, [("a", "b")]),
    "parameter": lambda text: header.parameterised("Content-Type", "a/b", [("name", text)]),
    "parameter name": lambda text: header.parameterised("Content-Type", "a/b", [(text, "b")]),
}


def raw_value(field: bytes) -> str:
    """What stands after the colon, unfolded (RFC 5322 section 2.2.3): only the line ends go."""
    return field.decode().removesuffix("\r\n").replace("\r\n", "").split(":", 1)[1].removeprefix(" ")


def decoded(field: bytes) -> str:
    """The value as a reader shows it (RFC 2047), by the standard library."""
    return str(make_header(decode_header(raw_value(field))))


def check_shape(field: bytes, limit: int = 78) -> None:
    assert field.endswith(b"\r\n")
    lines = field[:-2].split(b"\r\n")
    assert not any(set(line) & set(b"\r\n\0") for line in lines)
    assert all(line[:1] in (b" ", b"\t") and line.strip() for line in lines[1:])
    assert all(len(line) <= limit for line in lines)
    for word in re.findall(rb"=\?[^?]*\?[^?]*\?[^?]*\?=", field):
        assert len(word) <= 75


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("control", CONTROLS)
def test_no_line_end_and_no_control_gets_in_anywhere(name: str, control: str) -> None:
    for text in (control, f"a{control}b", f"{control}b", f"a{control}", f"a@b.example{control} x"):
        with pytest.raises(ValueError, match=r".+"):
            FIELDS[name](text)


@pytest.mark.parametrize("name", FIELDS)
def test_any_text_is_refused_or_gives_one_field(name: str) -> None:
    @given(ANY)
    def one_field(text: str) -> None:
        try:
            field = FIELDS[name](text)
        except ValueError:
            return
        check_shape(field, limit=998)
        assert name == "local" or field.isascii()

    one_field()


@pytest.mark.parametrize("name", ["", "A B", "A:", "Größe", "A\t", "A" * 71, ":"])
def test_a_name_must_be_a_field_name(name: str) -> None:
    with pytest.raises(ValueError, match="not a header name"):
        header.unstructured(name, "x")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", b"Subject:\r\n"),
        ("Order SO-1001", b"Subject: Order SO-1001\r\n"),
        ("two  spaces,\ttab", b"Subject: two  spaces,\ttab\r\n"),
        ("Größe 42", b"Subject: =?utf-8?b?R3LDtsOfZSA0Mg==?=\r\n"),
        ("Lieferbestätigung", b"Subject: =?utf-8?q?Lieferbest=C3=A4tigung?=\r\n"),
        ("订单确认", b"Subject: =?utf-8?b?6K6i5Y2V56Gu6K6k?=\r\n"),
        ("a fake =?utf-8?q?word?=", b"Subject: =?utf-8?b?YSBmYWtlID0/dXRmLTg/cT93b3JkPz0=?=\r\n"),
        (" edge ", b"Subject: =?utf-8?q?_edge_?=\r\n"),
        ("a" * 69, b"Subject: " + b"a" * 69 + b"\r\n"),
        ("word " * 14 + "word  last", b"Subject: " + b"word " * 13 + b"word\r\n word  last\r\n"),
    ],
)
def test_free_text_is_written_as_plainly_as_it_can_be(value: str, expected: bytes) -> None:
    assert header.unstructured("Subject", value) == expected


@given(TEXT | ASCII | st.text("a \tü李😀=?_", max_size=300))
@example("a" * 70)
@example("a" * 3000)
@example("😀" * 60)
@example("x \t")
@example("Ü" + "x" * 62)
def test_free_text_is_read_back_exactly(value: str) -> None:
    field = header.unstructured("Subject", value)
    check_shape(field, limit=76 if b"=?" in field else 78)
    assert field.isascii()
    assert decoded(field) == value


@given(TEXT, st.integers(0, 70))
@example("李" * 40, 64)
@example("ü" * 40, 64)
def test_each_encoded_word_is_whole_and_short(text: str, used: int) -> None:
    words = header.encoded_words(text, used)
    assert all(len(word) <= 75 for word in words)
    assert "".join(part.decode("utf-8") for word in words for part, _ in decode_header(word)) == text


def test_the_shorter_of_q_and_b_is_taken() -> None:
    assert header.encoded_words("Bestellbestätigung")[0].startswith("=?utf-8?q?")
    assert header.encoded_words("李雷")[0].startswith("=?utf-8?b?")


@pytest.mark.parametrize(
    ("mailboxes", "expected"),
    [
        ([Address("a", "b.example")], b"To: a@b.example\r\n"),
        ([Address("a", "b.example", "ERP System")], b"To: ERP System <a@b.example>\r\n"),
        ([Address("a", "b.example", "Dr. Who, PhD")], b'To: "Dr. Who, PhD" <a@b.example>\r\n'),
        ([Address("a", "b.example", 'a "b" \\c')], b'To: "a \\"b\\" \\\\c" <a@b.example>\r\n'),
        ([Address("a", "b.example", "李雷")], b"To: =?utf-8?b?5p2O6Zu3?= <a@b.example>\r\n"),
        ([Address("a", "b.example", "=?x?q?y?=")], b"To: =?utf-8?b?PT94P3E/eT89?= <a@b.example>\r\n"),
        ([Address("a", "b.example", "a  b")], b"To: =?utf-8?q?a__b?= <a@b.example>\r\n"),
        ([Address("a b", "b.example", "N")], b'To: N <"a b"@b.example>\r\n'),
        ([Address("a", "[IPv6:::1]")], b"To: a@[IPv6:::1]\r\n"),
        ([Address("a", "b.example"), Address("c", "d.example", "C")], b"To: a@b.example, C <c@d.example>\r\n"),
        (
            [
                Address("first", "example.com", "One"),
                Address("second", "example.com", "Two"),
                Address("thirdperson", "example.com"),
            ],
            b"To: One <first@example.com>, Two <second@example.com>,\r\n thirdperson@example.com\r\n",
        ),
    ],
)
def test_addresses_are_written_as_plainly_as_they_can_be(mailboxes: list[Address], expected: bytes) -> None:
    assert header.addresses("To", mailboxes) == expected


@given(st.lists(TEXT | ASCII, min_size=1, max_size=6))
@example(["x" * 400])
@example(['"' * 300])
@example(["\\ " * 90 + "x"])
def test_addresses_are_read_back_exactly(displays: list[str]) -> None:
    mailboxes = [Address(f"user{n}", "example.com", display) for n, display in enumerate(displays)]
    field = header.addresses("Reply-To", mailboxes)
    check_shape(field, limit=76)
    assert field.isascii()
    found = read_addresses([raw_value(field)])
    assert [spec for _, spec in found] == [mailbox.spec for mailbox in mailboxes]
    assert [str(make_header(decode_header(name))) for name, _ in found] == displays


def test_a_local_part_that_is_not_ascii_needs_smtputf8() -> None:
    address = Address("jörg", "example.com", "Jörg")
    with pytest.raises(ValueError, match="SMTPUTF8"):
        header.addresses("To", [address])
    assert header.addresses("To", [address], utf8=True) == "To: =?utf-8?b?SsO2cmc=?= <jörg@example.com>\r\n".encode()


def test_an_address_field_needs_an_address() -> None:
    with pytest.raises(ValueError, match="needs an address"):
        header.addresses("To", [])


@pytest.mark.parametrize("domain", ["", "b.example>, <x@y.example", "b example", "exämple.de", "b.example,c"])
def test_a_domain_cannot_smuggle_a_second_address(domain: str) -> None:
    with pytest.raises(ValueError, match="is not a domain"):
        header.addresses("To", [Address("a", domain, "N")])


def test_a_local_part_cannot_smuggle_a_second_address() -> None:
    field = header.addresses("To", [Address("a>, <x@y.example", "b.example")])
    assert field == b'To: "a>, <x@y.example"@b.example\r\n'


def test_identifiers_are_folded_at_white_space_and_never_encoded() -> None:
    ids = [f"<{n}.{'x' * 30}@example.com>" for n in range(4)]
    field = header.identifier("References", " ".join(ids))
    check_shape(field)
    assert raw_value(field).split() == ids
    link = f"<https://example.com/{'u' * 200}>, <mailto:unsubscribe@example.com?subject==?utf-8?q?x?=>"
    assert (
        header.identifier("List-Unsubscribe", link)
        == f"List-Unsubscribe: {link.replace(', ', f',{chr(13)}{chr(10)} ')}\r\n".encode()
    )
    with pytest.raises(ValueError, match="ASCII"):
        header.identifier("References", "<ü@example.com>")
    with pytest.raises(ValueError, match="998"):
        header.identifier("References", "x" * 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("invoice.pdf", b'Content-Disposition: attachment; filename="invoice.pdf"\r\n'),
        ("two words.pdf", b'Content-Disposition: attachment; filename="two words.pdf"\r\n'),
        ("README", b"Content-Disposition: attachment; filename=README\r\n"),
        ("", b'Content-Disposition: attachment; filename=""\r\n'),
        ("发票.pdf", b"Content-Disposition: attachment; filename*=utf-8''%E5%8F%91%E7%A5%A8.pdf\r\n"),
        ('a"b\\c.pdf', b"Content-Disposition: attachment; filename*=utf-8''a%22b%5Cc.pdf\r\n"),
        ("=?x?q?y?=", b"Content-Disposition: attachment; filename*=utf-8''%3D%3Fx%3Fq%3Fy%3F%3D\r\n"),
    ],
)
def test_a_parameter_is_written_as_plainly_as_it_can_be(text: str, expected: bytes) -> None:
    assert header.parameterised("Content-Disposition", "attachment", [("filename", text)]) == expected


@given(TEXT | ASCII)
@example("x" * 500)
@example("发" * 100 + ".pdf")
@example("'%*\"\\")
def test_a_parameter_is_read_back_exactly(text: str) -> None:
    field = header.parameterised("Content-Disposition", "attachment", [("filename", text), ("size", "12")])
    check_shape(field)
    assert field.isascii()
    parsed = message_from_bytes(field + b"\r\n")
    found = parsed.get_param("filename", header="Content-Disposition")
    assert found is not None
    assert collapse_rfc2231_value(found) == text
    assert parsed.get_param("size", header="Content-Disposition") == "12"
    sections = re.findall(r"filename\*(\d+)\*=(?:utf-8'')?([^; ]*)", raw_value(field))
    assert [int(number) for number, _ in sections] == list(range(len(sections)))
    assert "".join(unquote(part, errors="strict") for _, part in sections) == (text if sections else "")


@given(st.integers(0, 4102444800))
@example(1790000000)
def test_a_date_is_utc_and_knows_no_locale(seconds: int) -> None:
    text = header.date(seconds + 0.9)
    assert text.endswith(" +0000")
    assert parsedate_to_datetime(text).timestamp() == seconds
    assert text == time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(seconds))


def test_a_message_id_is_one_token() -> None:
    assert header.message_id("Ab_-9", "example.com") == "<Ab_-9@example.com>"
    for local, domain in (("a b", "c"), ("a", "b>"), ("", "b"), ("a\r\n", "b"), ("ü", "b")):
        with pytest.raises(ValueError, match="no message id"):
            header.message_id(local, domain)
