"""Logs: one line per attempt as postmasters grep it, or JSON. To stderr; addresses full or masked, secrets never."""

import dataclasses
import json
import logging
import sys
import time
from collections import deque
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import Any

from dispatcher.delivery import State
from dispatcher.events import (
    CampaignEnded,
    DeliveryTried,
    EnrolmentFailed,
    Event,
    LedgerAway,
    OccurrenceFailed,
    RelayPaused,
    RelayResumed,
    Replayed,
    ReplayFailed,
    ReportEnded,
    SettingsKept,
    StuckEnded,
)
from dispatcher.fields import iso

_LOGGER = logging.getLogger("dispatcher")
_TOGETHER_SECONDS = 0.05
_STATUS = {State.QUEUED: "requeued", State.IN_DOUBT: "in-doubt"}


def configure(form: str) -> None:
    """Send structlog and the standard library's loggers (Celery's too) to stderr in one form, ``text`` or ``json``."""
    import structlog  # noqa: PLC0415 - as below

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    final: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if form == "json"
        else [structlog.processors.format_exc_info, _line]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # What a task did stands in the attempts' own lines; a bell that rings every two seconds would bury them.
    for noisy in (
        "celery.worker.strategy",
        "celery.app.trace",
        "alembic",
        "amqp",
        "kombu",
        "celery.beat",
        "celery.redirected",
        "mail.log",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # When Flower asks for the settings, Celery masks the broker's URL by way of a connection that is never opened, and
    # kombu warns that it lacks the TLS options which all real ones have.
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)


def _line(_logger: Any, _method: str, entry: dict[str, Any]) -> str:
    """``TIME LEVEL LOGGER EVENT key=value ...``; an attempt's own line is its event."""
    head = f"{entry.pop('timestamp', '')} {entry.pop('level', '')} {entry.pop('logger', '')}: {entry.pop('event', '')}"
    trace = entry.pop("exception", None)
    line = " ".join([head, *(f"{name}={value}" for name, value in entry.items())])
    return f"{line}\n{trace}" if trace else line


class LogSink:
    """An event sink that writes to the log. ``addresses``: ``full`` or ``masked`` (``a***@example.com``).

    Lines of attempts that follow each other closely are written together, the last ones when their batch is through.
    """

    def __init__(self, form: str, addresses: str) -> None:
        self._json, self._masked = form == "json", addresses == "masked"
        self._lines: deque[str] = deque()  # threads may share it
        self._written = 0.0

    @cached_property
    def _log(self) -> Any:
        import structlog  # noqa: PLC0415 - a tenth of the start of a command that has nothing to log

        return structlog.stdlib.get_logger("dispatcher")

    def __call__(self, event: Event) -> None:
        if isinstance(event, DeliveryTried):
            self._tried(event)
        else:
            self._write()
            self._tell(event)

    def _tell(self, event: Event) -> None:
        if isinstance(event, RelayPaused):
            self._log.warning("relay paused", relay=event.relay, seconds=round(event.seconds), reason=event.reason)
        elif isinstance(event, RelayResumed):
            self._log.warning("relay resumed", relay=event.relay)
        elif isinstance(event, SettingsKept):
            self._log.error("settings not read again, those from before hold on", reason=event.reason)
        elif isinstance(event, LedgerAway):
            self._log.error("ledger away, outcomes wait", reason=event.reason, waiting=event.waiting)
        elif isinstance(event, Replayed):
            self._log.warning(
                "a worker ended with work in hand, its journal was replayed",
                owner=event.owner,
                answered=event.answered,
                in_doubt=event.in_doubt,
                back=event.back,
            )
        elif isinstance(event, ReplayFailed):
            self._log.error("a journal could not be replayed", owner=event.owner, reason=event.reason)
        elif isinstance(event, StuckEnded):
            self._log.error("a worker outlived its lease and was killed", pid=event.pid)
        else:
            self._tell_of_plans(event)

    def _tell_of_plans(self, event: Event) -> None:
        if isinstance(event, CampaignEnded):
            self._campaign_ended(event)
        elif isinstance(event, ReportEnded):
            self._report_ended(event)
        elif isinstance(event, OccurrenceFailed):
            self._log.error("a schedule could not fire", schedule=event.schedule, at=iso(event.at), reason=event.reason)
        elif isinstance(event, EnrolmentFailed):
            self._log.error("a step of an automation could not be done", **dataclasses.asdict(event))

    def _report_ended(self, event: ReportEnded) -> None:
        self._log.info("a report is finished", report=event.name, **event.sums)
        if event.fault:
            self._log.error("its owner could not be told", report=event.name, reason=event.fault)

    def _campaign_ended(self, event: CampaignEnded) -> None:
        self._log.info(f"a campaign is {event.state}", campaign=event.name, **event.sums)
        if event.fault:
            self._log.error("its owner could not be told", campaign=event.name, reason=event.fault)

    def _tried(self, event: DeliveryTried) -> None:
        """There is one for every mail, so it is written as the loggers would write it, without their price (80 us)."""
        if not _LOGGER.isEnabledFor(logging.INFO):
            return
        to = masked(event.to) if self._masked else event.to
        status, dsn = _STATUS.get(event.state, event.state), event.dsn or "-"
        seconds, micros = divmod(time.time_ns() // 1000, 1_000_000)
        now = f"{_second(seconds)}.{micros:06}Z"
        if not self._json:
            line = (
                f"{now} info dispatcher: {event.id}: to=<{to}> relay={event.relay} lane={event.lane} "
                f"attempt={event.attempt} delay={event.delay:.2f} dsn={dsn} status={status} ({event.reply})"
            )
        else:
            facts = {
                "id": event.id,
                "to": to,
                "relay": event.relay,
                "lane": event.lane.value,
                "attempt": event.attempt,
                "delay": round(event.delay, 2),
                "dsn": dsn,
                "status": status,
                "reply": event.reply,
            }
            head = {"event": "attempt", "level": "info", "logger": "dispatcher", "timestamp": now}
            line = json.dumps(facts | head, ensure_ascii=False)
        self._lines.append(line)
        if time.monotonic() - self._written >= _TOGETHER_SECONDS:
            self._write()

    def _write(self) -> None:
        lines = []
        with suppress(IndexError):
            while True:
                lines.append(self._lines.popleft())
        if not lines:
            return
        self._written = time.monotonic()
        with suppress(OSError, ValueError):  # nobody reads it any more, or the disk is full: the mail was sent
            sys.stderr.write("\n".join([*lines, ""]))
            sys.stderr.flush()


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def masked(address: str) -> str:
    """``anna@example.com`` as ``a***@example.com``."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"
