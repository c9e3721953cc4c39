"""``dispatcher audiences``: named lists of recipients, in versions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli import importing
from dispatcher.cli.importing import cell
from dispatcher.cli.opening import actor, opened_ledger
from dispatcher.cli.output import (
    Json,
    Reason,
    Yes,
    confirmed,
    count,
    document,
    line,
    note,
    plain,
    table,
    when,
)

if TYPE_CHECKING:
    from dispatcher.audience import AudienceVersion, Filter, Member
    from dispatcher.interfaces import Audiences

app = typer.Typer(help="Named lists of recipients, in versions: from files and databases.", no_args_is_help=True)
app.command("preview", epilog="Example: dispatcher audiences preview customers.csv --map email=Mail")(importing.preview)
app.command("import", epilog="Example: dispatcher audiences import customers customers.csv --type birthday=date")(
    importing.import_
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `audiences list` shows it.")]
Version = Annotated[int | None, typer.Option("--version", metavar="N", min=1, help="Not the current one, but this.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where", metavar="FILTER", help="country=CN,HK, country!=CN, age>=18, age=18..30, vip, !phone. All hold."
    ),
]
Most = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")]
_VALUES = 20  # of a column that are listed
_REMOVED = 5000  # rows in one transaction


@app.command("list", epilog="Example: dispatcher audiences list --json")
def list_(as_json: Json = False) -> None:
    """List the audiences with their current versions."""
    with opened_ledger() as ledger:
        found = ledger.audiences.list()
    if as_json:
        document(found)
        return
    rows = [(each.name, each.current, each.versions) for each in found]
    table(
        ("name", "version", "members", "versions", "imported", "source"),
        [
            (name, v.version, v.kept, versions, when(v.ready_at), v.source) if v else (name, None, None, 0, None, None)
            for name, v, versions in rows
        ],
    )


@app.command("show", epilog="Example: dispatcher audiences show customers --where country=CN,HK --where 'age>=18'")
def show(
    name: Name,
    version: Version = None,
    where: Where = None,
    values: Annotated[bool, typer.Option("--values", help="Count the values of each column.")] = False,
    as_json: Json = False,
) -> None:
    """Show an audience: its columns, its sums, and how many members a filter means."""
    with opened_ledger() as ledger:
        found = _version(ledger.audiences, name, version)
        meant = _filter(where, found)
        shown: dict[str, Any] = {**plain(found), "columns": [plain(column) for column in found.columns]}
        if where or values:
            matched, counts = _counted(_members(ledger.audiences, found, meant), found, values=values)
            shown |= {"matched": matched, "values": counts} if values else {"matched": matched}
    if as_json:
        document(shown)
        return
    _show(found, shown)


@app.command("members", epilog="Example: dispatcher audiences members customers --where vip --limit 5")
def members(name: Name, version: Version = None, where: Where = None, limit: Most = 100, as_json: Json = False) -> None:
    """List members in the order of their rows."""
    with opened_ledger() as ledger:
        found = _version(ledger.audiences, name, version)
        rows = list(islice(_members(ledger.audiences, found, _filter(where, found)), limit))
    if as_json:
        document([{"row": each.n, "to": each.shown, "attributes": dict(each.attributes)} for each in rows])
        return
    table(
        ("row", "to", *(column.name for column in found.attributes)),
        [
            (each.n, each.shown, *(cell(each.attributes.get(column.name)) for column in found.attributes))
            for each in rows
        ],
    )
    if len(rows) == limit:
        note(f"dispatcher: these are the first {limit:,}; see more with --limit")


@app.command("rejects", epilog="Example: dispatcher audiences rejects customers --json")
def rejects(name: Name, version: Version = None, limit: Most = 100, as_json: Json = False) -> None:
    """List the rows that are no members, with the reason: bad ones, and those whose address was there before."""
    from dispatcher import audiences  # noqa: PLC0415 - what --help does not need

    with opened_ledger() as ledger:
        found = _version(ledger.audiences, name, version)
        rows = list(islice(audiences.rejects(ledger.audiences, found), limit))
    if as_json:
        document([dict(zip(("row", "field", "reason", "payload", "doubled"), each, strict=True)) for each in rows])
        return
    table(("row", "field", "reason", "payload"), [(each.n, each.field, each.reason, each.payload) for each in rows])
    if len(rows) == limit:
        note(f"dispatcher: these are the first {limit:,}; see more with --limit")


@app.command("export", epilog="Example: dispatcher audiences export customers --where vip --out vips.csv")
def export(
    name: Name,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The CSV file to write.")],
    version: Version = None,
    where: Where = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Write members into a CSV file for a spreadsheet. Text that it would calculate begins with an apostrophe."""
    from dispatcher.adapters.rows.separated import write  # noqa: PLC0415 - as above

    if out.exists():
        confirmed(f"{out} will be overwritten", yes=yes)
    with opened_ledger() as ledger:
        found = _version(ledger.audiences, name, version)
        chosen = _members(ledger.audiences, found, _filter(where, found))
        names = [column.name for column in found.attributes]
        written = write(out, ["email", *names], ([each.shown, *map(each.attributes.get, names)] for each in chosen))
    document({"members": written, "file": str(out)}) if as_json else line(f"{count(written, 'member')} in {out}")


@app.command("drop", epilog="Example: dispatcher audiences drop customers --version 1 --reason 'too old' --yes")
def drop(name: Name, version: Version = None, reason: Reason = "", yes: Yes = False, as_json: Json = False) -> None:
    """Remove an audience with all its versions, or one version. Not while a campaign that is not over goes by it."""
    from dispatcher.audience import UNREADY_SECONDS  # noqa: PLC0415 - as above

    with opened_ledger() as ledger:
        if version is None:
            versions = next((each.versions for each in ledger.audiences.list() if each.name == name), 0)
            meant = count(versions, "version")
        else:
            versions = 1
            meant = f"version {version} with {count(ledger.audiences.version(name, version).kept, 'member')}"
        if versions:
            confirmed(f"audience {name}: {meant} will be removed", yes=yes)
        dropped = ledger.audiences.drop(name, version, actor(reason))
        while ledger.audiences.forget(UNREADY_SECONDS, _REMOVED):
            pass
    document({"dropped": dropped}) if as_json else line(f"{count(dropped, 'version')} dropped")


def _version(audiences: "Audiences", name: str, number: int | None) -> "AudienceVersion":
    return audiences.current(name) if number is None else audiences.version(name, number)


def _filter(texts: Sequence[str] | None, version: "AudienceVersion") -> "Filter | None":
    from dispatcher.audience import where  # noqa: PLC0415 - as above

    return where(texts, version.columns) if texts else None


def _members(audiences: "Audiences", version: "AudienceVersion", meant: "Filter | None") -> Iterator["Member"]:
    from dispatcher import audiences as using  # noqa: PLC0415 - as above

    return using.members(audiences, version, meant)


def _counted(
    found: Iterator["Member"], version: "AudienceVersion", *, values: bool
) -> tuple[int, dict[str, dict[str, int]]]:
    """How many there are, and of each column that has few values, how many have each."""
    total = 0
    counters = {column.name: Counter[str]() for column in version.attributes} if values else {}
    for member in found:
        total += 1
        for name, counter in list(counters.items()):
            counter[cell(member.attributes.get(name))] += 1
            if len(counter) > _VALUES:
                del counters[name]
    return total, {name: dict(counter.most_common()) for name, counter in counters.items()}


def _show(version: "AudienceVersion", shown: dict[str, Any]) -> None:
    line(f"{version.name} version {version.version}, {version.source}")
    line(f"imported {when(version.ready_at)} by {version.actor}")
    line(f"{count(version.rows, 'row')} = kept {version.kept:,} + bad {version.bad:,} + doubled {version.doubled:,}")
    if "matched" in shown:
        line(f"{count(shown['matched'], 'member')} meant")
    found = shown.get("values", {})
    table(
        ("attribute", "kind", "column", *(["values"] if found else [])),
        [
            (column.name, column.kind, column.source, *([_listed(found.get(column.name))] if found else []))
            for column in version.columns
        ],
        head=True,
    )


def _listed(counts: dict[str, int] | None) -> str:
    return "" if counts is None else ", ".join(f"{value or '(none)'} {number:,}" for value, number in counts.items())
