"""Puts the parts together by the settings: the only importer of the adapters."""

import os
import socket
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from dispatcher.adapters.attachments import Attachments
from dispatcher.adapters.blobs import FileBlobs
from dispatcher.adapters.celery import Doorbell
from dispatcher.adapters.folder import TemplateFolder, shipped
from dispatcher.adapters.journal import MemoryJournal
from dispatcher.adapters.log import LogSink
from dispatcher.adapters.redis import Broker
from dispatcher.adapters.runtime import broker_url, writable
from dispatcher.adapters.runtime import read as read_runtime
from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.adapters.sql.opening import open_ledger
from dispatcher.delivery import Lane
from dispatcher.dispatcher import Dispatcher
from dispatcher.errors import ConfigurationError
from dispatcher.interfaces import EventSink, Transport
from dispatcher.policy import Policy
from dispatcher.relay import Relay
from dispatcher.retry import RetryPolicy
from dispatcher.settings import Settings
from dispatcher.sources import load

TRANSPORTS: dict[str, Callable[[Relay], Transport]] = {"smtp": SmtpTransport}


class AttachmentPaths(Enum):
    """Where a door reads attachments that are given by path."""

    NOWHERE = "nowhere"  # a producer over Celery must not make us mail our files
    SETTINGS = "settings"  # in DISPATCHER_ATTACHMENTS_DIRS
    ANYWHERE = "anywhere"  # the command line reads its own user's files

    def folders(self, settings: Settings) -> Sequence[Path] | None:
        """As ``Attachments`` takes them."""
        return {"nowhere": (), "settings": settings.attachments_dirs, "anywhere": None}[self.value]


def build(
    settings: Settings | None = None,
    *,
    paths: AttachmentPaths = AttachmentPaths.SETTINGS,
    sink: EventSink | None = None,
    **overrides: Any,
) -> Dispatcher:
    """A dispatcher by the settings. ``paths``: where this door reads attachments that are given by path.
    Raises ConfigurationError naming the setting."""
    settings = settings or load(**overrides)
    writable(settings)
    return Dispatcher(
        ledger=ledger(settings),
        queue=Doorbell(broker(settings)),
        blobs=FileBlobs(settings.blobs),
        templates=templates(settings).load,
        attach=attachments(settings, paths.folders(settings)),
        transports=transports(settings),
        journal=MemoryJournal(),
        policy=policy(settings),
        sink=sink or LogSink(settings.log.format, settings.log.addresses),
        owner=f"{socket.gethostname()}/{os.getpid()}",
    )


def policy(settings: Settings) -> Policy:
    """The part of the settings that the use case goes by."""
    delivery, retry = settings.delivery, settings.retry
    return Policy(
        sender=settings.sender,
        mail_from=settings.mail_from,
        if_in_doubt=delivery.if_in_doubt,
        lifetimes={Lane.TRANSACTIONAL: retry.lifetime.transactional, Lane.BULK: retry.lifetime.bulk},
        retry=RetryPolicy(retry.schedule, retry.jitter),
        max_bytes=settings.max_message_bytes,
        batch_size=delivery.batch_size,
        batch_seconds=delivery.batch_seconds,
        lease_seconds=delivery.lease_seconds,
        settle_seconds=delivery.settle_seconds,
        sweep_seconds=delivery.sweep_seconds,
    )


def ledger(settings: Settings) -> SqlLedger:
    """The ledger, migrated when it is a file of ours; a shared one is migrated by ``dispatcher db upgrade``."""
    return open_ledger(settings.ledger)


def templates(settings: Settings) -> TemplateFolder:
    """The user's templates, then those that ship."""
    own = settings.templates_dir
    if own is not None and not own.is_dir():
        raise ConfigurationError("DISPATCHER_TEMPLATES_DIR", f"no folder at {own}")
    return TemplateFolder(*filter(None, (own, shipped())))


def attachments(settings: Settings, folders: Sequence[Path] | None) -> Attachments:
    """The store of attachments for a door that may read these folders."""
    return Attachments(FileBlobs(settings.blobs), folders, settings.max_message_bytes)


def transports(settings: Settings) -> dict[str, Transport]:
    """All relays by name, in the order of their priority. Connects nowhere yet."""
    return {name: TRANSPORTS["smtp"](relay) for name, relay in settings.relay_table().items()}


def runtime(settings: Settings) -> dict[str, Any] | None:
    """What ``dispatcher up`` wrote about the stack that runs on this data folder; None when none does."""
    return read_runtime(settings.data_dir)


def broker(settings: Settings) -> Broker | None:
    """The broker itself; None when there is none to be found."""
    url = broker_url(settings)
    return Broker(url) if url else None
