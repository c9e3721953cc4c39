"""YAML files as documents whose every place has its line. Values are what JSON has: ``09:00`` and ``no`` are texts,
whatever YAML 1.1 makes of them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from dispatcher.errors import AutomationError

_PLAIN = {"true": True, "false": False, "null": None, "~": None, "": None}
_TAGS = "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"
_MAX_DEPTH = 50
_MAX_PLACES = 20_000  # a few aliases of aliases could be a thousand million


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file; ``lines``: where each place in it stands, such as ``steps[0].send.template``."""

    value: Any
    lines: Mapping[str, int]

    def line(self, place: str) -> int:
        """Of a place, or of the nearest one around it."""
        while place not in self.lines:
            cut = max(place.rfind("."), place.rfind("["))
            place = place[: max(cut, 0)]
        return self.lines[place]


class _Loader(yaml.SafeLoader):
    """Knows no types but text: what plain scalars are is told by ``_scalar``."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - as the library declares it


def read(text: str, name: str) -> list[Document]:
    """The documents of a file. Raises AutomationError naming file and line."""
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise AutomationError(f"{name}:{line}", f"is no YAML: {error.problem}") from None
    except yaml.YAMLError as error:  # a character that cannot be
        raise AutomationError(name, f"is no YAML: {error}".split("\n", 1)[0]) from None
    except RecursionError:
        raise AutomationError(name, f"is no YAML: nested deeper than {_MAX_DEPTH}") from None
    return [_document(node, name) for node in nodes if node is not None]


def _document(node: yaml.Node, name: str) -> Document:
    lines: dict[str, int] = {}
    return Document(_value(node, "", lines, name, _MAX_DEPTH), lines)


def _value(node: yaml.Node, place: str, lines: dict[str, int], name: str, depth: int) -> Any:
    here = node.start_mark.line + 1
    lines.setdefault(place, here)
    if node.tag not in _TAGS:
        raise AutomationError(f"{name}:{here}", f"{node.tag!r} is not understood here: write plain YAML")
    if depth == 0:  # also who refers to what they stand in
        raise AutomationError(f"{name}:{here}", f"nested deeper than {_MAX_DEPTH}")
    if len(lines) > _MAX_PLACES:
        raise AutomationError(f"{name}:{here}", f"more than {_MAX_PLACES} places in one document")
    if isinstance(node, yaml.MappingNode):
        return dict(_pairs(node, place, lines, name, depth))
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, f"{place}[{n}]", lines, name, depth - 1) for n, each in enumerate(node.value)]
    quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
    return node.value if quoted else _scalar(str(node.value))


def _pairs(
    node: yaml.MappingNode, place: str, lines: dict[str, int], name: str, depth: int
) -> Iterator[tuple[str, Any]]:
    seen = set[str]()
    for key, value in node.value:
        at = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise AutomationError(f"{name}:{at}", "a name must be a text")
        if key.value in seen:
            raise AutomationError(f"{name}:{at}", f"{key.value} stands here twice")
        seen.add(key.value)
        inner = f"{place}.{key.value}" if place else str(key.value)
        lines[inner] = at
        yield str(key.value), _value(value, inner, lines, name, depth - 1)


def _scalar(text: str) -> Any:
    """As JSON, and YAML 1.2's core schema, have plain words and numbers."""
    if text in _PLAIN:
        return _PLAIN[text]
    for kind in (int, float):
        try:
            found = kind(text)
            finite = math.isfinite(found)
        except (ValueError, OverflowError):  # no number, or one that no program could do anything with
            continue
        if text[0] in "+-.0123456789" and "_" not in text and finite:
            return found if not _leads(text) else text
    return text


def _leads(text: str) -> bool:
    """Whether it has a zero in front, as postcodes and phone numbers have: then it is a text."""
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
