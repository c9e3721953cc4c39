"""``dispatcher submit``: a file of JSON Lines, read and accepted in flat memory."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Annotated, Any, Self

import typer

from dispatcher.cli.exits import INTERRUPTED
from dispatcher.cli.opening import opened, settings_of_user, warn_if_unserved
from dispatcher.cli.output import Json, console, document, json_line, line, note, printable
from dispatcher.errors import ConfigurationError, LedgerUnavailable, SubmissionError

if TYPE_CHECKING:
    from rich.progress import Progress

    from dispatcher.dispatcher import Dispatcher

MAX_LINE = 8 * 1024 * 1024
_CHUNK_LINES, _CHUNK_BYTES = 500, 16 * 1024 * 1024
_KEPT_OF_LONG = 1000
_SHOWN_OF_REASON = 500


def submit(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON Lines, one submission a line; - is stdin.")],
    rejects: Annotated[
        Path | None,
        typer.Option("--rejects", metavar="FILE", help="Keep the refused lines here, as JSON Lines with their reason."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Submit a file of mails, one JSON object a line.

    A bad line is reported with its number and reason, and the rest goes on.

    Exit 1 if some were rejected. A line with an idempotency_key can be submitted again: it counts as duplicate.
    """
    settings = settings_of_user()
    totals = {"accepted": 0, "duplicate": 0, "rejected": 0}
    with ExitStack() as stack:
        lines, size = _open(file, stack)
        report = stack.enter_context(_Report("-" if file == "-" else file, rejects, size))
        # The folders that the settings name, if they name any: the lines may be another's work than this user's.
        dispatcher = stack.enter_context(
            opened(settings, paths="settings" if settings.attachments_dirs else "anywhere")
        )
        try:
            for group in _groups(lines, report):
                _accept(dispatcher, group, report, totals)
        except KeyboardInterrupt:
            done = f"accepted {totals['accepted']:,} · duplicate {totals['duplicate']:,} · rejected {report.rejected:,}"
            note(f"dispatcher: interrupted after {done}; what has an idempotency_key can be submitted again")
            raise typer.Exit(INTERRUPTED) from None
        if totals["accepted"]:
            warn_if_unserved(dispatcher, settings)
    totals["rejected"] = report.rejected
    if as_json:
        document(totals)
    else:
        line(f"accepted {totals['accepted']:,} · duplicate {totals['duplicate']:,} · rejected {totals['rejected']:,}")
    raise typer.Exit(1 if totals["rejected"] else 0)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    size: int
    document: Any


def _open(file: str, stack: ExitStack) -> tuple[IO[bytes], int | None]:
    """The lines and how many bytes they are, if that is known."""
    if file == "-":
        return sys.stdin.buffer, None
    path = Path(file)
    try:
        return stack.enter_context(path.open("rb")), path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise ConfigurationError(file, f"cannot be read: {error.strerror}") from None


def _groups(lines: IO[bytes], report: "_Report") -> Iterator[list[_Line]]:
    """The good lines in groups that are bounded in number and in bytes."""
    group: list[_Line] = []
    size = 0
    for found in _read(lines, report):
        group.append(found)
        size += found.size
        if len(group) >= _CHUNK_LINES or size >= _CHUNK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _read(lines: IO[bytes], report: "_Report") -> Iterator[_Line]:
    """Every line that is JSON; what is not is reported. Never more than one line in memory, and of that 8 MiB."""
    number = 0
    while raw := lines.readline(MAX_LINE + 1):
        number += 1
        report.advance(len(raw))
        if len(raw) > MAX_LINE and not raw.endswith(b"\n"):
            while (rest := lines.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                report.advance(len(rest))
            report.reject(number, "", f"is longer than {MAX_LINE >> 20} MiB", _text(raw[:_KEPT_OF_LONG]) + "…")
            continue
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not raw.strip():
            continue
        try:
            document = json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            report.reject(number, "", f"is not UTF-8 (byte {error.start + 1})", _text(raw))
        except json.JSONDecodeError as error:
            report.reject(number, "", f"is not JSON: {error.msg} at column {error.colno}", _text(raw))
        except (ValueError, RecursionError) as error:
            report.reject(number, "", f"is not JSON that can be read: {error}", _text(raw))
        else:
            yield _Line(number, len(raw), document)


def _accept(dispatcher: "Dispatcher", group: list[_Line], report: "_Report", totals: dict[str, int]) -> None:
    try:
        for found, answer in zip(group, dispatcher.submit_many(one.document for one in group), strict=True):
            if isinstance(answer, SubmissionError):
                # What names its field at the beginning of its sentence is not to name it twice.
                report.reject(found.number, answer.field, str(answer), found.document)
            else:
                totals["duplicate" if answer.duplicate else "accepted"] += 1
    except LedgerUnavailable as error:
        done = totals["accepted"] + totals["duplicate"]
        raise LedgerUnavailable(
            f"{report.file}:{group[0].number}: {error}; {done:,} lines before it are in the ledger, "
            "and nothing from it on"
        ) from None


class _Report:
    """Says what was refused, keeps it, and shows how far we are."""

    def __init__(self, file: str, rejects: Path | None, size: int | None) -> None:
        self.file, self.rejected = file, 0
        self._path, self._size = rejects, size
        self._kept: IO[str] | None = None
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            if self._path.exists() and Path(self.file).exists() and self._path.samefile(self.file):
                raise ConfigurationError("--rejects", f"{self._path} is the file that is submitted; name another one")
            try:
                self._kept = self._path.open("w", encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise ConfigurationError("--rejects", f"cannot write {self._path}: {error.strerror}") from None
        if sys.stderr.isatty():
            self._progress = _bar()
            self._progress.add_task(self.file, total=self._size)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
        if self._kept is not None:
            self._kept.close()

    def advance(self, size: int) -> None:
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0], size)

    def reject(self, number: int, field: str, reason: str, payload: Any) -> None:
        """One line ``FILE:LINE: field: reason``; ``reason`` begins with the field where there is one."""
        self.rejected += 1
        text = printable(f"{self.file}:{number}: {reason[:_SHOWN_OF_REASON]}").replace("\n", " ")
        if self._progress is not None:
            self._progress.console.print(text)
        else:
            sys.stderr.write(f"{text}\n")
        if self._kept is not None:
            bare = reason.removeprefix(f"{field}: ") if field else reason
            self._kept.write(json_line({"line": number, "field": field, "reason": bare, "payload": payload}))


def _bar() -> "Progress":
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - for a terminal

    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=console(stderr=True), transient=True,
    )  # fmt: skip


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
