"""Patterns with names in braces, such as ``{customer}.pdf``: of files, of links, and of a program's arguments."""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

_MAX_NAME = 255  # octets, wherever files are kept
_TEMPLATED = re.compile(r"\{\{[^}]{0,40}|\{%[^%]{0,40}")
_NAMED = re.compile(r"\{([^{}]*)\}")


def literal_fault(text: str) -> str:
    """Why this is hardly meant as it stands, where no template is rendered; empty when it may be."""
    found = _TEMPLATED.search(text)
    return f"{found[0]} would stand in the mail like this: only templates have variables" if found else ""


def named(pattern: str) -> set[str]:
    """The names that it asks for."""
    return set(_NAMED.findall(pattern))


def filled(pattern: str, values: Mapping[str, Any], write: Callable[[str], str] = str) -> str:
    """With each name's value in its place. Raises ValueError naming one that has none."""

    def value(match: re.Match[str]) -> str:
        if (found := values.get(match[1])) in (None, ""):
            msg = f"{pattern}: there is no {match[1]!r}"
            raise ValueError(msg)
        return write(str(found))

    return _NAMED.sub(value, pattern)


def file_name(pattern: str, values: Mapping[str, Any]) -> str:
    """Of a file. A value is a part of a name, never a way to another folder. Raises ValueError."""

    def part(text: str) -> str:
        if fault := part_fault(text):
            msg = f"{pattern}: {fault}"
            raise ValueError(msg)
        return text

    return filled(pattern, values, part)


def bare_name(pattern: str, values: Mapping[str, Any]) -> str:
    """Of a file that lies in no other folder, whatever the pattern is. Raises ValueError."""
    made = file_name(pattern, values)
    if fault := part_fault(made):
        raise ValueError(fault)
    return made


def part_fault(text: str) -> str:
    """Why this cannot be a file's name, or in one; empty when it can."""
    if len(text.encode("utf-8", "replace")) > _MAX_NAME:
        return f"{text[:20]!r}... is longer than a file's name may be"
    if text in ("", ".", "..") or any(each in text for each in "/\\\0"):
        return f"{text[:60]!r} cannot be in a file's name"
    return ""


def link(pattern: str, values: Mapping[str, Any]) -> str:
    """A URL, whose values are quoted. Raises ValueError."""
    return filled(pattern, values, lambda text: quote(text, safe=""))


def argument(pattern: str, values: Mapping[str, Any]) -> str:
    """One argument of a program. No value makes an option of it. Raises ValueError."""
    made = filled(pattern, values)
    if made.startswith("-") and not pattern.startswith("-"):
        msg = f"{pattern}: {made[:60]!r} would be an option of the program"
        raise ValueError(msg)
    if "\0" in made:
        msg = f"{pattern}: a NUL cannot be in an argument"
        raise ValueError(msg)
    return made
