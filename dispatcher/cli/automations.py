"""``dispatcher automations``: series of mails that begin with an event, or on a day."""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli import simulate
from dispatcher.cli.automation_files import read_files, refuse, values
from dispatcher.cli.automation_view import say_lines, show_lines
from dispatcher.cli.opening import actor, opened
from dispatcher.cli.output import Json, Reason, Yes, confirmed, count, document, line, note, plain, table, when
from dispatcher.errors import ConfigurationError

if TYPE_CHECKING:
    from dispatcher.automation import Automation
    from dispatcher.enrolment import Enrolment

app = typer.Typer(help="Series of mails that begin with an event, or on a day.", no_args_is_help=True)
app.command("simulate", epilog=simulate.EXAMPLE)(simulate.simulate)

Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="YAML files, or folders of them.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The automation's name.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="Whose, as `automations show` lists them.")]
Limit = Annotated[int, typer.Option("-n", metavar="N", min=1, help="At most so many.")]


@app.command("check", epilog="Example: dispatcher automations check automations/")
def check(paths: Files, as_json: Json = False) -> None:
    """Check files: shape, steps, and every mail with sample data. Exit 1 for a fault, with its file and line."""
    placed = read_files(paths)
    with opened() as dispatcher:
        found = dispatcher.automations.check(values(placed))
    faults = [
        {"where": each.where(fault), "place": fault.place, "reason": fault.reason}
        for each, of_it in zip(placed, found, strict=True)
        for fault in of_it
    ]
    if as_json:
        document({"documents": len(placed), "faults": faults})
    else:
        for fault in faults:
            line(": ".join(filter(None, (fault["where"], fault["place"], fault["reason"]))))
        if not faults:
            line(f"{count(len(placed), 'document')}, nothing wrong")
    raise typer.Exit(1 if faults else 0)


@app.command("load", epilog="Example: dispatcher automations load automations/ --reason 'a third mail'")
def load(paths: Files, reason: Reason = "", as_json: Json = False) -> None:
    """Check files and go by them from now on. Who is inside already finishes by the version that took them in."""
    placed = read_files(paths)
    with opened() as dispatcher:
        refuse(placed, dispatcher.automations.check(values(placed)))
        changed = dispatcher.automations.load(values(placed), actor(reason))
    if as_json:
        document(changed)
    elif changed:
        for each in changed:
            line(f"{each} is loaded")
    else:
        line("nothing has changed")


@app.command("list", epilog="Example: dispatcher automations list")
def list_(as_json: Json = False) -> None:
    """List all automations, and how many are inside."""
    with opened() as dispatcher:
        rows = [(found, dispatcher.automations.counts(found.name)) for found in dispatcher.automations.listed()]
    facts = [_facts(found) | {"inside": sum(n for (state, _), n in counts.items() if state == "active"),
                              "failed": sum(n for (state, _), n in counts.items() if state == "failed")}
             for found, counts in rows]  # fmt: skip
    if as_json:
        document(facts)
        return
    table(
        ("automation", "version", "state", "inside", "failed", "changed", "by"),
        [
            (f["name"], f["version"], f"paused: {f['reason']}" if f["paused"] else "on", f["inside"], f["failed"],
             when(found.changed_at), f["actor"])
            for f, (found, _) in zip(facts, rows, strict=True)
        ],
    )  # fmt: skip


@app.command("show", epilog="Example: dispatcher automations show welcome")
def show(
    name: Name,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only this one's way.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Draw the flow, and list who is where."""
    from dispatcher.cli.automation_flow import drawn  # noqa: PLC0415 - --help needs none of it

    with opened() as dispatcher:
        automations = dispatcher.automations
        found, counts = automations.get(name), automations.counts(name)
        spec = automations.spec(found)
        people = [automations.enrolled(name, key)] if key is not None else automations.enrolments(name, limit=limit)
        lines = list(automations.lines(name, key)) if key is not None else []
    if as_json:
        document(_facts(found) | {"counts": [{"state": s, "step": at, "count": n} for (s, at), n in counts.items()],
                                  "people": [plain(each) for each in people],
                                  "steps": [each._asdict() for each in lines]})  # fmt: skip
        return
    if key is None:
        for text in drawn(found, spec, counts):
            line(text)
        line()
    _show_people(people)
    if key is not None:
        show_lines(lines)


@app.command("history", epilog="Example: dispatcher automations history welcome -n 50")
def history(
    name: Name,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only this one's.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Print what has become of people's steps, the newest last: sent, suppressed, skipped, late, failed, and why."""
    with opened() as dispatcher:
        found = list(dispatcher.automations.lines(name, key, limit))
    say_lines(found, as_json)


@app.command("pause", epilog="Example: dispatcher automations pause welcome --reason 'a wrong price'")
def pause(name: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Send nothing of it, at once and on all machines, until it is resumed. People are taken in all the same."""
    with opened() as dispatcher:
        made = dispatcher.automations.pause(name, actor(reason))
    _answer(_facts(made), f"automation {name} is paused", as_json)


@app.command("resume", epilog="Example: dispatcher automations resume welcome")
def resume(name: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Let it go on. What is too late by now is passed over, as its `late` says."""
    with opened() as dispatcher:
        made = dispatcher.automations.resume(name, actor(reason))
    _answer(_facts(made), f"automation {name} goes on", as_json)


@app.command("exit", epilog="Example: dispatcher automations exit welcome C-7 --reason 'asked for it'")
def exit_(name: Name, key: Key, reason: Reason = "", as_json: Json = False) -> None:
    """Take somebody out. They do not come in again."""
    with opened() as dispatcher:
        made = dispatcher.automations.exit(name, key, actor(reason))
    _answer(plain(made), f"{key} has left {name}", as_json)


@app.command("retry", epilog="Example: dispatcher automations retry welcome C-7 --reason 'the template is mended'")
def retry(
    name: Name,
    key: Key,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Where their mail goes from now on.")
    ] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let somebody go on whose step has failed, with that step."""
    with opened() as dispatcher:
        made = dispatcher.automations.retry(name, key, actor(reason), address=address)
    _answer(plain(made), f"{key} goes on in {name}", as_json)


@app.command("remove", epilog="Example: dispatcher automations remove welcome --yes")
def remove(name: Name, reason: Reason = "", yes: Yes = False, as_json: Json = False) -> None:
    """Remove it with its history. Nobody may be inside."""
    with opened() as dispatcher:
        found = dispatcher.automations.get(name)
        confirmed(f"automation {name} will be removed with its history", yes=yes)
        dispatcher.automations.remove(name, actor(reason))
    _answer(_facts(found), f"automation {name} is removed", as_json)


@app.command("schema", epilog="Example: dispatcher automations schema > automation.schema.json")
def schema(as_json: Json = False) -> None:  # noqa: ARG001 - it is JSON anyway
    """Print the JSON Schema of the files, for editors."""
    from dispatcher.automation_schema import DOCUMENT  # noqa: PLC0415 - as above

    document(DOCUMENT)


@app.command("samples", epilog="Example: dispatcher automations samples automations/")
def samples(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; no file is overwritten.")],
    as_json: Json = False,
) -> None:
    """Write the shipped ones there, to begin with: welcome, birthday, order_flow, and their events."""
    written = []
    for source in sorted(files("dispatcher").joinpath("samples").iterdir(), key=lambda each: each.name):
        target = folder / source.name
        if target.exists():
            note(f"dispatcher: {target} is there already, and stays")
        elif source.name.endswith(".yaml"):
            _write(target, source.read_bytes())
            written.append(str(target))
    if as_json:
        document(written)
        return
    for name in written:
        line(name)


def _write(target: Path, content: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise ConfigurationError("FOLDER", f"cannot write {target}: {error.strerror}") from None


def _facts(found: "Automation") -> dict[str, Any]:
    facts: dict[str, Any] = plain(found)
    return facts


def _answer(facts: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        document(facts)
    else:
        line(text)


def _show_people(people: list["Enrolment"]) -> None:
    table(
        ("key", "to", "state", "next step", "when", "outcome"),
        [
            (each.key, each.address, each.state.value, each.step or "",
             f"with {each.awaits}" if each.awaits else when(each.planned_at), each.outcome)
            for each in people
        ],
    )  # fmt: skip
