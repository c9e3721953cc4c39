"""Unsubscribe tokens: what was signed is read, and nothing else."""

import base64
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import unsubscribe
from dispatcher.errors import DispatcherError, InvalidToken
from dispatcher.unsubscribe import chosen, key_id, read, token

KEY, OLD, OTHER = "k" * 32, "o" * 32, "x" * 32
MADE = token("li@example.com", "news", KEY)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=64)


@given(TEXTS, TEXTS)
def test_any_address_and_list_come_back(address: str, name: str) -> None:
    made = token(address, name, KEY)
    assert re.fullmatch("[A-Za-z0-9_-]+", made)
    assert read(made, [OLD, KEY]) == (address, name)
    assert made == token(address, name, KEY)


def test_the_longest_fits_a_header_line() -> None:
    made = token("a" * 64 + "@" + "b" * 189, "\U00020000" * 64, KEY)
    assert read(made, [KEY])[1] == "\U00020000" * 64
    assert len(f"List-Unsubscribe: <https://{'h' * 180}/unsubscribe/{made}>") < 998


@given(st.integers(0, 2000), st.integers(1, 255))
def test_any_byte_that_is_changed_is_refused(at: int, by: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(MADE + "=" * (-len(MADE) % 4)))
    raw[at % len(raw)] ^= by
    changed = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    with pytest.raises(InvalidToken):
        read(changed, [KEY])


@given(st.integers(0, len(MADE) - 1), st.characters(exclude_categories=["Cs"]))
def test_any_letter_that_is_changed_is_refused(at: int, letter: str) -> None:
    changed = MADE[:at] + letter + MADE[at + 1 :]
    if changed != MADE:
        with pytest.raises(InvalidToken):
            read(changed, [KEY])


@given(st.text(max_size=80))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(InvalidToken):
        read(text, [KEY, OLD])


@pytest.mark.parametrize(
    "text", ["", MADE[:-1], MADE + "A", MADE + "=", MADE[:28], f" {MADE}", MADE * 20, "A" * 10_000]
)
def test_what_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        read(text, [KEY])


def test_an_address_of_one_list_is_not_taken_for_another_list() -> None:
    assert read(token("c@example.com", "ab", KEY), [KEY]) != read(token("bc@example.com", "a", KEY), [KEY])


def test_keys_may_be_rotated_as_long_as_the_old_one_verifies() -> None:
    assert read(token("li@example.com", "news", OLD), [KEY, OLD]) == ("li@example.com", "news")
    with pytest.raises(InvalidToken, match="no key of ours"):
        read(token("li@example.com", "news", OLD), [KEY])


def test_a_key_is_found_by_its_id_else_the_first_signs() -> None:
    assert chosen([KEY, OLD], key_id(OLD)) == OLD
    assert chosen([KEY, OLD], key_id(OTHER)) == KEY
    assert KEY not in key_id(KEY)
    assert len(key_id(KEY)) == 8


def test_the_mac_covers_the_id_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsubscribe, "key_id", lambda key: "00000000")
    forged = token("li@example.com", "news", OTHER)
    with pytest.raises(InvalidToken):
        read(forged, [KEY])


def test_the_error_is_one_line_and_pickles() -> None:
    error = InvalidToken("the link is not whole")
    assert isinstance(error, DispatcherError)
    assert str(pickle.loads(pickle.dumps(error))) == "the link is not whole"
