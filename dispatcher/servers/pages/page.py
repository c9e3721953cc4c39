"""One page in the reader's language."""

import base64
import hashlib
import tomllib
from collections.abc import Collection
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).parent


class Page:
    """Each method gives a whole document; ``headers`` go with it."""

    def __init__(self, language: str) -> None:
        self._language = language
        self.headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Language": language,
            "Vary": "Accept-Language",
            "Content-Security-Policy": (
                f"default-src 'none'; style-src '{_style()[1]}'; form-action 'self'; base-uri 'none'; "
                "frame-ancestors 'none'"
            ),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Robots-Tag": "noindex",
            "Cache-Control": "no-store",
        }

    def unsubscribe(
        self, address: str, name: str, *, done: str, left: Collection[str], undoable: Collection[str]
    ) -> str:
        """``done``: what was just asked for, if anything; ``left``: what the address gets no more (``list``,
        ``marketing``); ``undoable``: what of it may be undone here."""
        if "marketing" in left:
            state = "left_all"
        elif "list" in left:
            state = "left"
        else:
            state = "back" if done.startswith("undo") else "ask"
        return self._show("unsubscribe.html", state=state, address=address, name=name, left=left, undoable=undoable)

    def fault(self, status: HTTPStatus) -> str:
        """Why there is no other page."""
        told = _words()[self._language]["faults"]
        heading, lead = told.get(str(status.value), told["400"])
        return self._show("fault.html", heading=heading, lead=lead)

    def health(self) -> str:
        """For who only wants to know that there is an answer."""
        self.headers["Content-Type"] = "text/plain; charset=utf-8"
        return "ok\n"

    def _show(self, template: str, **values: object) -> str:
        words = _words()[self._language]
        return (
            _pages()
            .get_template(template)
            .render(language=self._language, words=words, style=_style()[0], say=_say, **values)
        )


def language(accepted: str) -> str:
    """The language that a reader likes best of those that there are (RFC 9110 section 12.5.4)."""
    best = 0.0, "en"
    for item in accepted.split(","):
        tag, _, weight = item.strip().partition(";")
        try:
            liked = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        known = {"zh": "zh-CN", "en": "en"}.get(tag.strip().lower().partition("-")[0])
        if known and liked > best[0]:
            best = liked, known
    return best[1]


def _say(text: str, **values: str) -> Markup:
    """A sentence with what it is about, marked: an address or a name may be of any script, and as long as it likes."""
    return Markup(text).format(**{name: Markup("<bdi>{}</bdi>").format(value) for name, value in values.items()})  # noqa: S704 - our words


@cache
def _words() -> dict[str, Any]:
    return tomllib.loads((_FOLDER / "words.toml").read_text(encoding="utf-8"))


@cache
def _pages() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _style() -> tuple[Markup, str]:
    """The style sheet, which stands in the page, and the hash by which the page may use it."""
    text = (_FOLDER / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"  # noqa: S704 - our own file
