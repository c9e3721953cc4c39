"""``dispatcher reports report`` and ``verify``: the distribution, written down and looked at again."""

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.address import mailbox
from dispatcher.cli.opening import opened, read_text
from dispatcher.cli.output import Json, count, document, line, note
from dispatcher.delivery import SETTLED, State
from dispatcher.errors import ConfigurationError, InvalidAddress, InvalidToken

if TYPE_CHECKING:
    from dispatcher.dispatcher import Dispatcher

app = typer.Typer()
_PAIR = 2
_SHOWN = 20
_HEADINGS = frozenset({"address", "old", "old address", "recipient", "旧地址", "收件人"})


@app.command("report", epilog="Example: dispatcher reports report statements-2026-11 --csv who.csv --json proof.json")
def report(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The report's name.")],
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="A table; - for stdout, as where no file is named.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="A signed document; - for stdout.")
    ] = None,
) -> None:
    """Write who received which file: address, file, SHA-256, state, relay, reply and time of each."""
    with opened() as dispatcher:
        found = dispatcher.reports.get(name)
        if csv_file is not None or json_file is None:
            path = None if csv_file == Path("-") else csv_file
            note(f"dispatcher: {count(_write_csv(dispatcher, name, path), 'line')} written")
        if json_file is not None:
            text = dispatcher.distribution.signed(found, dispatcher.clock.time())
            if json_file == Path("-"):
                sys.stdout.write(text)
                return
            try:
                json_file.write_text(text, encoding="utf-8", newline="\n")
            except OSError as error:
                raise ConfigurationError("--json", f"cannot write {json_file}: {error.strerror}") from None
            note(f"dispatcher: {json_file} is signed; see `dispatcher reports verify {json_file}`")


@app.command("verify", epilog="Example: dispatcher reports verify proof.json")
def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A signed document; - for stdin.")], as_json: Json = False
) -> None:
    """Check that a document was signed here and not changed since, and compare it with the ledger. Exit 1 if not."""
    with opened() as dispatcher:
        try:
            found = dispatcher.distribution.verify(read_text(file, "FILE", exact=True))
        except InvalidToken as error:
            if as_json:
                document({"file": file, "signed": False, "reason": str(error)})
            else:
                note(f"dispatcher: {file}: {error}")
            raise typer.Exit(1) from None
    if as_json:
        document({"file": file, "signed": True, "report": found.report, "lines": found.lines, "differ": found.differ})
        raise typer.Exit(1 if found.differ else 0)
    line(f"{file}: signed here, {count(found.lines, 'line')} of report {found.report}")
    if found.differ is None:
        line("the ledger has none of its mails any more, so they were not compared")
        return
    differing = count(len(found.differ), "line")
    line(f"the ledger says {f'otherwise in {differing}' if found.differ else 'the same'}")
    for each in found.differ[:_SHOWN]:
        line(f"  {each}")
    if len(found.differ) > _SHOWN:
        line(f"  and {len(found.differ) - _SHOWN:,} more")
    raise typer.Exit(1 if found.differ else 0)


def _write_csv(dispatcher: "Dispatcher", name: str, path: Path | None) -> int:
    from dispatcher.distribution import COLUMNS  # noqa: PLC0415 - --help needs none of it

    try:
        file = sys.stdout if path is None else path.open("w", encoding="utf-8-sig", newline="")
    except OSError as error:
        raise ConfigurationError("--csv", f"cannot write {path}: {error.strerror}") from None
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(COLUMNS)
    number = 0
    for number, cells in enumerate(dispatcher.distribution.cells(dispatcher.reports.get(name)), 1):  # noqa: B007 - the last one counts
        rows.writerow(cells)
    if path is not None:
        file.close()
    return number


def states_of(text: str) -> tuple[State, ...]:
    """Of a list with commas. Ends the command for what is no state, or no end."""
    ends = {state.value: state for state in State if state in SETTLED}
    wanted = [each.strip() for each in text.split(",") if each.strip()]
    if not wanted or not ends.keys() >= set(wanted):
        raise typer.BadParameter(f"{text!r}: the states that are an end are {', '.join(ends)}", param_hint="--only")
    return tuple(ends[each] for each in wanted)


def moved_to(path: Path) -> dict[str, str]:
    """Old address -> new address. Raises ConfigurationError naming the line."""
    found: dict[str, str] = {}
    for number, row in _numbered(path):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[0].lower() in _HEADINGS):
            continue
        if len(cells) != _PAIR or not all(cells):
            raise ConfigurationError("--to-list", f"{path}:{number}: write old address,new address")
        try:
            mailbox(cells[1], "new address")
        except InvalidAddress as error:
            raise ConfigurationError("--to-list", f"{path}:{number}: {error}") from None
        if found.setdefault(cells[0], cells[1]) != cells[1]:
            raise ConfigurationError("--to-list", f"{path}:{number}: {cells[0]} has two new addresses")
    if not found:
        raise ConfigurationError("--to-list", f"{path}: is empty")
    return found


def _numbered(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows, each with its last line's number."""
    rows = csv.reader(io.StringIO(read_text(str(path), "--to-list"), newline=""))
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise ConfigurationError("--to-list", f"{path}:{rows.line_num}: {error}") from None
