"""Names that people give to what they keep here, and what to say when one is not known."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from dispatcher.errors import SubmissionError

MAX_NAME = 100
_NAME = re.compile(r"\w(?:[\w .:+-]*[\w.:+-])?")
_SHOWN = 10


def check_name(name: str) -> str:
    """A name that people type. Raises SubmissionError."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        what = f"up to {MAX_NAME} letters, digits, spaces or _ . : + -, and the first a letter or digit"
        raise SubmissionError("name", f"{name[:40]!r} cannot be one: {what}")
    return name


def unknown(kind: str, name: str, names: Iterable[str]) -> str:
    """``no campaign 'sprng'; did you mean spring?``"""
    known = sorted(names)
    if close := get_close_matches(name, known, n=3):
        return f"no {kind} {name[:MAX_NAME]!r}; did you mean {' or '.join(close)}?"
    listed = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
    return f"no {kind} {name[:MAX_NAME]!r}; there {f'are {listed}' if known else 'is none yet'}"
