"""The skeleton of a Jinja source: its HTML tags, if what they are and where they stand is the same for all data.

The source is read with its Jinja masked, character by character, so that every place in it stays where it is.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dispatcher.inheritance import Piece

NUMBER = "data-number"
_MASK, _EXPRESSION = "\ue000", "\ue001"
_MASKED = re.compile(f"[{_MASK}{_EXPRESSION}]")
_MARKUP = re.compile(
    r"<!--.*?-->"
    r"|<!doctype[^>]*>"
    r"|</(?P<end>[a-z][^\s/>]*)[^>]*>"
    r"|<(?P<start>[a-z][^\s/>]*)(?P<attributes>(?:\"[^\"]*\"|'[^']*'|[^>\"'])*)>"
    rf"|(?P<stray></?[a-z!?{_MASK}{_EXPRESSION}])",
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE = re.compile(rf"([^\s=/>\"'{_MASK}{_EXPRESSION}]+)(?:\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s>\"']+))?")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_SEEN = frozenset({"class", "id", "style"})
_RAW_TEXT = frozenset({"style", "script", "title", "textarea", "xmp", "iframe", "noembed", "noframes"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
)
_OPENS = frozenset({"if", "for", "with", "block"})
_TURNS = frozenset({"elif", "else"})
_CLOSES = frozenset({"endif", "endfor", "endwith", "endblock"})
# What may write markup of its own, or a part of the source a second time.
_WRITES_MARKUP = re.compile(r"\b(safe|urlize|xmlattr|self|super|caller|Markup)\b|\bloop\s*\(")
# Selectors that depend on siblings, contents or other attributes, all of which the data may change.
_UNSTABLE = re.compile(r"[\[+~]|:(?!:|hover\b|active\b|focus\b|root\b)")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


@dataclass(slots=True)
class Tag:
    """A start tag of the source. ``seen`` tells where the values lie, with their quotes, that CSS goes by."""

    name: str
    end: int  # just past the ">"
    slash: bool
    seen: dict[str, tuple[int, int]]
    fluid: bool = False  # the data writes into the style attribute
    element: tuple[int, int] | None = None  # the whole of a raw text element


class Unstable(Exception):
    """The styles of this document depend on the data that it is rendered with."""


class Skeleton:
    """The tags of a Jinja source, numbered, and ``html``: a document of nothing but them and the style sheets.

    Raises Unstable if an element's ancestors, classes or rules depend on the data.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.tags: list[Tag] = []
        self._shadow, self._marks = _shadow(pieces)
        self._parts: list[str] = []
        self._open: list[str] = []
        self._branches: list[tuple[str, int]] = []
        self._read()
        self.html = "".join(self._parts)

    def _read(self) -> None:
        position = 0
        while found := _MARKUP.search(self._shadow, position):
            self._pass(found.start())
            position = found.end()
            if found["stray"]:
                raise Unstable
            if found["end"]:
                self._end(found["end"].lower())
            elif found["start"]:
                position = self._start(found)
            elif not found[0].startswith("<!--"):
                self._parts.append(found[0])
            self._marks = deque(mark for mark in self._marks if mark[0] >= position)
        self._pass(len(self._shadow))
        if self._branches:
            raise Unstable

    def _pass(self, until: int) -> None:
        """Pass the Jinja tags up to a place. Whatever a branch opens it closes, and nothing else."""
        while self._marks and self._marks[0][0] < until:
            keyword = self._marks.popleft()[1]
            if keyword in _OPENS:
                self._branches.append((keyword, len(self._open)))
            elif not self._branches or len(self._open) != self._branches[-1][1]:
                raise Unstable
            elif keyword not in _TURNS:
                self._branches.pop()

    def _end(self, name: str) -> None:
        floor = self._branches[-1][1] if self._branches else 0
        if len(self._open) <= floor or self._open.pop() != name:
            raise Unstable
        self._parts.append(f"</{name}>")

    def _start(self, found: re.Match[str]) -> int:
        """Take a start tag, and of a raw text element all of it; answer where to read on."""
        name = found["start"].lower()
        tag = Tag(name, found.end(), found["attributes"].endswith("/"), self._attributes(found))
        values = {key: self._shadow[begin:end] for key, (begin, end) in tag.seen.items()}
        tag.fluid = bool(_MASKED.search(values.get("style", "")))
        seen = "".join(f" {key}={value}" for key, value in values.items() if not (tag.fluid and key == "style"))
        self._parts.append(f'<{name}{seen} {NUMBER}="{len(self.tags)}">')
        self.tags.append(tag)
        if name in _RAW_TEXT:
            return self._raw_text(tag)
        if name not in _VOID:
            self._open.append(name)
        return found.end()

    def _attributes(self, found: re.Match[str]) -> dict[str, tuple[int, int]]:
        if _MASKED.search(found["start"]):
            raise Unstable
        begin, text = found.start("attributes"), found["attributes"]
        seen: dict[str, tuple[int, int]] = {}
        for attribute in _ATTRIBUTE.finditer(text):
            name = attribute[1].lower()
            if name in _SEEN:
                if not attribute[2] or attribute[2][0] not in "\"'" or name in seen:
                    raise Unstable
                if name != "style" and _MASKED.search(attribute[2]):
                    raise Unstable
                seen[name] = (begin + attribute.start(2), begin + attribute.end(2))
        outside = _QUOTED.sub("", text)
        if _EXPRESSION in outside or (_MASK in outside and seen):  # attributes that come from the data, or may
            raise Unstable
        return seen

    def _raw_text(self, tag: Tag) -> int:
        """Take the rest of an element whose content is no markup; answer where it ends."""
        end = re.compile(rf"</{tag.name}\s*>", re.IGNORECASE).search(self._shadow, tag.end)
        if end is None:
            raise Unstable
        tag.element = (self._shadow.rindex("<", 0, tag.end), end.end())
        if tag.name == "style":
            css = self._shadow[tag.end : end.start()]
            conditional = any(keyword != "block" for keyword, _ in self._branches)
            bare = tag.end == tag.element[0] + len("<style>")  # neither media nor a wish to css-inline
            if conditional or not bare or _MASKED.search(css) or any(map(_UNSTABLE.search, _selectors(css))):
                raise Unstable
            self._parts.append(css)
        self._parts.append(end[0])
        return end.end()


def _shadow(pieces: Sequence[Piece]) -> tuple[str, deque[tuple[int, str]]]:
    """The source with all Jinja masked, character by character, and the places of the tags that make branches."""
    shadow: list[str] = []
    marks: deque[tuple[int, str]] = deque()
    position = 0
    for piece in pieces:
        if piece.kind == "text":
            if _MASKED.search(piece.source):
                raise Unstable
            shadow.append(piece.source)
        else:
            if _WRITES_MARKUP.search(piece.source):
                raise Unstable
            shadow.append((_EXPRESSION if piece.kind == "expression" else _MASK) * len(piece.source))
        if piece.keyword in _OPENS | _TURNS | _CLOSES:
            marks.append((position, piece.keyword))
        elif piece.kind == "tag" and not (piece.keyword == "set" and "=" in piece.words):
            raise Unstable
        position += len(piece.source)
    return "".join(shadow), marks


def _selectors(css: str) -> Iterator[str]:
    """The selectors of a style sheet that stand outside of at-rules. Raises Unstable if its braces do not pair."""
    css = _COMMENT.sub("", css)
    depth, begin, quiet = 0, 0, False
    for found in re.finditer(r"[{};]", css):
        if found[0] == "{":
            if depth == 0:
                prelude = css[begin : found.start()].strip()
                quiet = prelude.startswith("@")
                if not quiet:
                    yield prelude
            depth += 1
        elif found[0] == "}":
            depth -= 1
        if depth == 0:
            begin = found.end()
        if depth < 0 or (depth > 1 and not quiet):
            raise Unstable
    if depth:
        raise Unstable
