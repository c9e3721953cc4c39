"""How a report is shown: what its check has found, and how far it is."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dispatcher.cli.output import console, count, document, line, note, plain, table, when
from dispatcher.delivery import LIVE, UNSENT, State

if TYPE_CHECKING:
    from dispatcher.dispatcher import Dispatcher
    from dispatcher.report_check import Checked
    from dispatcher.report_job import Report, ReportRow

_LOOK_SECONDS = 1.0
SHOWN = 5  # of a kind of findings, or of people


def facts(report: "Report") -> dict[str, Any]:
    """As ``--json`` has it."""
    found: dict[str, Any] = plain(report)
    found["files"] = [each._asdict() for each in report.files]
    return found


def accepted(report: "Report") -> str:
    """What became of asking for it, which may have been done before."""
    mails = f"report {report.name}: {count(report.total, 'mail')}"
    over = report.finished_at is not None
    return f"{mails}; it is over, and nothing was sent again" if over else f"{mails} accepted"


def show_check(checked: "Checked", *, as_json: bool) -> None:
    """What was found, and what that means."""
    if as_json:
        findings = [finding._asdict() for finding in checked.findings]
        sums = {"recipients": checked.recipients, "mails": len(checked.mails), "left_out": list(checked.missing)}
        document({"ok": checked.ok, **sums, "findings": findings})
        return
    if checked.findings:
        table(
            ("result", "what", "count", "where"),
            [
                ("warn" if each.ok else "fail", each.what, each.number, _where(each.where, each.number))
                for each in checked.findings
            ],
        )
    said = f"{count(checked.recipients, 'recipient')}, {count(len(checked.mails), 'mail')}"
    if checked.ok:
        note(f"dispatcher: {said}" + (f", {len(checked.missing):,} left out" if checked.missing else ""))
        return
    note(f"dispatcher: {said}; nothing was sent")
    if {finding.what for finding in checked.findings if not finding.ok} <= {"missing", "no file"}:
        note("dispatcher: to go without those who have no file, add --allow-missing")


def _where(where: tuple[str, ...], total: int) -> str:
    more = [f"and {total - SHOWN:,} more"] if total > SHOWN else []
    return "\n".join([*where[:SHOWN], *more])


def show_one(report: "Report", sums: Mapping[State, int], unsent: Sequence["ReportRow"]) -> None:
    """Where it stands, and whom it did not reach."""
    files = ", ".join(each.name for each in report.files)
    table(
        ("report", report.name),
        [
            ("state", report.state.value),
            ("mails", f"{report.total:,}"),
            *([("taken in", f"{report.cursor:,}")] if report.cursor < report.total else []),
            *([("left out", ", ".join(report.missing[:SHOWN]))] if report.missing else []),
            *([("for all", files)] if files else []),
            *([("owner", report.owner)] if report.owner else []),
            ("submission", report.submission),
            ("sent", f"{when(report.created_at)} by {report.actor}"),
            *([("over", when(report.finished_at))] if report.finished_at else []),
        ],
    )
    table(("state", "count"), [(state.value, f"{sums[state]:,}") for state in State if sums.get(state)])
    if unsent:
        table(("address", "state", "why"), [(row.address, row.state.value, row.text) for row in unsent])
        more = sum(sums.get(state, 0) for state in UNSENT) - len(unsent)
        if more > 0:
            note(f"dispatcher: and {more:,} more: see `dispatcher reports report {report.name}`")


def follow(dispatcher: "Dispatcher", name: str) -> None:
    """Until none of its mails is live: a bar on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415 - for a terminal

        columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console(stderr=True)) as bar:
            task = bar.add_task(name, total=dispatcher.reports.get(name).total)
            while (done := _settled(dispatcher, name)) is not None:
                bar.update(task, completed=done)
                time.sleep(_LOOK_SECONDS)
        return
    said = -1
    while (done := _settled(dispatcher, name)) is not None:
        if done != said:
            note(f"dispatcher: report {name}: {done:,} of {dispatcher.reports.get(name).total:,} settled")
            said = done
        time.sleep(_LOOK_SECONDS)
    line(f"report {name} is {dispatcher.reports.get(name).state.value}")


def _settled(dispatcher: "Dispatcher", name: str) -> int | None:
    """How many mails are; None: it is over."""
    if dispatcher.reports.get(name).finished_at is not None:
        return None
    return sum(number for state, number in dispatcher.reports.sums(name).items() if state not in LIVE)
