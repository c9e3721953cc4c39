"""``dispatcher templates``: the templates that there are, whether they are sound, and which are published."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dispatcher.cli import publications
from dispatcher.cli.opening import opened_ledger, read_text, settings_of_user
from dispatcher.cli.output import Json, document, line, note, table, when
from dispatcher.cli.publications import SHORT
from dispatcher.cli.soundness import checked
from dispatcher.errors import ConfigurationError, DispatcherError, LedgerError

if TYPE_CHECKING:
    from dispatcher.records import Publication
    from dispatcher.render import Template

app = typer.Typer(help="List, check, preview and publish templates.", no_args_is_help=True)
app.command("publish", epilog="Example: dispatcher templates publish order_confirmation --reason 'new VAT line' --yes")(
    publications.publish
)
app.command("versions", epilog="Example: dispatcher templates versions order_confirmation")(publications.versions)


@app.command("list", epilog="Example: dispatcher templates list")
def list_(as_json: Json = False) -> None:
    """List the templates: their locales, the version here, and the one that is published."""
    published = _publications()
    here = set(_names())
    found = [_facts(name, published.get(name), here=name in here) for name in sorted(here | published.keys())]
    if as_json:
        document(found)
        return
    table(
        ("template", "locales", "version here", "published", "what it is"),
        [
            (f["name"], ", ".join(f["locales"]), _version(f), _published(f), f["error"] or f["description"])
            for f in found
        ],
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


def _publications() -> dict[str, "Publication"]:
    """What is published; nothing, and a word about it, when the ledger cannot say."""
    try:
        with opened_ledger() as ledger:
            return ledger.publications()
    except LedgerError as error:
        note(f"dispatcher: what is published is not known: {error}")
        return {}


def _facts(name: str, published: "Publication | None", *, here: bool) -> dict[str, Any]:
    """``digest`` is of the version here; ``differs``: whether another one is published; ``error``: why it is broken."""
    found: dict[str, Any] = {"name": name, "locales": [], "digest": None, "description": "", "error": None}
    if here:
        try:
            template = _template(name)
        except DispatcherError as error:
            found["error"] = str(error)
        else:
            found |= {"locales": list(template.locales), "digest": template.digest, "description": template.description}
    differs = None if published is None else published.digest != found["digest"]
    return {**found, "published": published, "differs": differs}


def _version(facts: dict[str, Any]) -> str:
    return "broken" if facts["error"] else (facts["digest"] or "none")[:SHORT]


def _published(facts: dict[str, Any]) -> str:
    found = facts["published"]
    if found is None:
        return ""
    which = f"{found.digest[:SHORT]}, not the one here" if facts["differs"] else "the one here"
    return f"{which}\nby {found.actor}\n{when(found.at)}"


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
