"""What ``doctor`` says about the ledger: its sums, its database, its clock, and who comes round."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dispatcher.cli.doctor.broker import hosts
from dispatcher.cli.doctor.clock import clock
from dispatcher.cli.doctor.finding import FAIL, OK, WARN, Finding
from dispatcher.cli.opening import opened_ledger
from dispatcher.cli.output import count, duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.adapters.sql.inspecting import ServerFacts
    from dispatcher.records import Totals
    from dispatcher.settings import Settings

_CHECK_SECONDS = 5.0
_OLDEST_POSTGRES = 13
_PER_PROCESS = 3  # connections: the batch, the settler, and one to spare
_NEARLY = 0.8
_WAITING = ("on", "remote_write", "remote_apply")  # synchronous_commit: for a standby, if one is named


def ledger(settings: "Settings") -> Iterator[Finding]:
    """All about it."""
    from dispatcher.adapters.sql.inspecting import facts  # noqa: PLC0415 - --help needs none of it

    with opened_ledger(settings) as found:
        began = time.monotonic()
        totals = found.totals()
        yield _sums(totals, time.monotonic() - began)
        ticks = found.ticks()
    known = facts(settings.ledger)
    yield _schema(known.schema)
    if settings.ledger.startswith("postgresql"):
        yield from _server(settings)
    else:
        yield from _file(settings)
    yield clock("the ledger's", known.skew)
    yield from _rounds(ticks, settings)
    if totals.rejects:
        advice = "see `dispatcher rejects list`; each is resubmitted or dropped by hand"
        yield Finding("rejects", WARN, f"{count(totals.rejects, 'submission')} refused and not looked after", advice)


def _sums(totals: "Totals", took: float) -> Finding:
    sums = sum(totals.states.values())
    if sums == totals.accepted:
        return Finding("ledger", OK, f"{totals.accepted:,} accepted, and as many accounted for ({duration(took)})")
    return Finding("ledger", FAIL, f"{totals.accepted:,} accepted, but {sums:,} deliveries", "restore it from a backup")


def _schema(found: str) -> Finding:
    from dispatcher.adapters.sql.inspecting import KNOWN_SCHEMA  # noqa: PLC0415 - --help needs none of it

    if found == KNOWN_SCHEMA:
        return Finding("schema", OK, found)
    said = f"{found}, made by a newer program; this one knows {KNOWN_SCHEMA} and works on it"
    return Finding("schema", WARN, said, "update this host's dispatcher")


def _server(settings: "Settings") -> Iterator[Finding]:
    from dispatcher.adapters.sql.inspecting import inspect_server  # noqa: PLC0415 - for PostgreSQL only

    server = inspect_server(settings.ledger)
    found = [*_flaws(server), *_room(server, settings)]
    yield from found or [Finding("database", OK, f"PostgreSQL {server.version}, {server.connections} connections")]
    yield replication(server)


def replication(server: "ServerFacts") -> Finding:
    """Whether a commit is on a second server before it counts: what is not would be forgotten when that one takes
    over."""
    names, commit = server.settings["synchronous_standby_names"], server.settings["synchronous_commit"]
    followed = count(server.standbys, "standby server")
    if names and commit in _WAITING and server.waited == 0:
        advice = "start that standby, or correct synchronous_standby_names"
        return Finding("replication", FAIL, f"commits wait for {names}, which is not attached", advice)
    if names and commit in _WAITING:
        return Finding("replication", OK, f"{followed}; commits wait for {names}")
    if server.standbys:
        found = f"{followed}, and commits wait for none: a failover forgets what was not sent over yet"
        wanted = "set synchronous_commit = on" if names else "set synchronous_standby_names"
        return Finding("replication", WARN, found, f"{wanted} if accepted must mean on two servers")
    return Finding("replication", OK, "no standby server is attached")


def _flaws(server: "ServerFacts") -> Iterator[Finding]:
    if server.major < _OLDEST_POSTGRES:
        yield Finding("database", FAIL, f"PostgreSQL {server.version}", f"{_OLDEST_POSTGRES} is the oldest that works")
    if server.settings["fsync"] == "off":
        advice = "set fsync = on: what was accepted would be lost with the power"
        yield Finding("database", FAIL, "fsync is off", advice)
    if server.settings["synchronous_commit"] == "off":
        advice = "set synchronous_commit = on: the last commits are lost with the server"
        yield Finding("database", WARN, "synchronous_commit is off", advice)
    if server.settings["autovacuum"] == "off":
        advice = "set autovacuum = on: without it the ledger becomes slower with every mail"
        yield Finding("database", WARN, "autovacuum is off", advice)


def _room(server: "ServerFacts", settings: "Settings") -> Iterator[Finding]:
    """A worker that finds no connection cannot settle what it has sent."""
    p = settings.delivery.processes
    machines = hosts(settings) or 1
    needed = machines * (p.transactional + p.bulk + p.intake) * _PER_PROCESS
    if needed > server.room:
        found = f"max_connections leaves {server.room}, and workers on {count(machines, 'host')} may need {needed}"
        yield Finding("database", WARN, found, "raise max_connections, or put a pooler in between")
    elif server.connections > _NEARLY * server.room:
        found = f"{server.connections} of {server.room} connections are in use"
        yield Finding("database", WARN, found, "raise max_connections, or see who else uses the server")


def _file(settings: "Settings") -> Iterator[Finding]:
    from dispatcher.adapters.mounts import network  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.sql.inspecting import inspect_file  # noqa: PLC0415 - for SQLite only

    file = inspect_file(settings.ledger, _CHECK_SECONDS)
    if file.damage:
        yield Finding("ledger file", FAIL, f"{file.path} is damaged: {file.damage}", "restore it from a backup")
    elif kind := network(file.path.resolve()):
        advice = "put it on a local disk, or use PostgreSQL: over the network its locks do not hold"
        yield Finding("ledger file", FAIL, f"{file.path} is on a network file system ({kind})", advice)
    elif file.mode != "wal":
        advice = "put it on a local disk: WAL needs shared memory"
        yield Finding("ledger file", WARN, f"SQLite in {file.mode} mode", advice)
    else:
        looked = "sound" if file.checked else f"sound as far as {_CHECK_SECONDS:g} s went"
        yield Finding("ledger file", OK, f"SQLite in WAL mode, {looked}")


def _rounds(ticks: "Mapping[str, float]", settings: "Settings") -> Iterator[Finding]:
    from dispatcher.policy import UPKEEP_SECONDS  # noqa: PLC0415 - --help needs none of it

    rare = 10 * settings.delivery.sweep_seconds + 10
    for name, patience, advice in (
        ("beat", rare, "start one beat: `dispatcher up`, or `celery -A dispatcher.tasks beat`"),
        ("sweep", rare, "no worker serves this ledger: `dispatcher up`"),
        ("upkeep", 3 * UPKEEP_SECONDS, "it is rung by beat and done by the worker of mail.control"),
    ):
        age = ticks.get(name)
        if age is None and name == "upkeep" and "beat" in ticks:
            yield Finding(name, OK, f"is yet to come: beat rings it every {duration(UPKEEP_SECONDS)}")
        elif age is None:
            yield Finding(name, WARN, "was never here", advice)
        elif age > patience:
            yield Finding(name, WARN, f"was last here {duration(age)} ago", advice)
        else:
            yield Finding(name, OK, f"was last here {duration(age)} ago")
