"""Puts the parts together by the settings: the only importer of the adapters."""

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from dispatcher.adapters.attachments import Attachments
from dispatcher.adapters.blobs import FileBlobs, MovingBlobs
from dispatcher.adapters.celery import Doorbell
from dispatcher.adapters.folder import TemplateFolder, shipped
from dispatcher.adapters.journals import FileJournals
from dispatcher.adapters.log import LogSink
from dispatcher.adapters.manifests import Manifests
from dispatcher.adapters.redis import Broker
from dispatcher.adapters.redis_limiter import RedisLimiter
from dispatcher.adapters.relays import Relays
from dispatcher.adapters.renderers import CommandRenderers
from dispatcher.adapters.report_files import ReportFolder
from dispatcher.adapters.runtime import broker_address, writable
from dispatcher.adapters.runtime import read as read_runtime
from dispatcher.adapters.secret_keys import secret_keys
from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.adapters.sql.opening import open_ledger
from dispatcher.delivery import Lane
from dispatcher.dispatcher import Dispatcher, SystemClock
from dispatcher.errors import ConfigurationError
from dispatcher.interfaces import Blobs, EventSink, RateLimiter, Transport
from dispatcher.memory import MemoryJournals, MemoryLimiter
from dispatcher.policy import Policy
from dispatcher.relay import Relay
from dispatcher.retention import Retention
from dispatcher.retry import RetryPolicy
from dispatcher.settings import Settings
from dispatcher.sources import load, stamp

_MANIFEST_BYTES = 256 * 1024 * 1024
TRANSPORTS: dict[str, Callable[[Relay, RateLimiter, int], Transport]] = {
    "smtp": lambda relay, limits, connections: SmtpTransport(relay, size=connections, limiter=limits)
}


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
    watch: Callable[[], Settings] | None = None,
    bulk_only: bool = False,
    sends: bool = False,
    **overrides: Any,
) -> Dispatcher:
    """A dispatcher by the settings. ``paths``: where this door reads attachments that are given by path; ``watch``:
    reads the settings again, for whoever lives so long that their relays may change; ``bulk_only``: leave a part of the
    relays' limits to those who send what is urgent; ``sends``: this process sends, so it keeps a journal on disk.
    Raises ConfigurationError naming the setting."""
    settings = settings or load(**overrides)
    writable(settings)
    told = sink or LogSink(settings.log.format, settings.log.addresses)
    limits = limiter(settings)
    relays = _relays(settings, limits, told, watch, bulk_only)
    kept = ledger(settings)
    stored = blobs(settings, kept)
    journals = FileJournals.of(settings.data_dir) if sends else MemoryJournals()
    return Dispatcher(
        ledger=kept,
        queue=Doorbell(broker(settings)),
        blobs=stored,
        templates=templates(settings).load,
        attach=attachments(settings, stored, paths.folders(settings)),
        transports=relays.transports,
        refreshed=relays.refreshed if watch else lambda: None,
        journals=journals,
        limiter=limits,
        files=(files := report_files(settings, stored, paths)),
        renderers=renderers(settings, stored),
        manifests=manifests(settings, files),
        policy=policy(settings, secret_keys(settings)),
        sink=told,
    )


def policy(settings: Settings, keys: Sequence[str] = ()) -> Policy:
    """The part of the settings that the use case goes by, with the keys that sign its links."""
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
        host_grace=delivery.host_grace,
        settle_seconds=delivery.settle_seconds,
        sweep_seconds=delivery.sweep_seconds,
        retention=_retention(settings),
        secret_keys=keys,
        public_url=settings.pages_url,
    )


def _retention(settings: Settings) -> Retention:
    found = settings.retention
    lanes = {Lane.TRANSACTIONAL: found.lanes.transactional, Lane.BULK: found.lanes.bulk}
    return Retention(found.default, {lane: length for lane, length in lanes.items() if length}, found.tags)


def ledger(settings: Settings) -> SqlLedger:
    """The ledger, migrated when it is a file of ours; a shared one is migrated by ``dispatcher db upgrade``."""
    return open_ledger(settings.ledger)


def templates(settings: Settings) -> TemplateFolder:
    """The user's templates, then those that ship."""
    own = settings.templates_dir
    if own is not None and not own.is_dir():
        raise ConfigurationError("DISPATCHER_TEMPLATES_DIR", f"no folder at {own}")
    return TemplateFolder(*filter(None, (own, shipped())))


def blobs(settings: Settings, kept: SqlLedger) -> Blobs:
    """The store of attachments: a folder, or the ledger itself, over the same connections."""
    if settings.blobs is not None:
        return FileBlobs(settings.blobs)
    before = settings.data_dir.resolve() / "blobs"  # the default of 1.0, for mail that was accepted then
    return MovingBlobs(kept.blobs(), FileBlobs(before)) if before.is_dir() else kept.blobs()


def report_files(settings: Settings, stored: Blobs, paths: AttachmentPaths) -> ReportFolder:
    """Where the files of reports are read: no producer can name one, so that a worker reads what the settings allow."""
    folders = None if paths is AttachmentPaths.ANYWHERE else settings.attachments_dirs
    return ReportFolder(stored, folders)


def manifests(settings: Settings, files: ReportFolder) -> Manifests:
    """The operator's programs that say who gets a report."""
    found = settings.reports
    return Manifests(files, found.manifests, seconds=found.manifest_seconds, max_bytes=_MANIFEST_BYTES)


def renderers(settings: Settings, stored: Blobs) -> CommandRenderers:
    """The operator's programs that make files."""
    found = settings.reports
    return CommandRenderers(found.renderers, stored.put, seconds=found.render_seconds, max_bytes=found.render_bytes)


def attachments(settings: Settings, stored: Blobs, folders: Sequence[Path] | None) -> Attachments:
    """The way into the store for a door that may read these folders."""
    return Attachments(stored, folders, settings.max_message_bytes)


def _relays(
    settings: Settings,
    limits: RateLimiter,
    sink: EventSink,
    watch: Callable[[], Settings] | None,
    bulk_only: bool,
) -> Relays:
    """The transports of all relays, which stay within these limits."""

    def read(settings: Settings) -> dict[str, Relay]:
        found = settings.relay_table()
        found = {name: relay.behind() for name, relay in found.items()} if bulk_only else found
        limits.limits(found)
        return found

    return Relays(
        read(settings),
        lambda relay: TRANSPORTS["smtp"](relay, limits, settings.delivery.connections),
        read=lambda: read(watch() if watch else settings),
        stamp=stamp,
        sink=sink,
    )


def limiter(settings: Settings) -> RateLimiter:
    """The limits of the relays, over all workers that share the broker."""
    address = broker_address(settings)
    found = RedisLimiter(address, SystemClock()) if address else MemoryLimiter(SystemClock().monotonic)
    found.limits(settings.relay_table())
    return found


def runtime(settings: Settings) -> dict[str, Any] | None:
    """What ``dispatcher up`` wrote about the stack that runs on this data folder; None when none does."""
    return read_runtime(settings.data_dir)


def broker(settings: Settings) -> Broker | None:
    """The broker itself; None when there is none to be found."""
    address = broker_address(settings)
    return Broker(address) if address else None
