"""CSS into style attributes: many mail clients read nothing else.

An inliner that is fed Jinja source moves ``{% for %}`` out of tables and escapes ``>``. So it never sees any: it gets
a skeleton, the document's tags alone, numbered; from what comes back only each element's style is taken, and written
into the source where that element begins. Nothing else of the source is touched. Where a style could depend on the
data (a class from a variable, ``:nth-child`` in a loop, a tag that only one branch closes) ``inlined`` declines, and
every mail is inlined after it is rendered, which is always right and costs 0.1 ms.
"""

import re
from collections.abc import Sequence
from html import escape
from html.parser import HTMLParser

import css_inline

from dispatcher.inheritance import Piece
from dispatcher.skeleton import NUMBER, Skeleton, Tag, Unstable

# Rules that cannot be inlined (@media, :hover, selectors that match nothing) stay in <style>. A remote style sheet
# is never fetched.
_INLINER = css_inline.CSSInliner(
    keep_style_tags=True, keep_at_rules=True, remove_inlined_selectors=True, load_remote_stylesheets=False
)
_JINJA = re.compile(r"\{[{%#]")


def inline(html: str) -> str:
    """Inline the CSS of a rendered document. Raises ValueError for CSS that cannot be read."""
    return _INLINER.inline(html)


def inlined(pieces: Sequence[Piece]) -> str | None:
    """The Jinja source that these pieces make, with its CSS inlined; None if that has to wait for the data."""
    source = "".join(piece.source for piece in pieces)
    try:
        skeleton = Skeleton(pieces)
        styles = _Styles()
        styles.feed(_INLINER.inline(skeleton.html))
        if styles.count != len(skeleton.tags) or styles.of.keys() != set(range(styles.count)):
            return None
        return _write(source, skeleton.tags, styles)
    except (Unstable, css_inline.InlineError):
        return None


class _Styles(HTMLParser):
    """What comes back from the inliner: ``of`` each numbered element its style, and the ``sheet`` that is left."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[int, str] = {}
        self.count = 0
        self.sheet = ""
        self._within = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._within = tag == "style"
        if number := found.get(NUMBER):
            self.of[int(number)] = found.get("style") or ""
            self.count += 1

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the parser's signature
        self._within = False

    def handle_data(self, data: str) -> None:
        if self._within:
            self.sheet += f"{data.strip()}\n"


def _write(source: str, tags: Sequence[Tag], styles: _Styles) -> str:
    """The source with each element's style in its place, and what is left of the style sheets in that of the first."""
    if any(map(_JINJA.search, (styles.sheet, *styles.of.values()))):
        raise Unstable
    edits: list[tuple[int, int, str]] = []
    sheet = f"<style>\n{styles.sheet}</style>" if styles.sheet.strip() else ""
    for number, tag in enumerate(tags):
        if tag.name == "style" and tag.element:
            edits.append((*tag.element, sheet))
            sheet = ""
        elif style := styles.of[number]:
            edits.append(_edit(source, tag, style))
    for begin, end, text in reversed(edits):
        source = source[:begin] + text + source[end:]
    return source


def _edit(source: str, tag: Tag, style: str) -> tuple[int, int, str]:
    """Where a style is to be written, and as what. It goes before one that the data fills in, which so still wins."""
    style = style.rstrip("; ")
    style = escape(style if "'" in style else style.replace('"', "'"), quote=False)
    begin, end = tag.seen.get("style", (0, 0))
    if not begin:
        begin = end = tag.end - (2 if tag.slash else 1)
        return begin, end, ' style="' + style.replace('"', "&quot;") + '"'
    quote, inner = source[begin], source[begin + 1 : end - 1]
    style = style.replace(quote, "&quot;" if quote == '"' else "&#39;")
    return begin, end, f"{quote}{style};{inner}{quote}" if tag.fluid else f"{quote}{style}{quote}"
