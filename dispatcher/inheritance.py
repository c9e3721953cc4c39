"""Jinja source in pieces, and a template with all that it extends and includes as one source.

CSS can only be inlined in a document that is whole. ``flatten`` makes it so without rendering anything; what it
cannot do exactly as Jinja would, it refuses.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

Lexer = Callable[[str], Iterator[tuple[int, str, str]]]

_TRIM = re.compile(r"[-+]?(%\}|\}\}|#\})\s*$")
_SUPER = re.compile(r"\bsuper\b")
_MAX_PIECES = 20_000


class Piece(NamedTuple):
    """A stretch of a template: ``text``, or a Jinja ``tag`` (``{% if .. %}``), ``expression`` or ``raw`` marker.

    ``words`` are the tokens within a tag or expression: ``("extends", '"_layout/base.html"')``.
    """

    kind: str
    source: str
    words: tuple[str, ...] = ()

    @property
    def keyword(self) -> str:
        return self.words[0] if self.kind == "tag" and self.words else ""


class NotFlat(Exception):
    """No single source can be made of it; the reason is for people who wonder."""


def pieces(lex: Lexer, source: str) -> list[Piece]:
    """Cut a template into pieces. Comments vanish, and whitespace control is carried out.

    Joined, they mean the same to an environment that trims nothing. Raises jinja2.TemplateSyntaxError.
    """
    found: list[Piece] = []
    open_: list[str] = []
    words: list[str] = []
    ends = {"block_end": "tag", "variable_end": "expression", "comment_end": "comment"}
    for _, kind, value in lex(source):
        if kind == "data":
            found.append(Piece("text", value))
        elif kind in ("raw_begin", "raw_end"):
            found.append(Piece("raw", "{% raw %}" if kind == "raw_begin" else "{% endraw %}"))
        elif kind in ("block_begin", "variable_begin", "comment_begin"):
            open_, words = [value[:2]], []
        elif kind in ends:
            if kind != "comment_end":
                source_of = "".join(open_) + _TRIM.sub(r"\1", value)
                found.append(Piece(ends[kind], source_of, tuple(words)))
            open_ = []
        else:
            open_.append(value)
            words += [value] if kind != "whitespace" else []
    return found


def flatten(name: str, files: Mapping[str, str], lex: Lexer) -> list[Piece]:
    """The template ``name`` of ``files`` with its layout and its includes in place. Raises NotFlat."""
    found = _document(name, files, lex, depth=0)
    if len(found) > _MAX_PIECES:
        raise NotFlat("too large")
    return found


def _document(name: str, files: Mapping[str, str], lex: Lexer, depth: int) -> list[Piece]:
    if name not in files or depth > 10:  # noqa: PLR2004 - deeper than any layout; a cycle
        raise NotFlat(f"{name} is missing, or includes itself")
    found = _included(pieces(lex, files[name]), files, lex, depth)
    parents = [i for i, piece in enumerate(found) if piece.keyword == "extends"]
    if not parents:
        return found
    if len(parents) > 1 or any(piece.kind == "expression" or piece.keyword for piece in found[: parents[0]]):
        raise NotFlat(f"{name} extends on a condition")
    parent = _document(_constant(found[parents[0]]), files, lex, depth + 1)
    prelude, blocks = _child(name, found[parents[0] + 1 :])
    return prelude + _fill(parent, blocks)


def _constant(tag: Piece) -> str:
    """The file that an ``extends`` or ``include`` names, if it is written out."""
    if len(tag.words) != 2 or tag.words[1][0] not in "'\"" or "\\" in tag.words[1]:  # noqa: PLR2004 - keyword, name
        raise NotFlat(f"{tag.source} is not one file's name")
    return tag.words[1][1:-1]


def _included(found: list[Piece], files: Mapping[str, str], lex: Lexer, depth: int) -> list[Piece]:
    result: list[Piece] = []
    for piece in found:
        if piece.keyword != "include":
            result.append(piece)
            continue
        inner = _document(_constant(piece), files, lex, depth + 1)
        if any(p.keyword in ("set", "macro", "block", "import", "from") for p in inner):
            raise NotFlat(f"{piece.source} has names of its own")
        result += inner
    return result


def _child(name: str, found: list[Piece]) -> tuple[list[Piece], dict[str, list[Piece]]]:
    """What a template that extends another adds: its own ``set`` statements, and its blocks by name."""
    prelude: list[Piece] = []
    blocks: dict[str, list[Piece]] = {}
    rest = iter(found)
    for piece in rest:
        if piece.keyword == "block":
            blocks[_block(piece)] = list(_inside(rest))
        elif piece.keyword == "set" and "=" in piece.words:
            prelude.append(piece)
        elif piece.keyword or piece.kind == "expression":
            raise NotFlat(f"{name}: {piece.source} outside of the blocks")
    return prelude, blocks


def _block(tag: Piece) -> str:
    if len(tag.words) != 2:  # noqa: PLR2004 - keyword, name
        raise NotFlat(f"{tag.source} has modifiers")
    return tag.words[1]


def _inside(rest: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces up to the end of the block that has just begun."""
    depth = 1
    for piece in rest:
        depth += {"block": 1, "endblock": -1}.get(piece.keyword, 0)
        if not depth:
            return
        yield piece


def _fill(parent: Iterable[Piece], blocks: Mapping[str, list[Piece]]) -> list[Piece]:
    """The parent with each block that the child has in place of its own."""
    result: list[Piece] = []
    rest = iter(parent)
    for piece in rest:
        result.append(piece)
        if piece.keyword != "block":
            continue
        below = _fill(_inside(rest), blocks)
        own = blocks.get(_block(piece))
        result += below if own is None else _with_super(own, below)
        result.append(Piece("tag", "{% endblock %}", ("endblock",)))
    return result


def _with_super(own: list[Piece], below: list[Piece]) -> list[Piece]:
    result: list[Piece] = []
    nested = any(piece.keyword == "block" for piece in own)
    for piece in own:
        if piece.kind == "text" or not _SUPER.search(piece.source):
            result.append(piece)
        elif nested or piece.words != ("super", "(", ")"):
            raise NotFlat(f"{piece.source} is more than the block below")
        else:
            result += below
    return result
