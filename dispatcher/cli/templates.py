"""``dispatcher templates``: the templates that there are, and whether they are sound."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dispatcher.cli.opening import read_text, settings_of_user
from dispatcher.cli.output import Json, document, line, note, table
from dispatcher.errors import ConfigurationError, DispatcherError

if TYPE_CHECKING:
    from dispatcher.render import Template

app = typer.Typer(help="List, check and preview templates.", no_args_is_help=True)
_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
_OPTIONAL_END = frozenset(
    ("html", "head", "body", "p", "li", "td", "th", "tr", "thead", "tbody", "tfoot", "option", "dt", "dd")
)


@app.command("list", epilog="Example: dispatcher templates list")
def list_(as_json: Json = False) -> None:
    """List the templates, their locales and versions."""
    found = []
    for name in _names():
        template = _template(name)
        found.append(
            {
                "name": name,
                "locales": list(template.locales),
                "digest": template.digest,
                "description": template.description,
            }
        )
    if as_json:
        document(found)
        return
    table(
        ("template", "locales", "version", "what it is"),
        [(f["name"], ", ".join(f["locales"]), f["digest"][:12], f["description"]) for f in found],
    )


@app.command("check", epilog="Example: dispatcher templates check order_confirmation")
def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TEMPLATE]...", help="Templates; all by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Render every template in every locale with its sample data. Exit 1 for a missing variable or bad HTML."""
    results = [result for name in names or _names() for result in checked(name)]
    if as_json:
        document(results)
    else:
        table(
            ("template", "locale", "result", "what is wrong"),
            [(r["template"], r["locale"], "ok" if r["ok"] else "fail", r["reason"]) for r in results],
        )
    raise typer.Exit(0 if all(result["ok"] for result in results) else 1)


@app.command(
    "preview", epilog="Example: dispatcher templates preview welcome --locale zh-CN --part html --output w.html"
)
def preview(
    name: Annotated[str, typer.Argument(metavar="TEMPLATE")],
    locale: Annotated[str | None, typer.Option("--locale", metavar="TAG", help="The reader's language.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FILE", help="A file of JSON; the sample data by default.")
    ] = None,
    part: Annotated[Literal["text", "html"], typer.Option("--part", help="Which one to print.")] = "text",
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="A file; stdout by default.")] = None,
    as_json: Json = False,
) -> None:
    """Render a template with its sample data, or with yours, and print it. Its subject goes to stderr."""
    template = _template(name)
    values = template.sample(template.locale(locale)) if data is None else _json(data)
    template.check(values)
    rendered = template.render(locale, values)
    if as_json:
        document(rendered)
        return
    note(f"Subject: {rendered.subject}")
    text = (rendered.html if part == "html" else rendered.text) or ""
    if output is None:
        line(text.rstrip("\n"))
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError("--output", f"cannot write {output}: {error.strerror}") from None


def checked(name: str) -> list[dict[str, Any]]:
    """One result for each locale of a template: ``template``, ``locale``, ``ok``, ``reason``."""
    try:
        template = _template(name)
    except DispatcherError as error:
        return [{"template": name, "locale": None, "ok": False, "reason": str(error)}]
    return [
        {"template": name, "locale": locale, "ok": reason is None, "reason": reason}
        for locale in template.locales
        for reason in (_fault(template, locale),)
    ]


def _fault(template: "Template", locale: str) -> str | None:
    try:
        sample = template.sample(locale)
        template.check(sample, "sample")
        template.render(locale, sample)
        html = _as_written(template, locale, sample)
    except DispatcherError as error:
        return str(error)
    return None if html is None else _Tags.fault(html)


def _as_written(template: "Template", locale: str, sample: dict[str, Any]) -> str | None:
    """The HTML before its CSS is inlined: that repairs what is wrong with it. None where the locale has none."""
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it
    from dispatcher.filters import parse_locale, speaking  # noqa: PLC0415 - as above
    from dispatcher.part import Source  # noqa: PLC0415 - as above

    files = bootstrap.templates(settings_of_user()).load(template.name).files
    names = [f"body.{locale}.html", *(["body.html"] if locale == template.locales[0] else [])]
    file = next((name for name in names if name in files), None)
    if file is None:
        return None
    with speaking(parse_locale(locale)):
        return Source(template.name, files).template(file).render({**sample, "locale": locale})


def _names() -> list[str]:
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it

    return bootstrap.templates(settings_of_user()).names()


def _template(name: str) -> "Template":
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it
    from dispatcher.render import Template  # noqa: PLC0415 - as above

    return Template(bootstrap.templates(settings_of_user()).load(name))


def _json(path: str) -> Any:
    text = read_text(path, "--data")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError("--data", f"{path}:{error.lineno}: is not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError("--data", f"{path}: is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError("--data", f"{path}: must be a JSON object")
    return found


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
