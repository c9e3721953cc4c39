"""The doorbells over Celery on Redis, and the configuration that producers and workers share.

Why each setting is as it is: ``docs/decisions/0002-celery-on-redis.md``.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from dispatcher.adapters.redis import Broker
from dispatcher.adapters.redis_fault import sentinel_options, tls_options
from dispatcher.broker import BrokerAddress
from dispatcher.delivery import Lane

if TYPE_CHECKING:
    from celery import Celery

INTAKE, CONTROL = "mail.intake", "mail.control"
QUEUES = (Lane.TRANSACTIONAL.queue, Lane.BULK.queue, INTAKE, CONTROL)
# Celery's keys of a queue, by priority: the first is where nearly all tasks are.
INTAKE_KEYS = (INTAKE, *(f"{INTAKE}\x06\x16{priority}" for priority in (3, 6, 9)))
ODD = "mail.intake.celery"  # what comes to mail.intake and only Celery can read: whoever serves that serves this
SUBMIT, EMIT, DELIVER = "mail.submit", "mail.event", "mail.deliver"
SWEEP, UPKEEP, EXPAND = "mail.sweep", "mail.upkeep", "mail.expand"
EXPAND_SECONDS = 60.0  # after which a bell for schedules and campaigns is stale
_SILENT_SECONDS = 5.0


def configuration(broker: BrokerAddress) -> dict[str, Any]:
    """Celery's settings, for every process that talks to the broker."""
    from kombu import Queue as CeleryQueue  # noqa: PLC0415 - as below

    return {
        "broker_url": celery_url(broker),
        "broker_use_ssl": tls_options(broker) if broker.tls else None,  # without it, kombu's TLS verifies nothing
        "broker_transport_options": {
            **_sentinels(broker),
            "visibility_timeout": 120,  # only guards receive to start; leases guard the mail
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 3,
            "socket_timeout": 5,  # else publishing hangs for as long as a frozen Redis does
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "retry_on_timeout": False,
            "client_name": "maildispatcher",
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_pool_limit": 10,
        "broker_pool_acquire_timeout": 5,
        "broker_connection_timeout": 4,
        "task_publish_retry": True,
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
        "task_serializer": "json",
        "accept_content": ["json"],
        "event_serializer": "json",
        "task_ignore_result": True,
        "result_backend": None,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": False,
        "task_default_queue": CONTROL,
        "task_create_missing_queues": False,
        "task_queues": [CeleryQueue(name) for name in (*QUEUES, ODD)],
        "task_soft_time_limit": None,  # may strike between a 250 and its settle
        "task_send_sent_event": False,
        "enable_utc": True,
        "timezone": "UTC",
    }


def celery_url(broker: BrokerAddress) -> str:
    """The URL as Celery takes it. kombu goes from one sentinel to the next with what stands in that one's own URL, so
    user, password and database stand in each; and its TLS to sentinels is not in the URL."""
    if not broker.sentinels:
        return broker.url
    who = ""
    if broker.password is not None:
        who = f"{quote(broker.username or '', safe='')}:{quote(broker.password, safe='')}@"
    places = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in broker.sentinels)
    return ";".join(f"sentinel://{who}{place}/{broker.database}" for place in places)


def _sentinels(broker: BrokerAddress) -> dict[str, Any]:
    if not broker.sentinels:
        return {}
    return {"master_name": broker.sentinel_master, "sentinel_kwargs": sentinel_options(broker)}


class Doorbell:
    """Rings lanes by task name, so that a producer needs no worker code. After a failure it is silent for a while:
    accepting mail must stay fast when Redis is away, and the sweep rings again."""

    def __init__(self, broker: Broker | None) -> None:
        self._broker = broker
        self._app: Celery | None = None
        self._silent_until = 0.0

    def ring(self, lane: Lane, messages: Sequence[int], label: str = "") -> bool:
        """Publish one ``mail.deliver``; Flower shows how many messages and whose, never an address."""
        shown = ", ".join(filter(None, (_count(len(messages)), label)))
        return self._publish(
            DELIVER, args=(lane.value, list(messages)), queue=lane.queue, argsrepr=f"({shown})", kwargsrepr="{}"
        )

    def expand(self) -> bool:
        """Publish one ``mail.expand``."""
        return self._publish(EXPAND, queue=CONTROL, expires=EXPAND_SECONDS)

    def _publish(self, task: str, **options: Any) -> bool:
        if self._broker is None or time.monotonic() < self._silent_until:
            return False
        try:
            self._producer(self._broker).send_task(task, retry=False, **options)
        except (OperationalError, RedisError, OSError):  # the second: it answers, but will not have us
            self._be_silent()
            return False
        return True

    def depth(self, lane: Lane) -> int | None:
        """How many bells wait in the lane."""
        if self._broker is None or time.monotonic() < self._silent_until:
            return None
        depth = self._broker.depth(lane.queue)
        if depth is None:
            self._be_silent()
        return depth

    def _be_silent(self) -> None:
        self._silent_until = time.monotonic() + _SILENT_SECONDS

    def _producer(self, broker: Broker) -> "Celery":
        if self._app is None:
            from celery import Celery  # noqa: PLC0415 - a tenth of the start of a command that rings nobody

            self._app = Celery("dispatcher", set_as_current=False)
            self._app.conf.update(configuration(broker.address))
            # kombu's own patience with a server that refuses is 6 s, whatever `retry` says.
            self._app.conf.broker_transport_options["max_retries"] = 0
        return self._app

    def close(self) -> None:
        """Give the broker's connections back."""
        if self._app is not None:
            self._app.close()
            self._app = None


def _count(messages: int) -> str:
    if not messages:
        return ""
    return f"{messages} message" + ("s" if messages != 1 else "")
