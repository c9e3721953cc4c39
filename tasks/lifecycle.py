"""What a worker process does when it begins and ends: nothing that was made before the fork is used after it."""

import gc
import mmap
import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

import structlog
from celery.signals import (
    celeryd_after_setup,
    heartbeat_sent,
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)
from celery.worker import state

from dispatcher.adapters.celery import INTAKE, ODD
from dispatcher.adapters.journals import FileJournals
from dispatcher.adapters.log import configure
from dispatcher.adapters.redis import Broker, checked
from dispatcher.delivery import Lane
from dispatcher.errors import ConfigurationError, DispatcherError
from dispatcher.sources import load

from .app import app, broker, settings
from .watchdog import Watchdog

if TYPE_CHECKING:
    from dispatcher.adapters.stream_door import StreamDoor
    from dispatcher.dispatcher import Dispatcher

# What belongs to a batch lives as long as it: to look for rubbish among it again and again took a tenth of the time.
_COLLECT = 50_000, 20, 20
_log = structlog.stdlib.get_logger("dispatcher.worker")
_draining = mmap.mmap(-1, 1)  # one byte that the parent and the children that it forks share
_main = os.getpid()
_mine: dict[int, "Dispatcher"] = {}
_building = threading.Lock()
_doors: list["StreamDoor"] = []


def current() -> "Dispatcher":
    """This process' dispatcher, made after its fork; its settler runs. Raises ConfigurationError, LedgerUnavailable."""
    pid = os.getpid()
    with _building:
        if pid not in _mine:
            from dispatcher.bootstrap import AttachmentPaths, build  # noqa: PLC0415 - beat does without

            queues = app.amqp.queues.consume_from
            bulk_only = Lane.BULK.queue in queues and Lane.TRANSACTIONAL.queue not in queues
            dispatcher = build(settings, paths=AttachmentPaths.NOWHERE, watch=load, bulk_only=bulk_only, sends=True)
            dispatcher.settler.start()
            _mine.clear()
            _mine[pid] = dispatcher
        return _mine[pid]


def stopping() -> bool:
    """Whether this worker was asked to stop, or lost its parent: then no further mail is begun."""
    return bool(_draining[0]) or (os.getpid() != _main and os.getppid() != _main)


@setup_logging.connect
def _log_as_we_do(**_: Any) -> None:
    configure(settings.log.format)


@worker_init.connect
def _look_around(**_: Any) -> None:
    """Say what endangers the queues. From a broker that refuses us, or a folder that no journal can be in, Celery would
    only bring traces, so end with one line."""
    configure(settings.log.format)
    import dispatcher.bootstrap  # noqa: F401, PLC0415 - once for all children, which share its 30 MB

    gc.freeze()  # else the first collection in each child copies them
    try:
        FileJournals.of(settings.data_dir)
        for warning in checked(broker):
            _log.warning(warning)
    except ConfigurationError as error:
        _log.error(str(error))
        sys.exit(2)


@celeryd_after_setup.connect
def _leave_tasks_to_their_door(**_: Any) -> None:
    """Celery itself takes from ``mail.intake`` only what the door there leaves to it."""
    queues = app.amqp.queues
    if INTAKE in queues.consume_from:
        queues.deselect([INTAKE])
        queues.select_add(queues[ODD])


@worker_process_init.connect
def _begin(**_: Any) -> None:
    """Connect before the first bell, and open the doors where mail is taken in; when the ledger is away, the first
    task tries again."""
    gc.set_threshold(*_COLLECT)
    try:
        current()
    except DispatcherError as error:
        _log.error("not ready yet", reason=str(error))
    if ODD in app.amqp.queues.consume_from:
        from dispatcher.adapters.stream import Stream  # noqa: PLC0415 - as above
        from dispatcher.adapters.stream_door import StreamDoor  # noqa: PLC0415 - as above
        from dispatcher.adapters.task_door import TaskDoor, TaskStream  # noqa: PLC0415 - as above

        _doors.extend((StreamDoor(Stream(broker), current, stopping), TaskDoor(TaskStream(broker), current, stopping)))
        for door in _doors:
            door.start()


@heartbeat_sent.connect
def _alive(sender: Any, **_: Any) -> None:
    """Leave a mark for health checks: this worker's loop turns, and the broker took what it sent last."""
    name = str(sender.eventer.hostname).partition("@")[0]
    (settings.data_dir / f"{name}.alive").touch(mode=0o600)


@worker_ready.connect
def _watch(sender: Any, **_: Any) -> None:
    """From now on this worker hears its bells, or ends."""
    queues, redis = tuple(app.amqp.queues.consume_from), Broker(broker)

    def waiting() -> int | None:
        if sender.broker_connection_retry_attempt:  # Celery waits up to half a minute until it connects again
            return None
        return next((depth for queue in queues if (depth := redis.depth(queue))), None)

    def end() -> None:
        words = f"bells wait in {', '.join(queues)} and this worker hears none of them: it ends, to be started again"
        said = threading.Thread(target=_log.error, args=(words,), daemon=True)
        said.start()
        said.join(1.0)  # the log may be what it is stuck in
        os._exit(1)  # an orderly end is up to the loop that does not hear; and no signal of its own ends a process 1

    dog = Watchdog(
        waiting=waiting,
        taken=lambda: sum(state.total_count.values()),
        busy=lambda: bool(state.reserved_requests),  # those that a child is to take up, too
        idle_seconds=settings.delivery.deaf_seconds,
        busy_seconds=settings.delivery.task_seconds + settings.delivery.deaf_seconds,
        end=end,
        over=lambda: bool(_draining[0]),
    )
    dog.start()


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    _draining[0] = 1


@worker_ready.connect
def _drain_at_quit(**_: Any) -> None:
    """At SIGQUIT Celery waits ``worker_soft_shutdown_timeout`` before it says so to anybody and ends the children: they
    are to use that time to end between two mails."""
    before = signal.getsignal(signal.SIGQUIT)

    def drain(number: int, frame: FrameType | None) -> None:
        _drain()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGQUIT, drain)


@worker_process_shutdown.connect
def _end(**_: Any) -> None:
    for door in _doors:
        door.close()
    for dispatcher in _mine.values():
        dispatcher.close()
