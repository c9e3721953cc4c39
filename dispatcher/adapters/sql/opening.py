"""The ledger of a URL, ready to be used."""

from pathlib import Path

from sqlalchemy.engine import make_url

from dispatcher.adapters.sql.engine import upgrade
from dispatcher.adapters.sql.ledger import SqlLedger


def open_ledger(url: str) -> SqlLedger:
    """A file of ours is made or migrated; a shared ledger is migrated by ``dispatcher db upgrade``.

    Raises ConfigurationError, LedgerUnavailable.
    """
    if url.startswith("sqlite"):
        upgrade(url)
    return SqlLedger(url)


def missing_file(url: str) -> Path | None:
    """The file of a SQLite ledger that is not there; None for any other ledger, and for what is no URL."""
    if not url.startswith("sqlite"):
        return None
    database = make_url(url).database
    return Path(database) if database and not Path(database).exists() else None
