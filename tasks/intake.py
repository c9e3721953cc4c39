"""The tasks by which mail and events are handed over. They carry what they bring themselves, so each is acknowledged
only when the ledger has it: accepted, or kept as rejected with the reason."""

import time
from collections.abc import Mapping
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Reject

from dispatcher.adapters.celery import EMIT, SUBMIT
from dispatcher.adapters.redis import Broker
from dispatcher.errors import ConfigurationError, LedgerError, SubmissionError
from dispatcher.handed import EVENT_DOOR, MAX_PRODUCER

from .app import app, broker
from .lifecycle import current, stopping

AWAY_SECONDS = 2.0
MAX_KILLED = 3
_DOORS = {"submission": "task", "event": EVENT_DOOR}  # as a reject of it is called
_log = structlog.stdlib.get_logger("dispatcher.worker")
strikes = Broker(broker)  # connects in the process that first counts


@app.task(name=SUBMIT, bind=True, acks_late=True, reject_on_worker_lost=True)
def submit(self: "Task[Any, Any]", *args: Any, **kwargs: Any) -> str:
    """Accept the mail that a Celery client handed over as ``submission`` (and, if it likes, its name as ``producer``).

    What cannot be accepted is kept as rejected; while the ledger is away it goes back to its queue. Nothing that
    was handed over may vanish, so whatever arguments came are taken, and any error ends in one of the two.
    """
    return _taken_in("submission", str(self.request.id), args, kwargs)


@app.task(name=EMIT, bind=True, acks_late=True, reject_on_worker_lost=True)
def emit(self: "Task[Any, Any]", *args: Any, **kwargs: Any) -> str:
    """Take in the event that a Celery client handed over as ``event``, as ``submit`` does with mail."""
    return _taken_in("event", str(self.request.id), args, kwargs)


def _taken_in(what: str, task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    killed = strikes.strike(task) - 1
    try:
        return _take_in(what, task, killed, args, kwargs)
    except (LedgerError, ConfigurationError) as error:
        _log.error(f"the ledger is away: the {what} goes back to its queue", task=task, reason=str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours: late acknowledgement would drop it
        _log.exception(f"the {what} cannot be taken in", task=task)
        if _kept(what, task, args, kwargs, error):
            return "rejected"
    finally:
        strikes.forgive(task)
    _wait()
    raise Reject("not taken in", requeue=True)


def _kept(what: str, task: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> bool:
    """Keep what stumbled over a fault of ours; False while the ledger is away."""
    fault = SubmissionError("", f"unexpected {type(error).__name__}: {error}")
    try:
        document = kwargs.get(what, {"args": args, "kwargs": kwargs})
        current().keep_reject(document, door=_DOORS[what], reference=task, producer="", error=fault)
    except (LedgerError, ConfigurationError):
        return False
    return True


def _take_in(what: str, task: str, killed: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    given = dict(zip((what, "producer"), args, strict=False)) | kwargs
    producer = str(given.get("producer") or "")
    error = _error(what, given, args, killed)
    if error is None:
        if what == "event":
            return current().take_in_event(given[what], reference=task, producer=producer)
        return current().take_in(given[what], door=_DOORS[what], reference=task, producer=producer)
    if error.field == "producer":
        producer = ""
    current().keep_reject(given.get(what), door=_DOORS[what], reference=task, producer=producer, error=error)
    return "rejected"


def _error(what: str, given: Mapping[str, Any], args: tuple[Any, ...], killed: int) -> SubmissionError | None:
    """Why it is not even looked at."""
    task, producer = {"submission": SUBMIT, "event": EMIT}[what], str(given.get("producer") or "")
    if killed >= MAX_KILLED:
        return SubmissionError("", f"killed its worker {killed} times")
    if unknown := sorted(given.keys() - {what, "producer"}) or args[2:]:
        return SubmissionError("", f"{task} takes {what} and producer, not {unknown[0]}")
    if len(producer) > MAX_PRODUCER or not producer.isprintable():
        return SubmissionError("producer", f"must be up to {MAX_PRODUCER} printable characters")
    if what not in given:
        return SubmissionError(what, f"required: {task} takes kwargs={{'{what}': {{...}}}}")
    return None


def _wait() -> None:
    """Give the ledger time, but not while the worker is asked to stop."""
    until = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < until and not stopping():
        time.sleep(0.1)
