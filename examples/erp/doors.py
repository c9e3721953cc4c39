"""Two ways to tell the dispatcher what happened. Each takes an event and returns when it has been handed over."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Door = Callable[[dict[str, Any]], None]


class Refused(Exception):
    """It was not taken, and why."""


@contextmanager
def celery(broker_url: str) -> Iterator[Door]:
    """As a Celery task: all that is needed is Celery and the broker's URL (`dispatcher broker-url`). A broker that is
    away for a moment is waited for; the event's own id makes that harmless."""
    from celery import Celery  # noqa: PLC0415 - a producer has one door, and needs no other's libraries
    from kombu.exceptions import OperationalError  # noqa: PLC0415 - as above

    with Celery(broker=broker_url, broker_connection_timeout=4) as app:
        app.conf.update(task_default_queue="mail.intake", task_ignore_result=True)
        policy = {"max_retries": 60, "interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}

        def tell(event: dict[str, Any]) -> None:
            try:
                app.send_task(
                    "mail.event", kwargs={"event": event}, queue="mail.intake", retry=True, retry_policy=policy
                )
            except OperationalError as error:
                raise Refused(f"the broker is away: {error}") from None

        yield tell


@contextmanager
def python() -> Iterator[Door]:
    """By the Python API, with this machine's settings: it is in the ledger when the call returns."""
    from dispatcher import Dispatcher, DispatcherError  # noqa: PLC0415 - as above

    try:
        with Dispatcher.open() as dispatcher:

            def tell(event: dict[str, Any]) -> None:
                dispatcher.emit(event, producer="erp")

            yield tell
    except DispatcherError as error:
        raise Refused(str(error)) from None
