"""``dispatcher audiences preview`` and ``import``: a source of recipients, looked at and read in flat memory."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.exits import INTERRUPTED
from dispatcher.cli.opening import actor, opened_ledger, pairs
from dispatcher.cli.output import (
    Json,
    Reason,
    Yes,
    confirmed,
    console,
    count,
    document,
    json_line,
    line,
    note,
    plain,
    printable,
    table,
)
from dispatcher.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from dispatcher.audience import AudienceVersion, BadRow, Column
    from dispatcher.audiences import Preview
    from dispatcher.columns import ColumnMap
    from dispatcher.interfaces import Audiences, Rows

File = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="CSV or another text with separators, .xlsx, JSON Lines.")
]
Maps = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="ATTRIBUTE=HEADER", help="What a column is called: email=Mail. As often as needed."),
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="ATTRIBUTE=KIND", help="text, number, date, bool, locale or zone: birthday=date."),
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", metavar="NAME", help="utf-8, gb18030, ...; else found out.")
]
Separator = Annotated[
    str | None, typer.Option("--separator", metavar="CHARACTER", help="Or comma, semicolon, tab, pipe; else found out.")
]
Sheet = Annotated[str | None, typer.Option("--sheet", metavar="NAME", help="Of a workbook; else the first.")]
Sql = Annotated[
    str | None,
    typer.Option("--sql", metavar="URL", help="A database, only read: its URL, env:NAME or file:PATH that has it."),
]
Select = Annotated[str | None, typer.Option("--query", metavar="SELECT", help="What to read of the database.")]
Table = Annotated[str | None, typer.Option("--table", metavar="NAME", help="Or all of this table.")]
Key = Annotated[str | None, typer.Option("--key", metavar="COLUMN", help="Of the query: unique, never empty.")]
_SAMPLES, _SHOWN = 3, 20


def preview(
    file: File = None,
    *,
    maps: Maps = None,
    types: Types = None,
    encoding: Encoding = None,
    separator: Separator = None,
    sheet: Sheet = None,
    sql: Sql = None,
    query: Select = None,
    of_table: Table = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Show what an import would make of a file or a query: columns, kinds, samples, bad rows. Nothing is kept.

    Exit 1 if some of the first 1,000 rows are bad.
    """
    from dispatcher import audiences  # noqa: PLC0415 - what --help does not need

    rows = _rows(
        file,
        encoding=encoding,
        separator=separator,
        sheet=sheet,
        sql=sql,
        query=query,
        of_table=of_table,
        key=key,
    )
    found = audiences.preview(rows, _said(maps, types))
    if as_json:
        document(_previewed(rows, found))
    else:
        line(" · ".join([rows.source, *(f"{name} {value}" for name, value in rows.details.items())]))
        _show(found)
    raise typer.Exit(1 if found.bad else 0)


def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the audience; there may be one of this name.")],
    file: File = None,
    *,
    maps: Maps = None,
    types: Types = None,
    encoding: Encoding = None,
    separator: Separator = None,
    sheet: Sheet = None,
    sql: Sql = None,
    query: Select = None,
    of_table: Table = None,
    key: Key = None,
    rejects: Annotated[
        Path | None,
        typer.Option("--rejects", metavar="FILE", help="Keep the bad rows here too, as JSON Lines with their reason."),
    ] = None,
    max_bad: Annotated[
        str | None,
        typer.Option("--max-bad", metavar="N|N%", help="Change nothing when more rows than that are bad."),
    ] = None,
    reason: Reason = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Import a file or a query as a new version of an audience, which is the current one when all of it is kept.

    Bad rows are reported with their number, and the rest goes on. Of rows with the same address the first one counts.

    Exit 1 if some were bad. When it is interrupted, or fails, the version before stays the current one.
    """
    from dispatcher import audiences  # noqa: PLC0415 - as above
    from dispatcher.audience import checked_name  # noqa: PLC0415 - as above

    checked_name(name)
    most, said = _limit(max_bad), _said(maps, types)
    rows = _rows(
        file,
        encoding=encoding,
        separator=separator,
        sheet=sheet,
        sql=sql,
        query=query,
        of_table=of_table,
        key=key,
    )
    with ExitStack() as stack:
        ledger = stack.enter_context(opened_ledger())
        _ask(ledger.audiences, name, rows, yes=yes)
        progress, shown = stack.enter_context(_bar(rows))
        refused = stack.enter_context(_refusals(rejects, file, rows.source, shown))
        try:
            made = audiences.import_(
                ledger.audiences, name, rows, actor(reason), said=said, most=most, refused=refused, progress=progress
            )
        except KeyboardInterrupt:
            note("dispatcher: interrupted; nothing was changed")
            raise typer.Exit(INTERRUPTED) from None
    document(made) if as_json else _tell(made)
    raise typer.Exit(1 if made.bad else 0)


def _said(maps: Sequence[str] | None, types: Sequence[str] | None) -> "ColumnMap":
    from dispatcher.audience import Kind  # noqa: PLC0415 - as above
    from dispatcher.columns import ColumnMap  # noqa: PLC0415 - as above

    known = {kind.value: kind for kind in Kind if kind is not Kind.ADDRESS}
    kinds = pairs(types or (), "--type")
    for name, kind in kinds:
        if kind not in known:
            raise typer.BadParameter(f"{name}={kind}: the kinds are {', '.join(known)}", param_hint="--type")
    headers = pairs(maps or (), "--map")
    if len(dict(headers)) < len(headers):
        raise typer.BadParameter("one attribute is named twice", param_hint="--map")
    return ColumnMap(dict(headers), {name: known[kind] for name, kind in kinds})


def _limit(text: str | None) -> Any:
    from dispatcher.audiences import Limit  # noqa: PLC0415 - as above

    try:
        return None if text is None else Limit.parse(text)
    except ValueError:
        raise typer.BadParameter("write a count or a share: 100 or 5%", param_hint="--max-bad") from None


def _rows(
    file: Path | None,
    *,
    encoding: str | None,
    separator: str | None,
    sheet: str | None,
    sql: str | None,
    query: str | None,
    of_table: str | None,
    key: str | None,
) -> "Rows":
    from dispatcher.adapters.rows.file import of_file  # noqa: PLC0415 - as above

    if (file is None) == (sql is None):
        raise typer.BadParameter("name a file, or a database with --sql", param_hint="FILE")
    if file is not None:
        if query or of_table or key:
            raise typer.BadParameter("is for a database: it goes with --sql", param_hint="--query, --table, --key")
        return of_file(file, encoding=encoding, separator=separator, sheet=sheet)
    if encoding or separator or sheet:
        raise typer.BadParameter("is for a file", param_hint="--encoding, --separator, --sheet")
    from dispatcher.adapters.rows.query import Query, of_table_named, url_of  # noqa: PLC0415 - as above

    if (query is None) == (of_table is None):
        raise typer.BadParameter("goes with --query or with --table", param_hint="--sql")
    if key is None:
        raise typer.BadParameter("name a column that is unique and never empty", param_hint="--key")
    return Query(url_of(sql or ""), query or of_table_named(of_table or ""), key)


def _ask(audiences: "Audiences", name: str, rows: "Rows", *, yes: bool) -> None:
    """Where there is one of this name already."""
    try:
        before = audiences.current(name)
    except NotFound:
        return
    confirmed(
        f"audience {name} has version {before.version} with {count(before.kept, 'member')}; "
        f"{rows.source} becomes the current version",
        yes=yes,
    )


@contextmanager
def _bar(rows: "Rows") -> Iterator[tuple[Callable[[int], None], Callable[[str], None]]]:
    """On a terminal: a bar that goes by the bytes that were read. What hears of more rows, and what prints a line."""
    if not sys.stderr.isatty():
        yield (lambda _: None), note
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - for a terminal

    columns = (BarColumn(), TextColumn("{task.fields[rows]:,} rows"), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task, total = bar.add_task("", total=rows.size, rows=0), [0]

        def progress(more: int) -> None:
            total[0] += more
            bar.update(task, completed=rows.done, rows=total[0])

        yield progress, lambda text: bar.console.print(printable(text))


@contextmanager
def _refusals(
    path: Path | None, file: Path | None, source: str, shown: Callable[[str], None]
) -> Iterator[Callable[["BadRow"], None]]:
    """What says that a row is bad, up to some; and keeps it, if a file is named."""
    if path is not None and file is not None and path.exists() and path.samefile(file):
        raise ConfigurationError("--rejects", f"{path} is the file that is imported; name another one")
    kept: IO[str] | None = None
    met = 0

    def refused(row: "BadRow") -> None:
        nonlocal met
        met += 1
        if met <= _SHOWN:
            shown(_said_of(source, row))
        if kept is not None:
            kept.write(json_line(_plain(row)))

    with ExitStack() as stack:
        if path is not None:
            try:
                kept = stack.enter_context(path.open("w", encoding="utf-8", errors="backslashreplace"))
            except OSError as error:
                raise ConfigurationError("--rejects", f"cannot write {path}: {error.strerror}") from None
        yield refused
    if met > _SHOWN:
        note(f"dispatcher: and {count(met - _SHOWN, 'row')} more: see `dispatcher audiences rejects`")


def _said_of(source: str, row: "BadRow") -> str:
    text = f"{source}:{row.n}: {row.field}: {row.reason}" if row.field else f"{source}:{row.n}: {row.reason}"
    return " ".join(text.split())


def _plain(row: "BadRow") -> dict[str, Any]:
    return {"row": row.n, "field": row.field, "reason": row.reason, "payload": row.payload}


def _tell(made: "AudienceVersion") -> None:
    line(
        f"{made.name} version {made.version}: {count(made.rows, 'row')} · kept {made.kept:,} · bad {made.bad:,} · "
        f"doubled {made.doubled:,}"
    )


def _samples(found: "Preview", column: "Column") -> list[Any]:
    """Some values of a column, as they would be kept."""
    if column.kind == "address":
        return [member.shown for member in found.members[:_SAMPLES]]
    return [member.attributes.get(column.name) for member in found.members[:_SAMPLES]]


def _show(found: "Preview") -> None:
    table(
        ("column", "attribute", "kind", *(f"row {member.n}" for member in found.members[:_SAMPLES])),
        [(column.source, column.name, column.kind, *map(cell, _samples(found, column))) for column in found.columns],
        head=True,
    )
    for row in found.bad[:_SHOWN]:
        note(_said_of("row", row))
    line(f"of the first {count(found.rows, 'row')} {len(found.bad):,} are bad")


def cell(value: Any) -> str:
    """An attribute's value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _previewed(rows: "Rows", found: "Preview") -> dict[str, Any]:
    return {
        "source": rows.source,
        "details": dict(rows.details),
        "columns": [
            {
                "column": column.source,
                "attribute": column.name,
                "kind": column.kind.value,
                "samples": _samples(found, column),
            }
            for column in found.columns
        ],
        "rows": found.rows,
        "good": len(found.members),
        "bad": plain([_plain(row) for row in found.bad]),
    }
