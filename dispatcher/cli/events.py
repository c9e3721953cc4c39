"""``dispatcher events``: what happened, which automations listen to."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.opening import json_argument, opened, read_text, settings_of_user, warn_if_unserved
from dispatcher.cli.output import Json, document, json_line, line, note, plain, table, when
from dispatcher.errors import SubmissionError

if TYPE_CHECKING:
    from dispatcher.emitted import EventReceipt

app = typer.Typer(help="Say what happened; automations listen to it.", no_args_is_help=True)
_EXAMPLE = (
    "Example: dispatcher events emit customer.registered --id C-7 "
    '--data \'{"customer": {"id": "C-7", "email": "a@example.com", "name": "Alice"}}\''
)


@app.command("emit", epilog=_EXAMPLE)
def emit(
    name: Annotated[str, typer.Argument(metavar="EVENT", help="Its kind, as `events types` lists them.")],
    data: Annotated[str | None, typer.Option("--data", metavar="FILE|JSON", help="What it is about.")] = None,
    own: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Your number of it: what comes again with it is the same.")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="When it happened; now by default.")] = None,
    as_json: Json = False,
) -> None:
    """Say that something happened. Exit 2 for data that is not as its kind asks for."""
    from dispatcher.emitted import Event  # noqa: PLC0415 - --help needs none of it

    found = {"event": name, "data": json_argument(data, "--data") or {}, "id": own, "at": at}
    settings = settings_of_user()
    with opened(settings) as dispatcher:
        receipt = dispatcher.emit(Event.parse(found))
        warn_if_unserved(dispatcher, settings)
    if as_json:
        document(receipt.document())
    else:
        line(_said(receipt))


@app.command("send", epilog="Example: dispatcher events send events.jsonl")
def send(
    path: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON Lines: event, data, id, at.")],
    as_json: Json = False,
) -> None:
    """Emit one event a line. A bad line is reported with its number, and the rest goes on; then exit 1."""
    taken = duplicate = refused = 0
    settings = settings_of_user()
    with opened(settings) as dispatcher:
        rows = list(_lines(path))
        answers = dispatcher.emit_many(each for _, each in rows if not isinstance(each, SubmissionError))
        for n, each in rows:
            answer = each if isinstance(each, SubmissionError) else next(answers)
            if isinstance(answer, SubmissionError):
                refused += 1
                note(f"dispatcher: {path}:{n}: {answer}")
            else:
                taken, duplicate = taken + (not answer.duplicate), duplicate + answer.duplicate
        warn_if_unserved(dispatcher, settings)
    sums = {"taken": taken, "duplicate": duplicate, "refused": refused}
    if as_json:
        document(sums)
    else:
        line(", ".join(f"{number} {what}" for what, number in sums.items()))
    raise typer.Exit(1 if refused else 0)


@app.command("list", epilog="Example: dispatcher events list --kind order.created -n 50")
def list_(
    kind: Annotated[str | None, typer.Option("--kind", metavar="EVENT", help="Only of this kind.")] = None,
    limit: Annotated[int, typer.Option("-n", metavar="N", min=1, help="At most so many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List what was emitted, newest first."""
    with opened() as dispatcher:
        found = dispatcher.automations.events(kind, limit)
    if as_json:
        document([plain(each._asdict()) for each in found])
        return
    table(
        ("at", "event", "id", "producer", "data"),
        [(when(each.at), each.name, each.id, each.producer, json_line(each.data)) for each in found],
        short=("at", "event", "id"),
    )


@app.command("types", epilog="Example: dispatcher events types")
def types(as_json: Json = False) -> None:
    """List the kinds of events that are loaded, and what their data must have."""
    with opened() as dispatcher:
        found = dispatcher.automations.event_types()
    if as_json:
        document([each.document() for _, each in sorted(found.items())])
        return
    rows = []
    for name, each in sorted(found.items()):
        needed = [column.name for column in each.columns if each.required(column.name)]
        rows.append((name, each.about, ", ".join(needed)))
    table(("event", "what it is", "needs"), rows)


def _lines(path: str) -> Iterator[tuple[int, Any]]:
    for n, text in enumerate(read_text(path, "FILE").split("\n"), 1):
        if text.strip():
            try:
                yield n, json.loads(text)
            except ValueError:
                yield n, SubmissionError("", "is no JSON")


def _said(receipt: "EventReceipt") -> str:
    if receipt.duplicate:
        return f"{receipt.event} {receipt.id} was here before; nothing was done"
    into = f"taken in: {', '.join(receipt.enrolled)}" if receipt.enrolled else "it takes nobody in"
    return f"{receipt.event} {receipt.id} is kept; {into}"
