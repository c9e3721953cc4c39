"""An HTML document as what it consists of, so that two can be compared."""

from html.parser import HTMLParser
from typing import Any


class Markup(HTMLParser):
    """``found``: tags, texts and comments in order, without styles; ``styles``: the declarations of each element."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[Any] = []
        self.styles: list[tuple[str, dict[str, str]]] = []
        self.within = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.within = tag == "style"
        if not self.within:
            declared = ((dict(attrs).get("style") or "").replace('"', "'")).split(";")
            pairs = (part.partition(":") for part in declared if part.strip())
            self.styles += [(tag, {key.strip(): value.strip() for key, _, value in pairs})] if tag != "tbody" else []
            self.found.append((tag, sorted((name, value or "") for name, value in attrs if name != "style")))

    def handle_endtag(self, tag: str) -> None:
        if not self.within:
            self.found.append(f"/{tag}")
        self.within = False

    def handle_data(self, data: str) -> None:
        if not self.within:
            self.found.append(data)

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", data))

    def handle_entityref(self, name: str) -> None:
        self.found.append(("entity", name))

    def handle_charref(self, name: str) -> None:
        self.found.append(("character", name))
