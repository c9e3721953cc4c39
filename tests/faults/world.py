"""A dispatcher stack on real servers, a recording sink, and the sums in the end: what the fault tests play on.

Two kinds: ``sqlite+valkey`` is what one machine has, its broker embedded and kept running by the supervisor;
``postgres+redis`` has real servers of its own, which nobody starts again but the test. Starting one takes seconds, so
the tests of a module share it, and each ends with ``settle`` and ``prove``.
"""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as Client
from redis.exceptions import RedisError

from dispatcher.adapters import runtime
from dispatcher.bootstrap import build
from dispatcher.dispatcher import Dispatcher
from dispatcher.sources import load
from tests import orders
from tests.commands import QuickStack
from tests.processes import SinkProcess, children, command, member
from tests.servers import Postgres, Redis, wait_until
from tests.sizes import FULL, sized
from tests.waiting import wait_for
from tests.zygote import zygote

KINDS = ("sqlite+valkey", pytest.param("postgres+redis", marks=pytest.mark.server))
SQLITE, POSTGRES = ((kind,) for kind in KINDS)
BOTH = FULL or os.environ.get("DISPATCHER_TEST_KINDS") == "all"
COUNT = sized(2000, 20_000)  # mails of one fault under load
OUTAGE = sized(3.0, 30.0)  # seconds that something stays away
LEASE = sized(6.0, 300.0)
_SHORT = {
    "DISPATCHER_DELIVERY__LEASE_SECONDS": f"{LEASE:g}",
    "DISPATCHER_DELIVERY__TASK_SECONDS": "5.5",
    "DISPATCHER_DELIVERY__BATCH_SECONDS": "1",
    "DISPATCHER_DELIVERY__BATCH_SIZE": "25",  # what a slow machine sends in a batch's second
    "DISPATCHER_DELIVERY__SWEEP_SECONDS": "0.3",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__CONNECT": "3",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__COMMAND": "3",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__FINAL": "3",
}
CONNECTIONS = 4  # of a process at most: each may have a mail that is begun and not answered
SETTINGS = {
    "DISPATCHER_DELIVERY__PROCESSES__TRANSACTIONAL": "2",
    "DISPATCHER_DELIVERY__CONNECTIONS": str(CONNECTIONS),
    **({} if FULL else _SHORT),
}


class World:
    """``environment`` is that of the stack; ``submitted`` counts the mails that were handed to it, whoever did."""

    def __init__(self, kind: str, folder: Path, sink: SinkProcess, environment: Mapping[str, str]) -> None:
        self.kind, self.folder, self.sink, self.record = kind, folder, sink, sink.record
        self.environment = dict(environment)
        self.stack = QuickStack(self.environment, "--no-flower")
        self.postgres: Postgres | None = None
        self.redis: Redis | None = None
        self.submitted = 0
        self._files = self._taken = self._read = 0
        self._before: dict[str, Any] = {}

    # -- mail

    def orders(self, count: int, **change: Any) -> list[dict[str, Any]]:
        """So many submissions, which are to be submitted now; ``change`` goes over each. The numbers go on from call to
        call."""
        first, self.submitted = self.submitted, self.submitted + count
        return [orders.order(n) | change for n in range(first, self.submitted)]

    def submit(self, count: int, **change: Any) -> None:
        """Submit so many orders from a process of its own."""
        with self.submitting(count, **change):
            pass

    @contextmanager
    def submitting(self, count: int, **change: Any) -> Iterator[None]:
        """The same while the block runs, and to its end: nothing may be refused, whatever the block does."""
        self._files += 1
        lines = self.folder / f"orders-{self._files}.jsonl"
        made = self.orders(count, **change)
        lines.write_text("".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in made), "utf-8")
        said = lines.with_suffix(".log")
        with said.open("wb") as log:
            command = zygote().start(["submit", str(lines)], self.stack.environment, output=log, errors=log)
        try:
            yield
            code = command.wait(120 + 10 * OUTAGE)
        finally:
            command.kill()
        assert code == 0, said.read_text()

    @contextmanager
    def producer(self) -> Iterator[Dispatcher]:
        """A producer within the test's process, as an application has it."""
        with build(load(self.stack.environment)) as made:
            yield made

    def taken(self) -> int:
        """How many mails the sink has taken so far; it reads only what is new."""
        if self.record.exists():
            with self.record.open("rb") as lines:
                lines.seek(self._read)
                while chunk := lines.read(1 << 20):
                    self._taken += chunk.count(b"\n")
                    self._read += len(chunk)
        return self._taken

    def flows(self, more: int = 1, seconds: float = sized(120, 900)) -> int:
        """Wait until the sink has taken so many more; how many it has then."""
        wanted = self.taken() + more
        return wait_for(lambda: (now := self.taken()) >= wanted and now, seconds)

    def settle(self, seconds: float = sized(120, 900)) -> None:
        """Wait until nothing is under way. What is held in doubt is not."""
        idle = self.stack.run("wait", "--idle", "--json", "--timeout", f"{seconds:g}", timeout=seconds + 60)
        assert idle.stdout, f"{idle.stderr}{self.stack.json('status')['states']}"

    def prove(self, **bounds: int) -> dict[str, Any]:
        """The proof of ``dispatcher verify``, which must hold for all that was ever submitted here. Each bound, such as
        ``doubled=4``, is the most by which that number may have grown since the last proof."""
        done = self.stack.run("verify", "--sink", str(self.record), "--json")
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == 0, found
        assert found["accepted"] == self.submitted, found
        grown = {name: found[name] - self._before.get(name, 0) for name in bounds}
        self._before = found
        assert all(grown[name] <= most for name, most in bounds.items()), (grown, bounds)
        return found

    # -- its processes

    @contextmanager
    def asleep(self, pattern: str) -> Iterator[int]:
        """The processes of the program whose command line fits, such as ``mail.transactional`` or ``tasks beat``,
        are stopped while the block runs; the parent's pid, which is that of their group."""
        pid = member(self.stack, pattern)
        os.killpg(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            with suppress(ProcessLookupError):  # it was killed meanwhile
                os.killpg(pid, signal.SIGCONT)

    # -- the broker

    @property
    def ledger_url(self) -> str:
        return self.environment.get("DISPATCHER_LEDGER_URL") or f"sqlite:///{self.stack.folder / 'ledger.db'}"

    @property
    def broker_url(self) -> str:
        if self.redis is not None:
            return self.redis.url
        found = runtime.read(self.stack.folder)
        assert found is not None, "no stack runs"
        return str(found["broker_url"])

    @property
    def broker_pid(self) -> int:
        return self.redis.pid if self.redis is not None else wait_for(self._embedded_pid)

    @property
    def broker_folder(self) -> Path:
        """Where it keeps its append-only files."""
        return self.redis.folder if self.redis is not None else self.stack.folder / "broker"

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A connection to the broker of the test's own."""
        with Client.from_url(self.broker_url, socket_timeout=5) as client:
            yield client

    def kill_broker(self) -> None:
        """SIGKILL; it stays away until ``start_broker``. The embedded one's supervisor sleeps for so long."""
        if self.redis is not None:
            self.redis.stop(signal.SIGKILL)
            return
        pid = self.broker_pid
        os.kill(self.stack.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not command(pid))

    def start_broker(self) -> None:
        """Start it again (the embedded one: let its supervisor do so) and wait until it answers."""
        if self.redis is not None:
            self.redis.start()
            return
        os.kill(self.stack.pid, signal.SIGCONT)
        wait_until(self._answers, "the embedded broker is back", 60)

    @contextmanager
    def broker_down(self, seconds: float = 0.0) -> Iterator[None]:
        """Killed for the block and so many seconds after it, then started again."""
        self.kill_broker()
        try:
            yield
            time.sleep(seconds)  # that long it is away: nothing to wait for
        finally:
            self.start_broker()

    @contextmanager
    def broker_frozen(self, seconds: float = 0.0) -> Iterator[None]:
        """Stopped in its tracks for the block and so many seconds after it: connections open, nothing answers."""
        pid = self.broker_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
            time.sleep(seconds)  # as above
        finally:
            os.kill(pid, signal.SIGCONT)

    def _embedded_pid(self) -> int:
        """0 while it is not there; it names itself anew, so the supervisor is asked."""
        programs = (runtime.read(self.stack.folder) or {}).get("processes", ())
        pid = next((each["pid"] for each in programs if each["name"] == "broker"), None) or 0
        return int(pid) if pid and command(pid) else 0

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:  # not yet, or it loads its data
            return False

    def close(self) -> None:
        """Wake what a test left asleep, so that it can end."""
        sleeping = [self.stack.pid]
        for pid in sleeping:  # it grows
            sleeping += children(pid)
        for pid in (*sleeping, *((self.redis.pid,) if self.redis is not None and self.redis.runs else ())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def make_world(kind: str, folder: Path, *, final_seconds: float = 0.0, **environment: str) -> Iterator[World]:
    """A world in an empty folder, its stack ready. ``environment`` goes over ``SETTINGS``, ``final_seconds`` is what
    the sink takes over each mail."""
    with ExitStack() as ending:
        sink = SinkProcess(folder / "sink.jsonl", final_seconds)
        sink.start()
        ending.callback(sink.stop)
        found = {"DISPATCHER_DATA_DIR": str(folder / "var"), "DISPATCHER_RELAY_URL": sink.url, **SETTINGS}
        postgres = redis = None
        if kind == "postgres+redis":
            redis = Redis("--appendonly", "yes", "--save", "", "--aof-load-truncated", "yes")
            ending.callback(redis.close)
            postgres = Postgres("synchronous_commit=on")
            ending.callback(postgres.close)
            found |= {"DISPATCHER_BROKER_URL": redis.url, "DISPATCHER_LEDGER_URL": postgres.create()}
        world = World(kind, folder, sink, found | environment)
        world.postgres, world.redis = postgres, redis
        if postgres is not None:
            made = world.stack.run("db", "upgrade")
            assert made.returncode == 0, made.stderr
        ending.enter_context(world.stack)
        ending.callback(world.close)
        yield world


@pytest.fixture(scope="module", params=KINDS if BOTH else POSTGRES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for the tests of a module, of either kind."""
    with make_world(request.param, tmp_path_factory.mktemp("world")) as made:
        yield made
