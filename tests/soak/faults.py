"""The faults of the soak. Each strikes at once, and answers what has to follow, in seconds from then; None when there
is nobody to strike now."""

import os
import random
import signal
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from redis.exceptions import RedisError

from tests.faults.world import World
from tests.processes import children, command
from tests.soak.deaths import Deaths, state
from tests.waiting import wait_for

Later = Sequence[tuple[float, Callable[[], object]]]
AWAY = 3.0  # seconds that something is frozen or locked


@dataclass(frozen=True, slots=True)
class Scene:
    """What faults strike."""

    world: World
    deaths: Deaths
    luck: random.Random
    lease: float

    def one(self, pattern: str) -> int | None:
        """The pid of the stack's process whose command line has this in it, if it runs."""
        return next((pid for pid in children(self.world.stack.pid) if pattern in command(pid)), None)

    def child(self) -> int | None:
        """A process of the worker that sends, if there is one; not one that is stopped already."""
        parent = self.one("mail.transactional")
        found = [] if parent is None else [pid for pid in sorted(children(parent)) if not _stopped(pid)]
        return self.luck.choice(found) if found else None


def kill_child(scene: Scene) -> Later | None:
    """Stopped first, so that what it had under way can be looked at as it is when it dies."""
    if (pid := scene.child()) is None or not _halt(pid):
        return None
    scene.deaths.foresee(pid, "child killed")
    _signal(pid, signal.SIGKILL)
    return ()


def freeze_child(scene: Scene) -> Later | None:
    """For longer than its lease: it is killed for that, or was idle."""
    if (pid := scene.child()) is None or not _halt(pid):
        return None
    scene.deaths.foresee(pid, "child frozen")

    def wake() -> None:
        scene.deaths.spare(pid)
        _signal(pid, signal.SIGCONT)

    return [(scene.lease + AWAY, wake)]


def kill_parent(scene: Scene) -> Later | None:
    """What becomes of its children is up to them: they are killed with it, or end after the mail in hand."""
    if (parent := scene.one("mail.transactional")) is None:
        return None
    stopped = [pid for pid in children(parent) if not _stopped(pid) and _halt(pid)]
    for pid in stopped:
        scene.deaths.expect(pid, "parent killed")
    _signal(parent, signal.SIGKILL)
    for pid in stopped:
        _signal(pid, signal.SIGCONT)
    return ()


def stop_worker(scene: Scene) -> Later | None:
    """SIGTERM: it drains, and is started again."""
    pid = scene.one("mail.transactional")
    return () if pid is not None and _signal(pid, signal.SIGTERM) else None


def kill_beat(scene: Scene) -> Later | None:
    pid = scene.one(" beat ")
    return () if pid is not None and _signal(pid, signal.SIGKILL) else None


def kill_broker(scene: Scene) -> Later | None:
    """The embedded one is started again by the supervisor."""
    if (redis := scene.world.redis) is not None:
        redis.stop(signal.SIGKILL)
        return [(scene.luck.uniform(0, AWAY), redis.start)]
    pid = scene.one("valkey.conf")
    return () if pid is not None and _signal(pid, signal.SIGKILL) else None


def freeze_broker(scene: Scene) -> Later | None:
    pid = scene.world.redis.pid if scene.world.redis is not None else scene.one("valkey.conf")
    if pid is None or not _signal(pid, signal.SIGSTOP):
        return None
    return [(AWAY, lambda: _signal(pid, signal.SIGCONT))]


def flush_broker(scene: Scene) -> Later | None:
    try:
        with scene.world.client() as client:
            client.flushall()
    except RedisError:  # it is being started
        return None
    return ()


def drop_relay(scene: Scene) -> Later | None:
    """SIGKILL; what it had answered is on record."""
    scene.world.sink.stop(signal.SIGKILL)
    return [(scene.luck.uniform(0, AWAY), scene.world.sink.start)]


def lock_ledger(scene: Scene) -> Later | None:
    """SQLite: nobody else writes for a while. PostgreSQL: all connections are cut, again and again."""
    if scene.world.postgres is not None:
        return [(0.5 * n, lambda: _cut(scene.world.ledger_url)) for n in range(int(2 * AWAY))]
    connection = sqlite3.connect(scene.world.ledger_url.removeprefix("sqlite:///"), timeout=10, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return [(AWAY, connection.close)]


@dataclass(frozen=True, slots=True)
class Fault:
    """``what`` it strikes is left alone until the last fault of it is over; empty: it may be struck again at once."""

    name: str
    strike: Callable[[Scene], Later | None]
    weight: int
    what: str = ""


FAULTS = (
    Fault("child killed", kill_child, 5),
    Fault("child frozen beyond its lease", freeze_child, 2),
    Fault("worker killed", kill_parent, 1),
    Fault("worker asked to stop", stop_worker, 1),
    Fault("broker killed", kill_broker, 1, "broker"),
    Fault("broker frozen", freeze_broker, 1, "broker"),
    Fault("broker emptied", flush_broker, 1, "broker"),
    Fault("beat killed", kill_beat, 1),
    Fault("relay killed", drop_relay, 1, "relay"),
    Fault("ledger locked or cut off", lock_ledger, 1, "ledger"),
)


def _signal(pid: int, number: signal.Signals) -> bool:
    """False when it has ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def _halt(pid: int) -> bool:
    """SIGSTOP, and wait until it stands still."""
    return _signal(pid, signal.SIGSTOP) and wait_for(lambda: _stopped(pid), 5, every=0.001)


def _stopped(pid: int) -> bool:
    """Whether it stands still, be it for ever."""
    return state(pid) in ("", "T", "Z")


def _cut(url: str) -> None:
    import psycopg  # noqa: PLC0415 - an extra

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
