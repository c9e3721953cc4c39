"""The tasks by which mail and events are handed over. They carry what they bring themselves, so each is acknowledged
only when the ledger has it: accepted, or kept as rejected with the reason.

Plain ones never come here: the door at the tasks takes them from their queue by itself, many in one transaction, see
``dispatcher.adapters.task_door``. It leaves to Celery what only Celery can read, such as a task with an ETA.
"""

import time
from dataclasses import replace
from typing import Any

import structlog
from celery import Task
from celery.exceptions import Reject

from dispatcher.adapters.celery import EMIT, SUBMIT
from dispatcher.adapters.redis import Broker
from dispatcher.errors import ConfigurationError, LedgerError, SubmissionError
from dispatcher.handed import EVENT, FIELD, TASK_DOOR, Handed, killer, of_task

from .app import app, broker
from .lifecycle import current, stopping

AWAY_SECONDS = 2.0
_log = structlog.stdlib.get_logger("dispatcher.worker")
strikes = Broker(broker)  # connects in the process that first counts


@app.task(name=SUBMIT, bind=True, acks_late=True, reject_on_worker_lost=True)
def submit(self: "Task[Any, Any]", *args: Any, **kwargs: Any) -> str:
    """Accept the mail that a Celery client handed over as ``submission`` (and, if it likes, its name as ``producer``).

    What cannot be accepted is kept as rejected; while the ledger is away it goes back to its queue. Nothing that
    was handed over may vanish, so whatever arguments came are taken, and any error ends in one of the two.
    """
    return _taken_in(FIELD, str(self.request.id), args, kwargs)


@app.task(name=EMIT, bind=True, acks_late=True, reject_on_worker_lost=True)
def emit(self: "Task[Any, Any]", *args: Any, **kwargs: Any) -> str:
    """Take in the event that a Celery client handed over as ``event``, as ``submit`` does with mail."""
    return _taken_in(EVENT, str(self.request.id), args, kwargs)


def _taken_in(what: str, task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    killed = strikes.strike(task) - 1
    try:
        handed = of_task(what, task, args, kwargs, killer(killed))
        try:
            return _take_in(what, handed)
        except (LedgerError, ConfigurationError):
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours: late acknowledgement would drop it
            _log.exception(f"the {what} cannot be taken in", task=task)
            fault = SubmissionError("", f"unexpected {type(error).__name__}: {error}")
            return _take_in(what, replace(handed, error=fault))
    except (LedgerError, ConfigurationError) as error:
        _log.error(f"the ledger is away: the {what} goes back to its queue", task=task, reason=str(error))
    finally:
        strikes.forgive(task)
    _wait()
    raise Reject("not taken in", requeue=True)


def _take_in(what: str, handed: Handed) -> str:
    if what == EVENT:
        return current().take_in_events([handed])[0]
    return current().take_in_many([handed], door=TASK_DOOR)[0]


def _wait() -> None:
    """Give the ledger time, but not while the worker is asked to stop."""
    until = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < until and not stopping():
        time.sleep(0.1)
