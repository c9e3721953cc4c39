"""Whether a template is sound: it compiles, renders its sample data in every locale, and its HTML is closed."""

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from dispatcher.cli.opening import settings_of_user
from dispatcher.errors import DispatcherError
from dispatcher.template import TemplateVersion

if TYPE_CHECKING:
    from dispatcher.render import Template

_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
_OPTIONAL_END = frozenset(
    ("html", "head", "body", "p", "li", "td", "th", "tr", "thead", "tbody", "tfoot", "option", "dt", "dd")
)


def checked(name: str) -> list[dict[str, Any]]:
    """One result for each locale of a template on disk: ``template``, ``locale``, ``ok``, ``reason``."""
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it

    try:
        version = bootstrap.templates(settings_of_user()).load(name)
    except DispatcherError as error:
        return [_result(name, None, str(error))]
    return checked_version(version)


def checked_version(version: TemplateVersion) -> list[dict[str, Any]]:
    """The same of one version, wherever it is kept."""
    from dispatcher.render import compiled  # noqa: PLC0415 - --help needs none of it

    try:
        template = compiled(version.digest, lambda: version)
    except DispatcherError as error:
        return [_result(version.name, None, str(error))]
    return [_result(version.name, locale, _fault(version, template, locale)) for locale in template.locales]


def _result(name: str, locale: str | None, reason: str | None) -> dict[str, Any]:
    return {"template": name, "locale": locale, "ok": reason is None, "reason": reason}


def _fault(version: TemplateVersion, template: "Template", locale: str) -> str | None:
    try:
        sample = template.sample(locale)
        template.check(sample, "sample")
        template.render(locale, sample)
        html = _as_written(version, locale, sample, default=locale == template.locales[0])
    except DispatcherError as error:
        return str(error)
    return None if html is None else _Tags.fault(html)


def _as_written(version: TemplateVersion, locale: str, sample: dict[str, Any], *, default: bool) -> str | None:
    """The HTML before its CSS is inlined: that repairs what is wrong with it. None where the locale has none."""
    from dispatcher.filters import speaking  # noqa: PLC0415 - --help needs none of it
    from dispatcher.part import Source  # noqa: PLC0415 - as above

    names = [f"body.{locale}.html", *(["body.html"] if default else [])]
    file = next((name for name in names if name in version.files), None)
    if file is None:
        return None
    with speaking(locale):
        return Source(version.name, version.files).template(file).render({**sample, "locale": locale})


class _Tags(HTMLParser):
    """Notices tags that are not closed, or closed without having been opened."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, int]] = []
        self._fault: str | None = None

    @classmethod
    def fault(cls, html: str) -> str | None:
        """What is wrong with the HTML, or None."""
        found = cls()
        found.feed(html)
        found.close()
        left = [f"line {row}: <{tag}> is never closed" for tag, row in found._open if tag not in _OPTIONAL_END]
        return found._fault or (f"HTML {left[0]}" if left else None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - HTMLParser's signature
        if tag not in _VOID:
            self._open.append((tag, self.getpos()[0]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open[-1][0] != tag and self._open[-1][0] in _OPTIONAL_END - {tag}:
            self._open.pop()
        if self._open and self._open[-1][0] == tag:
            self._open.pop()
        elif self._fault is None and tag not in _VOID:
            self._fault = f"HTML line {self.getpos()[0]}: </{tag}> closes nothing that is open"
