"""Templates made into subject, text and HTML: compiled once, checked at submit, the same bytes for the same data.

Template(version)   compiles all files           TemplateError
  .check(data)      against the JSON Schema      MissingData
  .locale(tag)      which locale it will be      SubmissionError
  .render(...)      -> Rendered                  RenderError
"""

import re
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version as installed
from threading import Lock
from typing import Any, NamedTuple

from babel import Locale

from dispatcher.errors import RenderError, SubmissionError, TemplateError
from dispatcher.filters import canonical, parse_locale, speaking
from dispatcher.part import Part, Source
from dispatcher.schema import DataSchema, SchemaError, merge
from dispatcher.template import TemplateVersion

__all__ = ["Rendered", "Template", "compiled", "fingerprint", "merge"]

_FILE = re.compile(r"(?P<part>subject|body)(?:\.(?P<tag>[A-Za-z0-9_-]+))?\.(?P<kind>txt|html)")
_META = "meta.toml"
_META_KINDS = {"description": str, "default_locale": str, "schema": dict, "sample": dict, "sample_by_locale": dict}
_SPACE = re.compile(r"[\s\x00-\x1f\x7f]+")
_BLANK_LINES = re.compile(r"\n{3,}")
_CACHED = 64


class Rendered(NamedTuple):  # one for each mail: see events.DeliveryTried
    """What a mail says. ``pieces``: its HTML as the template wrote it, piece by piece; None where it has none. Lines
    end with LF."""

    subject: str
    text: str
    pieces: Sequence[str] | None

    @property
    def html(self) -> str | None:
        """The HTML as a whole."""
        return None if self.pieces is None else "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class _Content:
    """The parts in one locale; at least one of the bodies is there."""

    locale: Locale
    subject: Part
    text: Part | None
    html: Part | None


class Template:
    """A template version, compiled; threads may share it.

    ``locales`` are language tags, the default first; ``samples`` is the ``[sample]`` of ``meta.toml``. Raises
    TemplateError naming ``template/file:line``.
    """

    def __init__(self, version: TemplateVersion) -> None:
        self.name, self.digest, self._files = version.name, version.digest, version.files
        meta = _meta(version)
        self.description: str = meta.get("description", "")
        self.samples: dict[str, Any] = meta.get("sample", {})
        self._localized: dict[str, Any] = meta.get("sample_by_locale", {})
        try:
            self._schema = DataSchema(meta.get("schema", {}))
        except SchemaError as error:
            raise TemplateError(f"{self.name}/{_META}", f"[schema] {error}") from None
        self._contents = _contents(version, meta.get("default_locale", "en"))
        self.locales = tuple(self._contents)
        self._spoken = lru_cache(maxsize=_CACHED)(self._for)

    def check(self, data: Mapping[str, Any], field: str = "data") -> None:
        """Check data against the schema. Raises MissingData, its field a path below ``field``; no value is quoted."""
        self._schema.check(data, field)

    def mentions(self, text: str) -> bool:
        """Whether it stands in one of its files."""
        return any(text in source for source in self._files.values())

    @property
    def sensitive(self) -> bool:
        """Whether the schema marks anything ``x-sensitive``."""
        return self._schema.sensitive

    def split(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Part data into what may be kept, and what the schema marks ``x-sensitive`` (None: nothing); see ``merge``."""
        return self._schema.split(data)

    def sample(self, locale: str) -> dict[str, Any]:
        """The sample data, with what ``[sample_by_locale]`` has for this locale laid over it."""
        return merge(self.samples, self._localized.get(locale))

    def locale(self, requested: str | None) -> str:
        """The best locale that there is: ``zh-CN``, else ``zh``, else the default. Raises SubmissionError for none."""
        if requested is None:
            return self.locales[0]
        tag = _canonical(requested)
        while tag not in self._contents and "-" in tag:
            tag = tag.rpartition("-")[0]
        return tag if tag in self._contents else self.locales[0]

    def render(self, locale: str | None, data: Mapping[str, Any]) -> Rendered:
        """Render for a reader's locale. Numbers and dates are written in it if the text is in its language.

        Templates see the locale as the variable ``locale``. Raises RenderError naming ``template/file:line``, and
        SubmissionError for a locale that is none.
        """
        content, tag = self._spoken(locale)
        try:
            with speaking(tag):
                return _render(content, {**data, "locale": tag})
        except RenderError as error:
            raise RenderError(error.where, self._discreet(error.reason, data)) from None

    def _for(self, locale: str | None) -> tuple[_Content, str]:
        """The parts for a reader's locale, and the language tag of the one that numbers and dates are written in."""
        content = self._contents[self.locale(locale)]
        reader = parse_locale(locale) if locale is not None else content.locale
        if reader.language != content.locale.language:
            reader = content.locale
        return content, str(reader).replace("_", "-")

    def _discreet(self, reason: str, data: Mapping[str, Any]) -> str:
        for secret in _texts(self.split(data)[1]):
            reason = reason.replace(secret, "[sensitive]")
        return reason


def compiled(digest: str, load: Callable[[], TemplateVersion]) -> Template:
    """The template with this digest, compiled at most once while it is among the last 64 that were used."""
    with _LOCK:
        if found := _TEMPLATES.get(digest):
            _TEMPLATES.move_to_end(digest)
            return found
    template = Template(load())
    with _LOCK:
        _TEMPLATES[digest] = template
        while len(_TEMPLATES) > _CACHED:
            _TEMPLATES.popitem(last=False)
    return template


@cache
def fingerprint() -> str:
    """The versions that decide what a template renders to; another one may write other bytes."""
    return " ".join(f"{name} {installed(name)}" for name in ("jinja2", "babel", "css-inline", "inscriptis"))


_TEMPLATES: OrderedDict[str, Template] = OrderedDict()
_LOCK = Lock()


def _meta(version: TemplateVersion) -> dict[str, Any]:
    where = f"{version.name}/{_META}"
    try:
        meta = tomllib.loads(version.files.get(_META, ""))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise TemplateError(f"{where}:{line[1]}" if line else where, str(error)) from None
    for key, value in meta.items():
        if key not in _META_KINDS:
            raise TemplateError(where, f"unknown key {key!r}; known are {', '.join(_META_KINDS)}")
        if not isinstance(value, _META_KINDS[key]):
            raise TemplateError(where, f"{key} must be a {'string' if _META_KINDS[key] is str else 'table'}")
    return meta


def _canonical(tag: str) -> str:
    """A language tag as file names have it. Raises SubmissionError."""
    try:
        return canonical(tag)
    except ValueError as error:
        raise SubmissionError("locale", f"{tag[:40]!r} {error}") from None


def _contents(version: TemplateVersion, default: str) -> dict[str, _Content]:
    """The compiled parts by locale, the default first."""
    source = Source(version.name, version.files)
    by_locale: dict[str, dict[str, str]] = {_known(source, _META, default): {}}
    for file in sorted(version.files):
        if match := _FILE.fullmatch(file):
            files = by_locale.setdefault(_known(source, file, match["tag"] or default), {})
            kind = "subject" if match["part"] == "subject" else match["kind"]
            if kind in files or (kind == "subject" and match["kind"] == "html"):
                raise TemplateError(source.where(file), "is one too many: the subject is a .txt, one for each locale")
            files[kind] = file
    return {
        tag: _content(source, tag, files, "" if i == 0 else f".{tag}")
        for i, (tag, files) in enumerate(by_locale.items())
    }


def _known(source: Source, file: str, tag: str) -> str:
    try:
        return _canonical(tag)
    except SubmissionError as error:
        raise TemplateError(source.where(file), error.reason) from None


def _content(source: Source, tag: str, files: Mapping[str, str], infix: str) -> _Content:
    if "subject" not in files:
        raise TemplateError(source.where(f"subject{infix}.txt"), "is missing")
    if not {"txt", "html"} & files.keys():
        raise TemplateError(source.where(f"body{infix}.html"), f"is missing, and so is body{infix}.txt")
    parts = {kind: source.part(file) for kind, file in files.items()}
    return _Content(parse_locale(tag), parts["subject"], parts.get("txt"), parts.get("html"))


def _render(content: _Content, variables: dict[str, Any]) -> Rendered:
    subject = _SPACE.sub(" ", content.subject.render(variables)).strip()
    if not subject:
        raise RenderError(content.subject.where, "the subject is empty")
    pieces = content.html.pieces(variables) if content.html else None
    text = _tidy(content.text.render(variables)) if content.text else plain("".join(pieces or ()))
    return Rendered(subject, text, pieces)


def plain(html: str) -> str:
    """The text of an HTML body, for clients and people that show no HTML."""
    from inscriptis import get_text  # noqa: PLC0415 - 5 MB that the shipped templates, with texts of their own, spare
    from inscriptis.css_profiles import CSS_PROFILES  # noqa: PLC0415 - as above
    from inscriptis.model.config import ParserConfig  # noqa: PLC0415 - as above

    return _tidy(get_text(html, ParserConfig(css=CSS_PROFILES["strict"], display_links=True)))


def _tidy(text: str) -> str:
    text = "\n".join(map(str.rstrip, text.replace("\r\n", "\n").split("\n")))
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip("\n") + "\n"


def _texts(secrets: Any) -> Iterator[str]:
    """Every text within the sensitive part of the data."""
    if isinstance(secrets, Mapping):
        secrets = list(secrets.values())
    if isinstance(secrets, list):
        for secret in secrets:
            yield from _texts(secret)
    elif secrets not in (None, ""):
        yield str(secrets)
