"""Fixtures for all tests: the real servers, and ledgers of every kind."""

import pytest
from hypothesis import HealthCheck, settings

from tests.commands import cli
from tests.ledgers import kept, memory_ledger, postgres_ledger, postgres_template, sqlite_ledger, sqlite_template
from tests.servers import own_postgres, own_redis, postgres, postgres_url, redis_server, redis_url, watched

__all__ = [
    "cli",
    "kept",
    "memory_ledger",
    "own_postgres",
    "own_redis",
    "postgres",
    "postgres_ledger",
    "postgres_template",
    "postgres_url",
    "redis_server",
    "redis_url",
    "sqlite_ledger",
    "sqlite_template",
    "watched",
]

# How long an example takes is the machine's business: it may be busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


# Files that take longest, longest first, by what they took in one whole run. A process takes a whole file, and the next
# one in hand: one of these that came late would be waited for by all others. Whoever is not named here follows.
LONGEST = (
    *("test_cli", "test_doctor", "test_ledger_away", "test_celery_producer", "test_sentinel", "test_broker"),
    *("test_bells", "test_operators", "test_worker_stopped", "test_ledger_access", "test_many_machines", "test_docs"),
    *("test_rate_limits", "test_relay_away", "test_unsubscribe", "test_redis_away", "test_rolling_upgrade"),
    *("test_audiences_cli", "test_stream", "test_templates_browser", "test_campaign_brakes", "test_orders"),
    *("test_campaign_guide", "test_demo", "test_inbox_browser", "test_campaigns", "test_worker_frozen", "test_relays"),
    *("test_compose", "test_stream_killed", "test_schedule_guide", "test_tasks_killed", "test_clock"),
    *("test_worker_killed", "test_poison", "test_soak", "test_redis_loss", "test_hot_path", "test_scheduled"),
)
_PLACE = {name: place for place, name in enumerate(LONGEST)}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, and among them the longest, so that no process is left with them at the end."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, _PLACE.get(item.path.stem, len(LONGEST))))
