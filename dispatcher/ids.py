"""Public ids: random where they start, so that nobody guesses one, and verifiable where they go on.

    vqzr3k5lhtc2mnda                  a submission: 80 random bits
    vqzr3k5lhtc2mnda-1-f3kq2a         its first message; the tag follows from the submission's secret seed
    vqzr3k5lhtc2mnda-1-f3kq2a.2       the second recipient (delivery) of that message

All are lower-case base32 (RFC 4648 section 6), safe in a Message-ID (RFC 5322) and in a local part.
"""

import hashlib
import re
import secrets
import struct
from dataclasses import dataclass

_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]  # the library's base32 is the slowest of all steps
_LETTERS = (_DIGITS * 8).encode()  # the digit that five bits of a random byte make
_SUBMISSION_LENGTH = 16
_REFERENCE = re.compile(
    r"<?(?P<submission>[a-z2-7]{16})(?:-(?P<n>[1-9][0-9]{0,9})-(?P<tag>[a-z2-7]{6})(?:\.(?P<k>[1-9][0-9]{0,6}))?)?(?:@[^\s<>@]+)?>?"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """An id that was taken apart: a submission, or its message ``n``, or that message's delivery ``k`` (from 1)."""

    submission: str
    n: int | None = None
    tag: str | None = None
    k: int | None = None

    def fits(self, seed: int) -> bool:
        """Whether the tag is the one that the submission's seed gives: a guessed id does not fit."""
        if self.n is None or self.tag is None:
            return True
        return secrets.compare_digest(self.tag, _tag(seed, self.n))


def new_submissions(count: int) -> list[tuple[str, int]]:
    """For so many submissions, public ids that were never given before, and seeds that their tags follow from.

    A seed has 63 random bits, so that it fits a signed SQL integer.
    """
    letters = secrets.token_bytes(_SUBMISSION_LENGTH * count).translate(_LETTERS).decode("ascii")
    seeds = struct.unpack(f"{count}Q", secrets.token_bytes(8 * count))
    starts = range(0, len(letters), _SUBMISSION_LENGTH)
    return [(letters[at : at + _SUBMISSION_LENGTH], seed >> 1) for at, seed in zip(starts, seeds, strict=True)]


def message_id(submission: str, seed: int, n: int) -> str:
    """The public id of the submission's message ``n`` (from 1)."""
    return f"{submission}-{n}-{_tag(seed, n)}"


def delivery_id(message: str, k: int) -> str:
    """The public id of the message's recipient ``k`` (from 1)."""
    return f"{message}.{k}"


def parse(text: str) -> Reference | None:
    """Take apart a submission's, message's or delivery's id, or a Message-ID with or without ``<``, ``@domain``, ``>``.

    None when it cannot be one of ours. Whether it stands for anything, and fits its seed, the ledger knows.
    """
    found = _REFERENCE.fullmatch(text.strip())
    if found is None:
        return None
    n, k = found["n"], found["k"]
    return Reference(found["submission"], int(n) if n else None, found["tag"], int(k) if k else None)


def _tag(seed: int, n: int) -> str:
    digest = hashlib.blake2b(n.to_bytes(8, "big"), digest_size=4, key=seed.to_bytes(8, "big")).digest()
    number = int.from_bytes(digest, "big")
    return _PAIRS[number & 1023] + _PAIRS[number >> 10 & 1023] + _PAIRS[number >> 20 & 1023]  # for every mail: no loop


def _base32(number: int, length: int) -> str:
    """The lowest digits of a number, of which ``length``, an even one, are wanted."""
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(0, 5 * length, 10)])
