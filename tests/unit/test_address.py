"""Addresses as people and programs write them."""

import pickle
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dispatcher import address
from dispatcher.address import envelope, parse
from dispatcher.errors import InvalidAddress
from dispatcher.mail import Address

DISPLAYS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b.c", Address("a", "b.c")),
        ("a@b.example.com", Address("a", "b.example.com")),
        (" a@b.example ", Address("a", "b.example")),
        ("<a@b.example>", Address("a", "b.example")),
        ("Name <a@b.example>", Address("a", "b.example", "Name")),
        ("Name<a@b.example>", Address("a", "b.example", "Name")),
        ('"Quoted, Name" <a@b.example>', Address("a", "b.example", "Quoted, Name")),
        (r'"a \"b\" \\c" <a@b.example>', Address("a", "b.example", r'a "b" \c')),
        ('John "Johnny" Doe <j@b.example>', Address("j", "b.example", "John Johnny Doe")),
        ("Dr. O'Brien (ERP) <a@b.example>", Address("a", "b.example", "Dr. O'Brien (ERP)")),
        ('"李雷" <li@example.com>', Address("li", "example.com", "李雷")),
        ("李雷 <li@example.com>", Address("li", "example.com", "李雷")),
        ("=?utf-8?q?a?= <a@b.example>", Address("a", "b.example", "=?utf-8?q?a?=")),
        ('"a b"@example.com', Address("a b", "example.com")),
        ('X <"a<b@c,"@example.com>', Address("a<b@c,", "example.com", "X")),
        (r'"\"x\\"@example.com', Address('"x\\', "example.com")),
        ('"plain"@example.com', Address("plain", "example.com")),
        ("user@EXÄMPLE.de", Address("user", "xn--exmple-cua.de")),
        ("user@xn--exmple-cua.de", Address("user", "xn--exmple-cua.de")),
        ("a@例え。テスト", Address("a", "xn--r8jz45g.xn--zckzah")),
        ("jörg@exämple.de", Address("jörg", "xn--exmple-cua.de")),
        ("e\u0301@example.com", Address("é", "example.com")),
        ("INFO@Example.COM", Address("INFO", "example.com")),
        ("bounces+42=x@b.example", Address("bounces+42=x", "b.example")),
        ("a@[127.0.0.1]", Address("a", "[127.0.0.1]")),
        ("a@[IPv6:::1]", Address("a", "[IPv6:::1]")),
        ("root@localhost", Address("root", "localhost")),
        ("a@x.test", Address("a", "x.test")),
        ("a@x.invalid", Address("a", "x.invalid")),
        ("a@Printer.LOCAL", Address("a", "printer.local")),
        ("x" * 64 + "@b.example", Address("x" * 64, "b.example")),
    ],
)
def test_reads_every_form_of_one_mailbox(text: str, expected: Address) -> None:
    assert parse(text, "to") == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("nobody", 'no "@"'),
        ("a@", "after the @"),
        ("@b.example", "before the @"),
        ("a..b@c.example", "periods"),
        (".a@c.example", "period"),
        ("a b@c.example", "SPACE"),
        ("a@-b.example", "hyphen"),
        ("a@b_c.example", "_"),
        ("a@b.example.", "period"),
        ("a@1.2.3.4", "brackets"),
        ("a@[1.2.3.4.5]", "not valid"),
        ("a@[x]", "brackets"),
        ("a@b.example, c@d.example", "one address each"),
        ("a@b.example; c@d.example", "one address each"),
        ("Doe, John <a@b.example>", "one address each"),
        ("a@b.example c@d.example", "invalid characters: '@', SPACE"),
        ("a@b.example <c@d.example>", "local@domain"),
        ("x <a@b.example> y", "local@domain"),
        ("<<a@b.example>>", "local@domain"),
        ("<a@b.example", "local@domain"),
        ('"a"b@c.example', "close quote"),
        ('" <a@b.example>', "local@domain"),
        ("=?x?q?a?=@b.example", "encoded word"),
        ("a@\u202eb.example", "unsafe"),
        ("x" * 65 + "@b.example", "64 octets"),
        ("ü" * 33 + "@b.example", "64 octets"),
        ("a@" + "b" * 64 + ".example", "too many"),
        ("a@" + ("b" * 60 + ".") * 4 + "example.com", "too long"),
        ('"' + "\\'" * 100 + '"@b.example', "64 octets"),
        ("N" * 501 + " <a@b.example>", "500 characters"),
        ("a@b.example" + " " * 2000, "2000 characters"),
    ],
)
def test_refuses_what_smtp_cannot_carry_with_one_clear_line(text: str, reason: str) -> None:
    with pytest.raises(InvalidAddress, match=re.escape(reason)) as caught:
        parse(text, "recipients[3].to")
    assert caught.value.field == "recipients[3].to"
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    "control", ["\r", "\n", "\0", "\t", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
)
@pytest.mark.parametrize(
    "form", ["a{}@b.example", "a@b{}.example", "N{} <a@b.example>", '"N{}" <a@b.example>', "a@b.example{}"]
)
def test_refuses_a_control_character_anywhere(form: str, control: str) -> None:
    with pytest.raises(InvalidAddress, match="control character"):
        parse(form.format(control), "to")


@given(
    st.from_regex(r"[A-Za-z0-9.+=?_-]{1,70}@[A-Za-z0-9.-]{1,80}\.(com|test|c0|x)", fullmatch=True)
    | st.from_regex(r"[a-z]{1,64}@([a-z]{1,64}\.){1,5}[a-z]{1,64}", fullmatch=True)
)
@example("a@b--c.example")
@example("a@xn--a.example")
def test_the_short_way_and_the_long_way_agree(text: str) -> None:
    assume(address._PLAIN.fullmatch(text) and len(text) <= 254)
    local, domain = address._checked(text)
    assert parse(text, "to") == Address(local, domain.lower())


@given(
    DISPLAYS, st.sampled_from(["a@b.example", '"a \\"b"@b.example', "ü@exämple.de", "a@[127.0.0.1]", "root@localhost"])
)
@example("\\", "a@b.example")
@example(" ", "a@b.example")
def test_an_address_survives_being_written_and_read_again(display: str, spec: str) -> None:
    quoted = display.replace("\\", "\\\\").replace('"', '\\"')
    first = parse(f'"{quoted}" <{spec}>', "to")
    assert parse(str(first), "to") == first
    assert parse(first.spec, "to") == Address(first.local, first.domain)


@given(
    st.text(max_size=80) | st.from_regex(r'[a-z"\\<>@.,; \[\]éＡ\n]{0,40}@[a-z.\[\]:0-9é<>" ]{0,30}', fullmatch=True)
)
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = parse(text, "to")
    except InvalidAddress:
        return
    assert len(found.spec.encode()) <= 254
    assert found.domain.isascii()
    assert not re.search(r"[\x00-\x1f\x7f]", str(found))
    assert parse(str(found), "to") == found


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "text",
    ["a." * 120 + "@", '"' * 1999, '"\\' * 990, "a@" + "b-" * 900, "<" * 1999, "a@" + "b." * 125, "x " * 990 + "<"],
)
def test_hostile_text_is_refused_without_delay(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse(text, "to")


def test_the_envelope_has_no_display_name() -> None:
    assert envelope(parse('N <"a b"@exämple.de>', "to")) == '"a b"@xn--exmple-cua.de'
