"""``dispatcher rejects``: what intake refused, with nobody there to be told."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.opening import actor, opened, opened_ledger
from dispatcher.cli.output import Json, Reason, Yes, confirmed, count, document, line, note, plain, table, when
from dispatcher.errors import NotFound, SubmissionError
from dispatcher.handed import EVENT_DOOR

if TYPE_CHECKING:
    from dispatcher.dispatcher import Dispatcher
    from dispatcher.interfaces import Ledger
    from dispatcher.records import Reject

app = typer.Typer(help="What intake refused: payload, field, reason.", no_args_is_help=True)
Numbers = Annotated[list[int], typer.Argument(metavar="ID...", help="Numbers as `rejects list` shows them.")]


@app.command("list", epilog="Example: dispatcher rejects list --all")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Also those that were resubmitted or dropped.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many, newest first.")] = 100,
    as_json: Json = False,
) -> None:
    """List what was refused and not dealt with yet, newest first."""
    with opened_ledger() as ledger:
        found = ledger.rejects(limit=limit, open_only=not every)
    if as_json:
        document(found)
        return
    table(
        ("id", "at", "door", "reference", "producer", "field", "reason", "outcome"),
        [(r.id, when(r.at), r.door, r.reference, r.producer, r.field, r.reason, r.outcome) for r in found],
    )


@app.command("show", epilog="Example: dispatcher rejects show 7")
def show(number: Annotated[int, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """Show one with its payload as it came."""
    with opened_ledger() as ledger:
        (found,) = _find(ledger, [number])
    if as_json:
        document(found)
        return
    for name, value in plain(found).items():
        line(f"{name}: {when(value) if name == 'at' else '' if value is None else value}")


@app.command("resubmit", epilog="Example: dispatcher rejects resubmit 7 8 --yes")
def resubmit(numbers: Numbers, reason: Reason = "", yes: Yes = False, as_json: Json = False) -> None:
    """Submit them again, as their producers did: the cause may be gone by now. Exit 1 if some are refused again."""
    answers = []
    # The doors that keep rejects read no path for a producer; an operator's hand must not make it one.
    with opened(paths="nowhere") as dispatcher:
        found = _find(dispatcher.ledger, numbers)
        confirmed(f"{count(len(found), 'reject')} will be submitted again", yes=yes)
        for reject in found:
            try:
                made = _again(dispatcher, reject)
            except SubmissionError as error:
                note(f"dispatcher: {reject.id}: {error}")
                answers.append({"id": reject.id, "submission": None, "reason": str(error)})
                continue
            dispatcher.ledger.resolve_reject(reject.id, "resubmitted", actor(reason))
            answers.append({"id": reject.id, "submission": made, "reason": None})
            if not as_json:
                what = "event" if reject.door == EVENT_DOOR else "submission"
                line(f"{reject.id}\tis {what} {made} now")
    if as_json:
        document(answers)
    raise typer.Exit(0 if all(answer["submission"] for answer in answers) else 1)


@app.command("drop", epilog="Example: dispatcher rejects drop 7 --reason 'a test' --yes")
def drop(numbers: Numbers, reason: Reason = "", yes: Yes = False, as_json: Json = False) -> None:
    """Mark them as dealt with; they are kept."""
    with opened_ledger() as ledger:
        found = _find(ledger, numbers)
        confirmed(f"{count(len(found), 'reject')} will be dropped", yes=yes)
        for reject in found:
            ledger.resolve_reject(reject.id, "dropped", actor(reason))
    document({"dropped": len(found)}) if as_json else line(f"{count(len(found), 'reject')} dropped")


def _again(dispatcher: "Dispatcher", reject: "Reject") -> str:
    """The id of what it has become. Raises SubmissionError."""
    payload = _document(reject)
    if reject.door == EVENT_DOOR:
        return dispatcher.emit(payload, producer=reject.producer, key=f"task:{reject.reference}").id
    return dispatcher.submit(payload, producer=reject.producer, key=f"{reject.door}:{reject.reference}").id


def _document(reject: "Reject") -> Any:
    """What its producer meant, if it can be read. Raises SubmissionError."""
    try:
        return json.loads(reject.payload)
    except ValueError:
        raise SubmissionError("", "its payload is no JSON; put it right and use `dispatcher submit`") from None


def _find(ledger: "Ledger", numbers: list[int]) -> list["Reject"]:
    found = []
    for number in dict.fromkeys(numbers):
        rows = ledger.rejects(id=number, open_only=False)
        if not rows:
            raise NotFound(f"no reject has the number {number}: see `dispatcher rejects list --all`")
        found.extend(rows)
    return found
