"""The ledger of a URL, ready to be used."""

from dispatcher.adapters.sql.engine import upgrade
from dispatcher.adapters.sql.ledger import SqlLedger


def open_ledger(url: str) -> SqlLedger:
    """A file of ours is made or migrated; a shared ledger is migrated by ``dispatcher db upgrade``.

    Raises ConfigurationError, LedgerUnavailable.
    """
    if url.startswith("sqlite"):
        upgrade(url)
    return SqlLedger(url)
