"""The database's errors in our words: which ledger, the reason, and what to do about it."""

import re
from typing import NoReturn

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from dispatcher.errors import LedgerUnavailable

SETTING = "DISPATCHER_LEDGER_URL"
STANDBY = f"it is a read-only standby: name the primary in {SETTING}"
READ_ONLY = "default_transaction_read_only is on, for this server, database or user: turn it off"
# What a server says by its SQLSTATE, or, before it lets anybody in, only by words.
_ADVICE = (
    (r"^25006|read-only transaction", f"name the primary in {SETTING}, or turn default_transaction_read_only off"),
    (r"readonly database", "let this user write to the file and to its folder"),
    (r"disk is full|disk I/O error", "make room on its disk; if there is some, see that it is sound"),
    (r"pg_hba", "let this host and user in by the server's pg_hba.conf"),
    (r"^28P01|^28000|authentication failed|no password supplied", f"correct user and password in {SETTING}"),
    (r"^3D000|database .* does not exist", f"create the database, or correct its name in {SETTING}"),
    (r"^42501", "let its user own the ledger's tables, and create them"),
)
DENIED, LOCKED_OUT = "42501", ("55P03", "40P01")  # the latter: a lock was not to be had in time


def unavailable(engine: Engine, error: Exception) -> LedgerUnavailable:
    """The error as one line, without the password."""
    return LedgerUnavailable(f"ledger {place(engine)}: {reason(error)}")


def reason(error: Exception) -> str:
    """What the database said, and what to do about it where that is known."""
    said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    advice = (f": {what}" for pattern, what in _ADVICE if re.search(pattern, f"{sqlstate(error)} {said}"))
    return said + next(advice, "")


def refuse_standby(engine: Engine) -> NoReturn:
    """Raises LedgerUnavailable: a standby may be a primary later."""
    raise LedgerUnavailable(f"ledger {place(engine)}: {STANDBY}")


def refuse_reading_only(engine: Engine) -> NoReturn:
    """Raises LedgerUnavailable: a primary that was told to take no changes."""
    raise LedgerUnavailable(f"ledger {place(engine)}: {READ_ONLY}")


def place(engine: Engine) -> str:
    """Where the ledger is, without its password."""
    return engine.url.set(query={}).render_as_string(hide_password=True)


def sqlstate(error: Exception) -> str:
    """PostgreSQL's code of an error; empty where there is none."""
    return (isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None)) or ""
