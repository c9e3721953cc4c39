"""Fixtures for all tests: the real servers, and ledgers of every kind."""

import pytest
from hypothesis import HealthCheck, settings

from tests.commands import cli
from tests.ledgers import kept, memory_ledger, postgres_ledger, postgres_template, sqlite_ledger, sqlite_template
from tests.servers import own_postgres, postgres, postgres_url, redis_server, redis_url, watched

__all__ = [
    "cli",
    "kept",
    "memory_ledger",
    "own_postgres",
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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that no process is left with them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
