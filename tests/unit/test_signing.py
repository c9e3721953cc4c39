"""A signed document: one changed byte, and it is none of ours."""

import json

import pytest

from dispatcher import signing
from dispatcher.errors import InvalidToken

OLD, NEW = "the-old-key-of-ours", "the-new-key-of-ours"
DOCUMENT = {"report": {"name": "november"}, "lines": [{"address": "李@example.com", "state": "sent"}]}


def test_the_first_key_signs_and_all_verify() -> None:
    before = signing.signed(DOCUMENT, [OLD])
    assert signing.read(before, [NEW, OLD]) == DOCUMENT
    assert signing.read(signing.signed(DOCUMENT, [NEW, OLD]), [NEW]) == DOCUMENT
    with pytest.raises(InvalidToken):
        signing.read(before, [NEW])


def test_no_byte_of_it_can_be_changed() -> None:
    text = signing.signed(DOCUMENT, [OLD])
    for place in range(len(text)):
        other = "x" if text[place] != "x" else "y"
        with pytest.raises(InvalidToken):
            signing.read(text[:place] + other + text[place + 1 :], [OLD])
        with pytest.raises(InvalidToken):
            signing.read(text[:place] + text[place + 1 :], [OLD])


def test_the_same_values_written_otherwise_are_not_the_same_document() -> None:
    with pytest.raises(InvalidToken):
        signing.read(json.dumps(json.loads(signing.signed(DOCUMENT, [OLD]))), [OLD])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"signature": 1}', '{"signature": {"hmac_sha256": "x"}}', "{"])
def test_what_is_no_signed_document_is_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        signing.read(text, [OLD])
