"""What a worker process does when it begins and ends: nothing that was made before the fork is used after it."""

import mmap
import os
from typing import TYPE_CHECKING, Any

import structlog
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown, worker_shutting_down

from dispatcher.adapters.log import configure
from dispatcher.errors import DispatcherError

from .app import settings

if TYPE_CHECKING:
    from dispatcher.dispatcher import Dispatcher

_log = structlog.stdlib.get_logger("dispatcher.worker")
_draining = mmap.mmap(-1, 1)  # one byte that the parent and the children that it forks share
_main = os.getpid()
_mine: dict[int, "Dispatcher"] = {}


def current() -> "Dispatcher":
    """This process' dispatcher, made after its fork; its settler runs. Raises ConfigurationError, LedgerUnavailable."""
    pid = os.getpid()
    if pid not in _mine:
        from dispatcher.bootstrap import AttachmentPaths, build  # noqa: PLC0415 - 30 MB that only the children need

        dispatcher = build(settings, paths=AttachmentPaths.NOWHERE)
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


@worker_process_init.connect
def _begin(**_: Any) -> None:
    """Connect before the first bell; when the ledger is away, the first task tries again."""
    try:
        current()
    except DispatcherError as error:
        _log.error("not ready yet", reason=str(error))


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    _draining[0] = 1


@worker_process_shutdown.connect
def _end(**_: Any) -> None:
    for dispatcher in _mine.values():
        dispatcher.close()
