"""Whom not to write to: addresses that are one, scopes, names of lists, and what a bounce says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.address import mailbox
from dispatcher.delivery import Settlement, State
from dispatcher.suppression import ALL, MARKETING, by_bounce, list_name, normal, of_list, scope_of, scopes


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("Li@Example.COM", "li@example.com"),
        ("李雷 <LI@bücher.example>", "li@xn--bcher-kva.example"),
        ('"Li Lei"@example.com', '"li lei"@example.com'),
        ("JO\u0308RG@example.com", "jörg@example.com"),
        ("STRASSE@example.com", "strasse@example.com"),
        ("straße@example.com", "strasse@example.com"),
        ("li+news@example.com", "li+news@example.com"),
        ("Li@[192.0.2.1]", "li@[192.0.2.1]"),
    ],
)
def test_an_address_is_compared_without_name_and_case(written: str, same: str) -> None:
    assert normal(mailbox(written, "to")[0]) == same


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.sampled_from(["example.com", "EXAMPLE.com"]))
def test_a_normal_address_stays_as_it_is(local: str, domain: str) -> None:
    once = normal(f"{local}@{domain}")
    assert normal(once) == once


def test_mail_of_no_list_is_held_by_nothing_but_all() -> None:
    assert scopes(None) == (ALL,)
    assert scopes("news") == (ALL, MARKETING, "list:news")


@pytest.mark.parametrize("name", ["news", "News-2026.q1_a", "新闻", "समाचार", "a" * 64, "café"])
def test_a_list_is_named_in_any_script(name: str) -> None:
    assert list_name(name) == name


@pytest.mark.parametrize("name", ["", "a" * 65, "ß" * 33, "a b", "a/b", "a\n", "\0", "a\u202eb", "list:a", "a\ud800"])
def test_what_is_no_name_for_a_list_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="list"):
        list_name(name)


def test_a_list_is_one_however_its_name_is_written() -> None:
    assert of_list("News") == of_list("nEWS") == scope_of("list:NEWS") == "list:news"
    assert of_list("cafe\u0301") == of_list("CAFÉ")


@pytest.mark.parametrize("scope", ["", "list", "list:", "list:a b", "everything", "ALL"])
def test_what_is_no_scope_is_refused(scope: str) -> None:
    with pytest.raises(ValueError, match=r"scope|list"):
        scope_of(scope)


def bounce(code: int | None, enhanced: str | None, text: str = "", state: State = State.BOUNCED, **fields: str) -> bool:
    return by_bounce(Settlement(1, 1, state, attempted=True, code=code, enhanced=enhanced, text=text, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "phase", "gone"),
    [
        (550, "5.1.1", "no such user", "rcpt", True),
        (550, "5.1.1", "no such user", "final", True),
        (550, "5.1.1", "", None, True),
        (501, "5.1.3", "bad address syntax", "rcpt", True),
        (551, "5.1.6", "moved, no forwarding address", "rcpt", True),
        (556, "5.1.10", "null MX", "rcpt", True),
        (550, "5.2.1", "mailbox disabled", "rcpt", True),
        (550, "5.1.1", "sender address rejected", "mail", False),  # none was named yet
        (550, "5.1.1", "your sending rate limit is exceeded", "rcpt", False),
        (550, "5.1.2", "no such domain", "rcpt", False),
        (550, "5.1.0", "address rejected", "rcpt", False),
        (553, "5.1.7", "bad sender", "mail", False),
        (552, "5.2.2", "mailbox full", "rcpt", False),
        (550, "5.2.0", "mailbox trouble", "rcpt", False),
        (550, "5.4.5", "daily quota", "rcpt", False),
        (550, "5.7.1", "policy", "rcpt", False),
        (550, None, "user unknown", "rcpt", False),  # of class recipient, and yet not in as many words
        (550, None, "no", "rcpt", False),
        (450, "5.1.1", "no such user", "rcpt", False),
        (None, "5.1.1", "", "rcpt", False),
    ],
)
def test_an_address_is_suppressed_by_what_cannot_mean_anything_else(
    code: int | None, enhanced: str | None, text: str, phase: str | None, gone: bool
) -> None:
    assert bounce(code, enhanced, text, phase=phase) is gone  # type: ignore[arg-type]


@pytest.mark.parametrize(("phase", "gone"), [("rcpt", True), ("data", False), ("final", False), (None, False)])
def test_of_several_recipients_only_what_was_said_at_rcpt_is_about_one(phase: str | None, gone: bool) -> None:
    said = Settlement(1, 1, State.BOUNCED, attempted=True, code=550, enhanced="5.1.1", text="no such user", phase=phase)
    assert by_bounce(said)
    assert by_bounce(said, 2) is gone


@pytest.mark.parametrize("state", [state for state in State if state is not State.BOUNCED])
def test_no_other_end_suppresses(state: State) -> None:
    assert not bounce(550, "5.1.1", "no such user", state)
