"""``dispatcher suppressions``: whom not to write to."""

import csv
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import typer

from dispatcher.cli.opening import actor, duration_of, moment, opened_ledger
from dispatcher.cli.output import (
    Json,
    Yes,
    confirmed,
    count,
    document,
    json_line,
    line,
    note,
    plain,
    printable,
    table,
    when,
)
from dispatcher.errors import ConfigurationError, InvalidAddress
from dispatcher.suppression import ALL, Reason, Suppression, of_list, scope_of

if TYPE_CHECKING:
    from dispatcher.cli.suppression_rows import Row

app = typer.Typer(help="Whom not to write to: for all mail, for marketing, or for one list.", no_args_is_help=True)

_SHOWN_OF_REASON = 500
Addresses = Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="Addresses, with or without a name.")]
Scope = Annotated[
    str | None, typer.Option("--scope", metavar="SCOPE", help="all, marketing, or list:NAME.", show_default=False)
]
List = Annotated[str | None, typer.Option("--list", metavar="NAME", help="As --scope list:NAME.")]
Kind = Annotated[Reason | None, typer.Option("--reason", help="For this reason.")]
For = Annotated[str | None, typer.Option("--for", metavar="TIME", help="For so long, such as 90d; else for good.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until 2026-12-01T09:00; else for good.")]


@app.command("list", epilog="Example: dispatcher suppressions list --reason complaint")
def list_(
    scope: Scope = None,
    of: List = None,
    reason: Kind = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 100,
    as_json: Json = False,
) -> None:
    """List them, by address."""
    with opened_ledger() as ledger:
        wanted: dict[str, Any] = {"scope": _scope(scope, of), "reason": reason}
        found = [each for each, _ in zip(ledger.suppressions.find(**wanted), range(limit), strict=False)]
        total = ledger.suppressions.count(**wanted)
    if as_json:
        document(found)
        return
    _table(found)
    if total > len(found):
        note(f"dispatcher: these are {len(found):,} of {total:,}; see all with `dispatcher suppressions export`")


@app.command("show", epilog="Example: dispatcher suppressions show ada@example.com")
def show(address: Annotated[str, typer.Argument(metavar="ADDRESS")], as_json: Json = False) -> None:
    """Show what holds mail to one address, and since when. Exit 1 if nothing does."""
    with opened_ledger() as ledger:
        found = ledger.suppressions.standing(_address(address))
    if as_json:
        document(found)
    elif found:
        _table(found)
    else:
        note(f"dispatcher: {address} is not suppressed")
    raise typer.Exit(0 if found else 1)


@app.command(
    "add", epilog="Example: dispatcher suppressions add ada@example.com --list news --evidence 'asked by phone'"
)
def add(
    addresses: Addresses,
    *,
    scope: Scope = None,
    of: List = None,
    reason: Annotated[Reason, typer.Option("--reason", help="Why, in one word.")] = Reason.HAND,
    evidence: Annotated[str, typer.Option("--evidence", metavar="TEXT", help="What shows it; it is kept.")] = "",
    for_: For = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """Write to these no more: at all, unless --scope or --list says less. What waits already is not sent either."""
    usual = Suppression("", _chosen(scope, of), reason, evidence, "command line", until=_end(for_, until))
    new = [
        Suppression(_address(each), usual.scope, reason, evidence, usual.origin, 0.0, usual.until) for each in addresses
    ]
    with opened_ledger() as ledger:
        added = ledger.suppressions.add(new, actor(evidence))
    if as_json:
        document({"added": added, "standing": len(new) - added})
    else:
        line(f"added {added:,} · standing {len(new) - added:,}")


@app.command("remove", epilog="Example: dispatcher suppressions remove ada@example.com --reason 'new mailbox' --yes")
def remove(
    addresses: Addresses,
    *,
    scope: Scope = None,
    of: List = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept with the change.")] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Write to these again, in every scope or in the one that is given. What was suppressed stays so: see
    `messages retry --state suppressed`. Exit 1 if nothing was found."""
    within, names = _scope(scope, of), [_address(each) for each in addresses]
    with opened_ledger() as ledger:
        store = ledger.suppressions
        expected = sum(store.count(address=each, scope=within) for each in names)
        removed = 0
        if expected:
            confirmed(f"{count(expected, 'suppression')} will be removed", yes=yes)
            removed = sum(store.remove(each, within, actor(reason)) for each in names)
    if as_json:
        document({"removed": removed})
    elif removed:
        line(f"{count(removed, 'suppression')} removed")
    else:
        note("dispatcher: nothing that fits is suppressed")
    raise typer.Exit(0 if removed else 1)


@app.command("import", epilog="Example: dispatcher suppressions import optouts.csv --scope marketing")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="CSV, JSON Lines, or an address a line; - is stdin.")],
    *,
    scope: Scope = None,
    of: List = None,
    reason: Annotated[Reason, typer.Option("--reason", help="Where a row names none.")] = Reason.IMPORT,
    for_: For = None,
    until: Until = None,
    rejects: Annotated[
        Path | None, typer.Option("--rejects", metavar="FILE", help="Keep what was refused here, as JSON Lines.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Import addresses that are not to be written to.

    CSV has a head with `address` (or `email`) and, if it likes, scope, reason, evidence, origin, at, until; JSON Lines
    the same names. What a row leaves out, the options say: all mail, unless --scope or --list says less.

    A bad row is reported with its number and reason, and the rest goes on. Exit 1 if some were rejected. Importing the
    same file again changes nothing.
    """
    from dispatcher.cli.suppression_rows import rows  # noqa: PLC0415 - --help needs none of it

    usual = Suppression("", _chosen(scope, of), reason, "", f"import of {Path(file).name}", until=_end(for_, until))
    tally = {"good": 0, "rejected": 0}
    with ExitStack() as stack:
        lines = sys.stdin.buffer if file == "-" else stack.enter_context(_opened(file, "rb", file))
        kept = stack.enter_context(_opened(rejects, "w", "--rejects")) if rejects is not None else None
        ledger = stack.enter_context(opened_ledger())
        added = ledger.suppressions.add(_good(rows(lines, usual), file, kept, tally), actor())
    totals = {"added": added, "standing": tally["good"] - added, "rejected": tally["rejected"]}
    if as_json:
        document(totals)
    else:
        line(" · ".join(f"{name} {number:,}" for name, number in totals.items()))
    raise typer.Exit(1 if totals["rejected"] else 0)


@app.command("export", epilog="Example: dispatcher suppressions export --format csv --output suppressions.csv")
def export(
    *,
    scope: Scope = None,
    of: List = None,
    reason: Kind = None,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="JSON Lines, or CSV.")] = "jsonl",
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="A file; stdout by default.")] = None,
    as_json: Json = False,
) -> None:
    """Write all that fit, however many, as `import` takes them."""
    with ExitStack() as stack:
        file = sys.stdout if output is None else stack.enter_context(_opened(output, "w", "--output"))
        ledger = stack.enter_context(opened_ledger())
        found = ledger.suppressions.find(scope=_scope(scope, of), reason=reason)
        number = _write(found, "json" if as_json else form, file)
    note(f"dispatcher: {count(number, 'row')} written")


def _scope(scope: str | None, of: str | None) -> str | None:
    """The one that is meant, if one is. Ends the command for what is none."""
    if scope is not None and of is not None:
        raise typer.BadParameter("give one of --scope and --list")
    try:
        return of_list(of) if of is not None else None if scope is None else scope_of(scope)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--list" if of is not None else "--scope") from None


def _chosen(scope: str | None, of: str | None) -> str:
    """As ``_scope``, and all mail where none is meant, which is said."""
    found = _scope(scope, of)
    if found is None:
        note("dispatcher: for all mail, order confirmations too; --scope marketing leaves them out")
    return found or ALL


def _end(for_: str | None, until: str | None) -> float | None:
    if for_ is not None and until is not None:
        raise typer.BadParameter("give one of --for and --until")
    if for_ is not None:
        try:
            return time.time() + duration_of(for_)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--for") from None
    end = None if until is None else moment(until, "--until")
    if end is not None and end <= time.time():
        raise typer.BadParameter(f"{until} is in the past", param_hint="--until")
    return end


def _address(text: str) -> str:
    from dispatcher.address import mailbox  # noqa: PLC0415 - --help needs none of it

    try:
        return mailbox(text, "ADDRESS")[0]
    except InvalidAddress as error:
        raise typer.BadParameter(error.reason) from None


def _table(found: Iterable[Suppression]) -> None:
    table(
        ("address", "scope", "reason", "since", "until", "evidence"),
        [(s.address, s.scope, s.reason.value, when(s.at), when(s.until), s.evidence) for s in found],
        short=("address", "scope", "reason"),
    )


def _opened(path: Path | str, mode: Literal["rb", "w"], option: str) -> IO[Any]:
    try:
        if mode == "rb":
            return Path(path).open("rb")
        return Path(path).open("w", encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        verb = "read" if mode == "rb" else "write"
        raise ConfigurationError(option, f"cannot {verb} {path}: {error.strerror}") from None


def _good(found: "Iterator[Row]", file: str, kept: IO[str] | None, tally: dict[str, int]) -> Iterator[Suppression]:
    """The rows that hold; the others are told."""
    for number, suppression, error in found:
        if suppression is not None:
            tally["good"] += 1
            yield suppression
            continue
        tally["rejected"] += 1
        sys.stderr.write(printable(f"{file}:{number}: {error[:_SHOWN_OF_REASON]}").replace("\n", " ") + "\n")
        if kept is not None:
            kept.write(json_line({"line": number, "reason": error}))


def _write(found: Iterable[Suppression], form: str, file: IO[str]) -> int:
    from dispatcher.cli.suppression_rows import COLUMNS  # noqa: PLC0415 - --help needs none of it

    if form == "json":
        whole = list(found)
        document(whole, file)
        return len(whole)
    rows = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    if form == "csv":
        rows.writeheader()
    number = 0
    for number, each in enumerate(found, 1):  # noqa: B007 - how many there were
        if form == "csv":
            rows.writerow({name: _on_a_line(value) for name, value in plain(each).items()})
        else:
            file.write(json_line(each))
    return number


def _on_a_line(value: Any) -> Any:
    """As a cell that ``import`` takes: there a line is a row."""
    return " ".join(value.splitlines()) if isinstance(value, str) else value
