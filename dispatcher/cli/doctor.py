"""``dispatcher doctor``: looks at every part, and says what to do about what is not well."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dispatcher.cli.opening import opened_ledger, settings_of_user
from dispatcher.cli.output import Json, document, duration, table
from dispatcher.errors import DispatcherError

if TYPE_CHECKING:
    from dispatcher.settings import Settings

OK, WARN, FAIL = "ok", "warn", "fail"
_SKEW_SECONDS = 2.0
_FREE_BYTES = 500 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it (empty when all is well)."""

    what: str
    level: str
    found: str
    advice: str = ""


def doctor(as_json: Json = False) -> None:
    """Check every part, and say what to do.

    Settings, data folder, ledger, clock, broker, workers, beat, templates, relays and attachments. Each line is ok,
    warn or fail. Exit 0 if all is well, 1 for a warning, 2 for a failure.
    """
    findings = list(_findings())
    if as_json:
        document(findings)
    else:
        table(("what", "result", "found", "what to do"), [(f.what, f.level, f.found, f.advice) for f in findings])
    raise typer.Exit(max((OK, WARN, FAIL).index(finding.level) for finding in findings))


def _findings() -> Iterator[Finding]:
    try:
        settings = settings_of_user()
    except DispatcherError as error:
        yield Finding("settings", FAIL, str(error), "correct it in dispatcher.toml or the environment")
        return
    yield _settings(settings)
    checks: tuple[tuple[str, Callable[[Settings], Iterator[Finding]]], ...] = (
        ("data folder", _data_folder),
        ("ledger", _ledger),
        ("broker", _broker),
        ("templates", _templates),
        ("relays", _relays),
        ("attachments", _attachments),
    )
    for what, check in checks:
        try:
            yield from check(settings)
        except DispatcherError as error:
            yield Finding(what, FAIL, str(error), _ADVICE[what])


_ADVICE = {
    "data folder": "make it writable, or name another one in DISPATCHER_DATA_DIR",
    "ledger": "see DISPATCHER_LEDGER_URL; `dispatcher db upgrade` makes or migrates the tables",
    "broker": "see DISPATCHER_BROKER_URL",
    "templates": "see DISPATCHER_TEMPLATES_DIR",
    "relays": "see DISPATCHER_RELAY_URL",
    "attachments": "see DISPATCHER_ATTACHMENTS_DIRS",
}


def _settings(settings: "Settings") -> Finding:
    if settings.sender is None:
        return Finding(
            "settings",
            WARN,
            "readable; no sender is set",
            "set DISPATCHER_FROM, or every submission has to name its own",
        )
    return Finding("settings", OK, "readable")


def _data_folder(settings: "Settings") -> Iterator[Finding]:
    from dispatcher.adapters.runtime import writable  # noqa: PLC0415 - --help needs none of it

    writable(settings)
    folder = settings.data_dir.resolve()
    mode = folder.stat().st_mode & 0o077
    if mode:
        yield Finding("data folder", WARN, f"{folder} can be entered by others", f"chmod 700 {folder}")
        return
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if free < _FREE_BYTES:
        yield Finding(
            "data folder", WARN, f"{folder} has {free / 1e6:,.0f} MB left", "make room before the disk is full"
        )
        return
    yield Finding("data folder", OK, f"{folder}, {free / 1e9:,.0f} GB free")


def _ledger(settings: "Settings") -> Iterator[Finding]:
    with opened_ledger(settings) as ledger:
        began = time.time()
        totals = ledger.totals()
        took = time.time() - began
        sums = sum(totals.states.values())
        if sums == totals.accepted:
            yield Finding("ledger", OK, f"{totals.accepted:,} accepted, and as many accounted for ({duration(took)})")
        else:
            yield Finding(
                "ledger", FAIL, f"{totals.accepted:,} accepted, but {sums:,} deliveries", "restore it from a backup"
            )
        if settings.ledger.startswith("sqlite"):
            yield _journal_mode(Path(settings.ledger.removeprefix("sqlite:///")))
        yield _clock(settings)
        yield _beat(ledger.ticks().get("sweep"), settings)


def _journal_mode(path: Path) -> Finding:
    import sqlite3  # noqa: PLC0415 - for SQLite ledgers only

    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    finally:
        connection.close()
    if mode == "wal":
        return Finding("ledger file", OK, "SQLite in WAL mode")
    return Finding("ledger file", WARN, f"SQLite in {mode} mode", "put it on a local disk: WAL needs shared memory")


def _clock(settings: "Settings") -> Finding:
    from dispatcher.adapters.sql.database import Database  # noqa: PLC0415 - --help needs none of it

    database = Database(settings.ledger)
    try:
        began = time.time()
        with database.reading() as tx:
            theirs = tx.now
        ours = (began + time.time()) / 2
    finally:
        database.close()
    skew = abs(ours - theirs)
    if skew > _SKEW_SECONDS:
        return Finding("clock", WARN, f"{duration(skew)} off the ledger's", "let both hosts keep time by NTP")
    return Finding("clock", OK, f"within {skew * 1000:.0f} ms of the ledger's")


def _beat(age: float | None, settings: "Settings") -> Finding:
    if age is None:
        return Finding("beat", WARN, "the ledger was never swept", "start `dispatcher up`, or a worker and beat")
    if age > 10 * settings.delivery.sweep_seconds + 10:
        return Finding("beat", WARN, f"last sweep {duration(age)} ago", "no worker serves this ledger: `dispatcher up`")
    return Finding("beat", OK, f"last sweep {duration(age)} ago")


def _broker(settings: "Settings") -> Iterator[Finding]:
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.celery import QUEUES  # noqa: PLC0415 - as above
    from dispatcher.adapters.workers import serving  # noqa: PLC0415 - as above

    broker = bootstrap.broker(settings)
    if broker is None:
        yield Finding(
            "broker", WARN, "no stack runs on this data folder", "start `dispatcher up`, or set DISPATCHER_BROKER_URL"
        )
        return
    try:
        if (reason := broker.ping()) is not None:
            yield Finding("broker", FAIL, f"out of reach: {reason}", "start it, or correct DISPATCHER_BROKER_URL")
            return
        yield from _redis(broker.info() or {})
        served = {queue for queues in (serving(broker.url) or {}).values() for queue in queues}
    finally:
        broker.close()
    if missing := [queue for queue in QUEUES if queue not in served]:
        yield Finding("workers", WARN, f"nobody serves {', '.join(missing)}", "start `dispatcher up`, or such workers")
    else:
        yield Finding("workers", OK, "every lane is served")


def _redis(info: dict[str, Any]) -> Iterator[Finding]:
    version = info.get("valkey_version") or info.get("redis_version") or "unknown"
    yield Finding("broker", OK, f"answers; {info.get('server_name', 'redis')} {version}")
    config = info.get("config", {})
    if config.get("maxmemory-policy") not in (None, "noeviction"):
        yield Finding(
            "eviction", FAIL, f"maxmemory-policy is {config['maxmemory-policy']}",
            "set maxmemory-policy noeviction: any other deletes queues",
        )  # fmt: skip
    elif config:
        yield Finding("eviction", OK, "noeviction")
    if not config:
        yield Finding("persistence", WARN, "the server does not tell its settings", "see to it that appendonly is yes")
    elif config.get("appendonly") != "yes":
        yield Finding("persistence", WARN, "appendonly is no", "set appendonly yes: submissions over Celery live on it")
    else:
        yield Finding("persistence", OK, f"append-only file, fsync {config.get('appendfsync', 'unknown')}")


def _templates(settings: "Settings") -> Iterator[Finding]:
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it
    from dispatcher.cli.templates import checked  # noqa: PLC0415 - as above

    results = [result for name in bootstrap.templates(settings).names() for result in checked(name)]
    bad = [result for result in results if not result["ok"]]
    for result in bad:
        yield Finding("templates", FAIL, str(result["reason"]), f"correct {result['template']}")
    if not bad:
        names = {result["template"] for result in results}
        yield Finding("templates", OK, f"{len(names)} templates render their samples in {len(results)} locales")


def _relays(settings: "Settings") -> Iterator[Finding]:
    from dispatcher.cli.relays import tested  # noqa: PLC0415 - --help needs none of it

    relays = settings.relay_table()
    if not relays:
        yield Finding("relays", WARN, "none is configured: mail is accepted and waits", "set DISPATCHER_RELAY_URL")
    for name, relay in relays.items():
        result = tested(settings, name)
        if not result["ok"]:
            yield Finding(f"relay {name}", FAIL, result["reason"], "see its url in the settings, and the network")
            continue
        how = ", ".join(filter(None, (result["tls"], result["auth"] and f"logged in by {result['auth']}")))
        yield Finding(f"relay {name}", OK, f"{relay.display} lets us in" + (f" ({how})" if how else ""))


def _attachments(settings: "Settings") -> Iterator[Finding]:
    for folder in settings.attachments_dirs:
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            yield Finding("attachments", OK, f"{folder} can be read")
        else:
            yield Finding("attachments", WARN, f"{folder} cannot be read", "correct DISPATCHER_ATTACHMENTS_DIRS")
