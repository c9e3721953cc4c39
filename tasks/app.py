"""The Celery application. It reads the settings when it is imported, as Celery does with any application's.

What a parent process or beat does not need is imported by the child that does: see ``lifecycle.current``.
"""

from typing import Any

from celery import Celery

from dispatcher.adapters.celery import CONTROL, SWEEP, UPKEEP, configuration
from dispatcher.adapters.runtime import broker_address
from dispatcher.broker import BrokerAddress
from dispatcher.policy import UPKEEP_SECONDS
from dispatcher.sources import load

settings = load()
app = Celery("dispatcher", include=[f"{__package__}.{name}" for name in ("outbound", "intake", "lifecycle")])
broker = broker_address(settings) or BrokerAddress("redis://127.0.0.1:6379/0")
app.conf.update(configuration(broker))


def _worker(seconds: float) -> dict[str, Any]:
    return {
        "task_time_limit": seconds,  # a fuse: the batch's own budget ends long before
        "worker_send_task_events": True,
        "worker_pool": "prefork",
        "worker_proc_alive_timeout": 60.0,  # a busy machine takes long to import; 4 s would kill child after child
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,  # a bell is fetched when somebody is free to answer it
        "worker_enable_prefetch_count_reduction": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # would kill in the middle of a mail
        "worker_eta_task_limit": 100,
        "worker_max_memory_per_child": 400_000,  # kB
        "worker_soft_shutdown_timeout": 20,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_deduplicate_successful_tasks": False,
    }


app.conf.update(_worker(settings.delivery.task_seconds))
app.conf.update(
    beat_schedule={
        "sweep": {
            "task": SWEEP,
            "schedule": settings.delivery.sweep_seconds,
            "options": {"queue": CONTROL, "expires": max(10, settings.delivery.sweep_seconds)},
        },
        "upkeep": {
            "task": UPKEEP,
            "schedule": UPKEEP_SECONDS,
            "options": {"queue": CONTROL, "expires": UPKEEP_SECONDS},
        },
    },
    beat_max_loop_interval=5,
)
