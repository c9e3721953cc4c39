"""Texts in transfer encodings: they arrive as they were written, whole or in pieces, in lines that SMTP can carry."""

import base64
import quopri
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher import transfer
from dispatcher.transfer import Fixed, encode_bytes, encode_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.text("From =_.\t\n\r aÜ李")
PIECES = st.lists(
    TEXTS | st.sampled_from(["From ", "\nFrom ", "\r", "\n", " ", ".", "=", "x" * 75, "x" * 76]), max_size=12
)
DECODE = {"7bit": lambda body: body, "quoted-printable": quopri.decodestring, "base64": base64.b64decode}


def canonical(text: str) -> bytes:
    """What arrives of a text: CRLF line ends, one at the end, and nothing else changed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return (text if text.endswith("\n") else f"{text}\n").replace("\n", "\r\n").encode()


@given(PIECES)
@example([])
@example([""])
@example(["a\r", "\nb"])
@example(["a\r"])
@example(["a ", "\n", "b\t", "\n"])
@example(["é" + "x" * 71, "=y", "z" * 75, ".", "\n.", "From "])
@example(["é\nFr", "om me"])
@example(["From " * 40])
@example(["é", *["From "] * 40])
def test_pieces_arrive_as_the_text_that_they_make(pieces: list[str]) -> None:
    encoding, body = encode_text(pieces)
    assert DECODE[encoding](body) == canonical("".join(pieces))
    assert encode_text(pieces) == (encoding, body)
    check_lines(body)


@given(TEXTS)
def test_a_whole_text_arrives_as_its_pieces_would(text: str) -> None:
    encoding, body = encode_text(text)
    assert DECODE[encoding](body) == canonical(text)
    check_lines(body)


def check_lines(body: bytes) -> None:
    """RFC 2045 sections 2.7, 6.7 and 6.8; and none that a mailbox would take for the beginning of a mail."""
    assert body.isascii()
    assert body.endswith(b"\r\n")
    assert body.count(b"\n") == body.count(b"\r") == body.count(b"\r\n")
    for line in body.split(b"\r\n"):
        assert len(line) <= 76
        assert not line.startswith(b"From ")
        assert not line.endswith((b" ", b"\t"))
    assert b"=_" not in body  # no boundary of ours can stand there


@pytest.mark.parametrize("pieces", [("<p>é", "Ada", "</p>\n"), ("李", "雷" * 50), ("plain\n", "text\n")])
def test_pieces_and_their_whole_take_the_same_encoding(pieces: Sequence[str]) -> None:
    assert encode_text(pieces)[0] == encode_text("".join(pieces))[0]


def test_what_is_kept_of_pieces_is_bounded() -> None:
    encode_text(["é" * 1000])
    for n in range(10_000):
        encode_text([f"é {n}"])
    kept = transfer._kept.cache_info()
    assert kept.currsize <= kept.maxsize == 4096


def test_a_fixed_text_is_encoded_once() -> None:
    text = Fixed("é" * 100)
    encode_text([text, "a"])
    kept = text.kept
    assert encode_text([text, "a"]) == encode_text([str(text), "a"])
    assert text.kept is kept is not None


@given(st.binary(max_size=400))
@example(b"x" * 57)
@example(b"x" * 58)
def test_base64_is_in_lines_of_76(content: bytes) -> None:
    lines = encode_bytes(content).split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) == 76 for line in lines[:-1])
    assert all(0 < len(line) <= 76 for line in lines)
