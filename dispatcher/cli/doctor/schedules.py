"""What ``doctor`` says about schedules: whether what is due is fired, and what came of it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dispatcher.cli.doctor.finding import OK, WARN, Finding
from dispatcher.cli.opening import opened_ledger
from dispatcher.cli.output import count, duration
from dispatcher.errors import LedgerError

if TYPE_CHECKING:
    from dispatcher.schedule import Standing
    from dispatcher.settings import Settings

_WAITS_SECONDS = 60.0  # workers fire within a few seconds
_DAY = 86400.0
_SHOWN = 3


def schedules(settings: "Settings") -> Iterator[Finding]:
    """What nobody fires, what failed within a day, and what is over; all of them together."""
    try:
        with opened_ledger(settings) as ledger:
            found = ledger.schedules.standing(_DAY)
    except LedgerError:  # told in the ledger's own line
        return
    amiss = [*_waiting(found), *_failed(found), *_over(found)]
    yield from amiss or [
        Finding("schedules", OK, f"{found.count:,}, {found.paused:,} paused" if found.count else "none")
    ]


def _waiting(found: "Standing") -> Iterator[Finding]:
    if found.due_since is None or found.read_at - found.due_since <= _WAITS_SECONDS:
        return
    said = f"{count(found.due, 'occurrence')} due and not fired, for {duration(found.read_at - found.due_since)}"
    advice = "beat and a worker of mail.control fire them: start `dispatcher up`, or see its log"
    yield Finding("schedules", WARN, said, advice)


def _failed(found: "Standing") -> Iterator[Finding]:
    if found.last_failed is None:
        return
    name, why = found.last_failed
    advice = f"see `dispatcher schedules history {name}`, edit it, then `dispatcher schedules run-now {name}`"
    yield Finding(
        "schedules", WARN, f"{count(found.failed, 'occurrence')} failed within a day, last of {name}: {why}", advice
    )


def _over(found: "Standing") -> Iterator[Finding]:
    if not found.over:
        return
    more = f" and {len(found.over) - _SHOWN:,} more" if len(found.over) > _SHOWN else ""
    said = f"over, nothing more will come of it: {', '.join(found.over[:_SHOWN])}{more}"
    advice = "`dispatcher schedules remove NAME`, or `dispatcher schedules edit NAME` with another --end"
    yield Finding("schedules", WARN, said, advice)
