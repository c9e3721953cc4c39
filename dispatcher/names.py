"""Names that people give to what they keep here, and what to say when one is not known."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from dispatcher.errors import SubmissionError

MAX_NAME = 100
_NAME = re.compile(r"\w(?:[\w .:+-]*[\w.:+-])?")
_WORD = re.compile(r"\w[\w.-]*")
_SHOWN = 10


def check_name(name: str) -> str:
    """A name that people type. Raises SubmissionError."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        what = f"up to {MAX_NAME} letters, digits, spaces or _ . : + -, and the first a letter or digit"
        raise SubmissionError("name", f"{name[:40]!r} cannot be one: {what}")
    return name


def is_word(name: str) -> bool:
    """Whether it can be the name of what is also written into other words, as that of an audience: no spaces."""
    return len(name) <= MAX_NAME and _WORD.fullmatch(name) is not None


def suggested(name: str, names: Iterable[str], otherwise: str) -> str:
    """``did you mean spring?``, or what is said where none is close."""
    close = get_close_matches(name, sorted(names), n=3)
    return f"did you mean {' or '.join(close)}?" if close else otherwise


def unknown(kind: str, name: str, names: Iterable[str]) -> str:
    """``no campaign 'sprng'; did you mean spring?``"""
    known = sorted(names)
    listed = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
    otherwise = f"there are {listed}" if known else "there is none yet"
    return f"no {kind} {name[:MAX_NAME]!r}; {suggested(name, known, otherwise)}"
