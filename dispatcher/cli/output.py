"""What commands print: tables and bars on a terminal, plain lines with tabs otherwise, one JSON document on request.

Results go to stdout, everything about them to stderr.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed when nobody can be asked.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept with the change.")]
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_WIDE, _LEAST = 120, 12  # columns of a terminal that has room for everything; of a cell that tells something


def line(text: str = "") -> None:
    """One line of a result."""
    sys.stdout.write(f"{printable(text)}\n")


def note(text: str) -> None:
    """One line about it, on stderr."""
    sys.stderr.write(f"{printable(text)}\n")


def document(value: Any, file: IO[str] | None = None) -> None:
    """The one JSON document of ``--json``: records become objects, times stay seconds since the epoch."""
    (file or sys.stdout).write(json.dumps(plain(value), ensure_ascii=False, indent=2) + "\n")


def json_line(value: Any) -> str:
    """A value as one line of JSON Lines, with its line end."""
    return json.dumps(plain(value), ensure_ascii=False) + "\n"


def plain(value: Any) -> Any:
    """A record, or anything that holds some, as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    head: bool = False,
    short: Sequence[str] = (),
) -> None:
    """A table on a terminal; else a line for each row, its cells parted by tabs.

    In a pipe a list has no head, so that scripts may read and count its lines; ``head`` is for what shows several
    tables. Programs that want names take ``--json``. ``short``: the columns that a narrow terminal shows, each row in
    one line; what does not fit is cut off.
    """
    if not sys.stdout.isatty():
        for row in [columns, *rows] if head else rows:
            line("\t".join("" if cell is None else "; ".join(str(cell).split("\n")) for cell in row))
        return
    from rich import box  # noqa: PLC0415 - costs 50 ms, for tables only
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    screen = console()
    narrow = bool(short) and screen.width < _WIDE
    kept = [number for number, column in enumerate(columns) if not narrow or column in short]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in (columns[number] for number in kept):
        whole = column in _WHOLE  # an id that is broken into two lines cannot be copied
        shown.add_column(
            column,
            justify="right" if column in _NUMBERS else "left",
            overflow="ellipsis" if narrow else "fold",
            no_wrap=whole or narrow,
            min_width=_LEAST if narrow and not whole else None,
        )
    for row in rows:
        cells = (row[number] for number in kept)
        shown.add_row(*(Text("" if cell is None else printable(str(cell)), style=_style(cell)) for cell in cells))
    if title:
        screen.print(title, style="bold")
    screen.print(shown)


def console(*, stderr: bool = False) -> "Console":
    """A console of rich's."""
    from rich.console import Console  # noqa: PLC0415 - costs 50 ms, for terminals only

    return Console(stderr=stderr, highlight=False, emoji=False, markup=False)


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, else nothing: call what it gives with how many more are done. ``total``: 0 when nobody
    knows."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415 - for a terminal

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total or None)
        yield lambda more: bar.advance(task, more)


_NUMBERS = frozenset(
    {
        "accepted",
        "waiting",
        "tasks",
        "deferred",
        "oldest",
        "sent",
        "attempts",
        "mails",
        "attachments",
        "pid",
        "count",
        "queued",
        "leased",
        "in_doubt",
        "invalid",
        "expired",
        "cancelled",
        "bounced",
    }
)
_WHOLE = frozenset({"id", "delivery", "submission", "reference", "lane", "version", "state"})
_STYLES = {
    "sent": "green", "ok": "green", "yes": "green", "bounced": "red", "expired": "red", "invalid": "red",
    "fail": "red", "no": "red", "deferred": "yellow", "in_doubt": "yellow", "warn": "yellow",
    "paused": "yellow", "half open": "yellow", "slowed": "yellow", "broken": "red",
}  # fmt: skip


def _style(cell: Any) -> str:
    return _STYLES.get(str(cell), "")


def printable(text: str) -> str:
    """The text without what a terminal would obey: a subject or a reply may come from anywhere."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def when(moment: float | None) -> str:
    """A time for people, in their zone."""
    if moment is None:
        return ""
    return datetime.fromtimestamp(moment, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """A length of time for people: ``0.3 s``, ``42 s``, ``5 min``, ``3.0 h``, ``2.0 d``."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - one digit is enough
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:.1f} d"


def count(number: int, noun: str) -> str:
    """``1 recipient``, ``2,000 recipients``; ``1 delivery``, ``2 deliveries``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def confirmed(question: str, *, yes: bool) -> None:
    """Say what is about to be done, and ask. Ends the command when the answer is no, or nobody is there to answer."""
    if yes:
        note(f"dispatcher: {question}")
    elif not sys.stdin.isatty():
        note(f"dispatcher: {question}; nobody is here to be asked, so add --yes")
        raise typer.Exit(2)
    elif not typer.confirm(f"{question}. Go on?", err=True):
        raise typer.Exit(1)
