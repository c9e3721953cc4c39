"""The tasks around sending. They may be lost or doubled: the ledger knows what is due."""

from dataclasses import asdict

import structlog

from dispatcher.adapters.celery import CONTROL, DELIVER, EXPAND, EXPAND_SECONDS, SWEEP, UPKEEP
from dispatcher.delivery import Lane
from dispatcher.errors import ConfigurationError
from dispatcher.policy import UPKEEP_SECONDS

from .app import app
from .lifecycle import current, stopping

SLICE_SECONDS = 2.0  # of upkeep at a time: the sweep waits behind it
EXPAND_SLICE_SECONDS = 0.5  # of a campaign: what is handed over as a task waits behind it, too
_log = structlog.stdlib.get_logger("dispatcher.worker")


@app.task(name=DELIVER)
def deliver(lane: str, messages: list[int]) -> int:
    """Answer a lane's bell. What cannot be done now is done when the sweep rings again."""
    try:
        return current().deliver(Lane(lane), messages, stopping=stopping)
    except ConfigurationError as error:
        _log.error("cannot send", reason=str(error))
        return 0


@app.task(name=SWEEP)
def sweep() -> int:
    """End dead leases and ring for what is due."""
    try:
        return current().sweep()
    except ConfigurationError as error:
        _log.error("cannot sweep", reason=str(error))
        return 0


@app.task(name=EXPAND)
def expand(again: bool = False) -> None:
    """Move schedules, automations and campaigns on: a piece, then again behind what else waits in the queue."""
    try:
        more = current().advance(EXPAND_SLICE_SECONDS, again=again, stopping=stopping)
    except ConfigurationError as error:
        _log.error("cannot move schedules, automations and campaigns on", reason=str(error))
        return
    if more and not stopping():
        expand.apply_async(kwargs={"again": True}, queue=CONTROL, expires=EXPAND_SECONDS)


@app.task(name=UPKEEP)
def upkeep(again: bool = False) -> None:
    """Remove what is over its retention: a little, then again behind what else waits in the queue."""
    try:
        removed = current().upkeep(SLICE_SECONDS, again=again, stopping=stopping)
    except ConfigurationError as error:
        _log.error("cannot tidy up", reason=str(error))
        return
    if removed:
        _log.info("upkeep", **asdict(removed))
    if removed and removed.more:
        upkeep.apply_async(kwargs={"again": True}, queue=CONTROL, expires=UPKEEP_SECONDS)
