"""What ``doctor`` says about automations: whether people are moved on, and who waits for a person."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dispatcher.cli.doctor.finding import OK, WARN, Finding
from dispatcher.cli.opening import opened_ledger
from dispatcher.cli.output import duration
from dispatcher.errors import LedgerError

if TYPE_CHECKING:
    from dispatcher.automation import Inside
    from dispatcher.settings import Settings

_WAITS_SECONDS = 60.0  # workers move people on within a few seconds
_SHOWN = 3


def automations(settings: "Settings") -> Iterator[Finding]:
    """Who is due and not moved on, who waits after a failed step, and what is paused; all of them together."""
    try:
        with opened_ledger(settings) as ledger:
            found = ledger.automations.standing()
    except LedgerError:  # told in the ledger's own line
        return
    amiss = [*_waiting(found), *_failed(found), *_paused(found)]
    yield from amiss or [
        Finding("automations", OK, f"{found.count:,}, {found.inside:,} inside" if found.count else "none")
    ]


def _waiting(found: "Inside") -> Iterator[Finding]:
    if found.due_since is None or found.read_at - found.due_since <= _WAITS_SECONDS:
        return
    said = f"people are due and not moved on, for {duration(found.read_at - found.due_since)}"
    advice = "beat and a worker of mail.control do it: start `dispatcher up`, or see its log"
    yield Finding("automations", WARN, said, advice)


def _failed(found: "Inside") -> Iterator[Finding]:
    if found.failed:
        advice = "see `dispatcher automations list`, `show NAME`; then `retry NAME KEY` or `exit NAME KEY`"
        yield Finding("automations", WARN, f"{found.failed:,} wait after a step that failed", advice)


def _paused(found: "Inside") -> Iterator[Finding]:
    for name, reason in found.paused[:_SHOWN]:
        said = f"{name} is paused{f': {reason}' if reason else ''}"
        yield Finding("automations", WARN, said, f"`dispatcher automations resume {name}` when it may go on")
