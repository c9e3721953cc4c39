"""The tasks around sending. ``mail.deliver`` and ``mail.sweep`` may be lost or doubled: the ledger knows what is due.
``mail.submit`` carries the mail itself, so it is acknowledged only when the ledger has it."""

import time
from dataclasses import asdict
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Reject

from dispatcher.adapters.celery import CONTROL, DELIVER, EXPAND, EXPAND_SECONDS, SUBMIT, SWEEP, UPKEEP
from dispatcher.adapters.redis import Broker
from dispatcher.delivery import Lane
from dispatcher.errors import ConfigurationError, LedgerError, SubmissionError
from dispatcher.handed import MAX_PRODUCER
from dispatcher.policy import UPKEEP_SECONDS

from .app import app, broker
from .lifecycle import current, stopping

AWAY_SECONDS = 2.0
MAX_KILLED = 3
SLICE_SECONDS = 2.0  # of upkeep at a time: the sweep waits behind it
EXPAND_SLICE_SECONDS = 0.5  # of a campaign: what is handed over as a task waits behind it, too
_log = structlog.stdlib.get_logger("dispatcher.worker")
strikes = Broker(broker)  # connects in the process that first counts


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
    """Move schedules and campaigns on: a piece, then again behind what else waits in the queue."""
    try:
        more = current().advance(EXPAND_SLICE_SECONDS, again=again, stopping=stopping)
    except ConfigurationError as error:
        _log.error("cannot move schedules and campaigns on", reason=str(error))
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


@app.task(name=SUBMIT, bind=True, acks_late=True, reject_on_worker_lost=True)
def submit(self: "Task[Any, Any]", *args: Any, **kwargs: Any) -> str:
    """Accept the mail that a Celery client handed over as ``submission`` (and, if it likes, its name as ``producer``).

    What cannot be accepted is kept as rejected; while the ledger is away it goes back to its queue. Nothing that
    was handed over may vanish, so whatever arguments came are taken, and any error ends in one of the two.
    """
    task = str(self.request.id)
    killed = strikes.strike(task) - 1
    try:
        return _take_in(task, killed, args, kwargs)
    except (LedgerError, ConfigurationError) as error:
        _log.error("the ledger is away: the submission goes back to its queue", task=task, reason=str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours: late acknowledgement would drop the mail with it
        _log.exception("the submission cannot be taken in", task=task)
        if _kept(task, args, kwargs, error):
            return "rejected"
    finally:
        strikes.forgive(task)
    _wait()
    raise Reject("not taken in", requeue=True)


def _kept(task: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> bool:
    """Keep what stumbled over a fault of ours; False while the ledger is away."""
    fault = SubmissionError("", f"unexpected {type(error).__name__}: {error}")
    try:
        document = kwargs.get("submission", {"args": args, "kwargs": kwargs})
        current().keep_reject(document, door="task", reference=task, producer="", error=fault)
    except (LedgerError, ConfigurationError):
        return False
    return True


def _take_in(task: str, killed: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    given = dict(zip(("submission", "producer"), args, strict=False)) | kwargs
    producer = str(given.get("producer") or "")
    if killed >= MAX_KILLED:
        error = SubmissionError("", f"killed its worker {killed} times")
    elif unknown := sorted(given.keys() - {"submission", "producer"}) or args[2:]:
        error = SubmissionError("", f"mail.submit takes submission and producer, not {unknown[0]}")
    elif len(producer) > MAX_PRODUCER or not producer.isprintable():
        error = SubmissionError("producer", f"must be up to {MAX_PRODUCER} printable characters")
        producer = ""
    elif "submission" not in given:
        error = SubmissionError("submission", "required: mail.submit takes kwargs={'submission': {...}}")
    else:
        return current().take_in(given["submission"], door="task", reference=task, producer=producer)
    current().keep_reject(given.get("submission"), door="task", reference=task, producer=producer, error=error)
    return "rejected"


def _wait() -> None:
    """Give the ledger time, but not while the worker is asked to stop."""
    until = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < until and not stopping():
        time.sleep(0.1)
