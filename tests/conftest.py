"""Fixtures for all tests: the real servers, and ledgers of every kind."""

from tests.commands import cli, zygote
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
    "zygote",
]
