"""Two servers, two relays, Redis and PostgreSQL: one relay dies and comes back, Redis dies and comes back, and one
server dies for good. Everything is sent, the sums balance, and no attempt is spent on the relay's death."""

import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.adapters.stack import Stack
from dispatcher.delivery import Selector, State
from tests import orders
from tests.commands import QuickStack
from tests.processes import SinkProcess, kill_host
from tests.servers import Redis
from tests.sizes import sized
from tests.waiting import wait_for

COUNT, BATCH = sized(1200, 20_000), 50
# Seconds of a sink for a mail: the pause of a relay is over before the other one has taken all.
TAKES = sized(0.05, 0.0)
LEASE, TASK, BATCH_TIME, PHASE = sized((8, 6, 1.5, 3), (20, 15, 5, 5))  # seconds
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(900)]
TIMES = {
    "DISPATCHER_DELIVERY__LEASE_SECONDS": f"{LEASE:g}",
    "DISPATCHER_DELIVERY__TASK_SECONDS": f"{TASK:g}",
    "DISPATCHER_DELIVERY__BATCH_SECONDS": f"{BATCH_TIME:g}",
    "DISPATCHER_DELIVERY__HOST_GRACE": "2",
    "DISPATCHER_DELIVERY__BATCH_SIZE": str(BATCH),
    **{
        f"DISPATCHER_RELAYS__{relay}__TIMEOUTS__{phase}": f"{PHASE:g}"
        for relay in ("MAIN", "BACKUP")
        for phase in ("CONNECT", "COMMAND", "FINAL")
    },
}


@pytest.fixture
def redis() -> Iterator[Redis]:
    server = Redis("--appendonly", "yes", "--save", "")
    yield server
    server.close()


@pytest.fixture
def sinks(tmp_path: Path) -> Iterator[tuple[SinkProcess, SinkProcess]]:
    found = SinkProcess(tmp_path / "main.jsonl", TAKES), SinkProcess(tmp_path / "backup.jsonl", TAKES)
    for sink in found:
        sink.start()
    yield found
    for sink in found:
        sink.stop()


def test_nothing_is_lost_and_no_attempt_is_spent_on_the_relays_death(
    tmp_path: Path,
    postgres_url: str,
    redis: Redis,
    sinks: tuple[SinkProcess, SinkProcess],
    record_property: Callable[[str, object], None],
) -> None:
    lines = tmp_path / "orders.jsonl"
    orders.write(lines, COUNT)
    main, backup = sinks

    def host(name: str) -> Stack:
        return QuickStack(
            {
                "DISPATCHER_DATA_DIR": str(tmp_path / name),
                "DISPATCHER_BROKER_URL": redis.url,
                "DISPATCHER_LEDGER_URL": postgres_url,
                "DISPATCHER_RELAYS__MAIN__URL": main.url,
                "DISPATCHER_RELAYS__MAIN__PRIORITY": "1",
                "DISPATCHER_RELAYS__BACKUP__URL": backup.url,
                "DISPATCHER_RELAYS__BACKUP__PRIORITY": "2",
                **TIMES,
            }
        )

    assert host("one").run("db", "upgrade").returncode == 0
    with host("one") as one, host("two") as two:
        wait_for(lambda: two.log().count(" ready.") == 3, 60)  # to the broker a lane is served by any of them
        submit = subprocess.Popen([*one.command, "submit", str(lines)], env=one.environment, stderr=subprocess.DEVNULL)
        wait_for(lambda: orders.count(main.record) >= COUNT // 10, 120)
        main.stop(signal.SIGKILL)
        wait_for(lambda: orders.count(backup.record) >= COUNT // 10, 120)
        before = orders.count(main.record)
        main.start()
        wait_for(lambda: orders.count(main.record) > before, 120)
        redis.stop(signal.SIGKILL)
        redis.start()
        kill_host(two)
        so_far = orders.count(main.record) + orders.count(backup.record)
        assert so_far < COUNT, "everything was sent before anything could go wrong"
        assert submit.wait(300) == 0
        idle = one.run("wait", "--idle", "--timeout", "400", timeout=420)
        assert idle.returncode == 0, idle.stderr
        sunk = ("--sink", str(main.record), "--sink", str(backup.record))
        proof = one.json("verify", *sunk)
    assert proof["ok"], proof
    assert (proof["accepted"], proof["states"]) == (COUNT, {"sent": COUNT})
    assert proof["host_lost"] <= 3 * BATCH  # each process of the lost server had a batch at most

    ledger = SqlLedger(postgres_url)
    records = list(ledger.find(Selector()))
    ledger.close()
    doubtful = {record.id for record in records if any(each.state is State.IN_DOUBT for each in record.history)}
    spent = Counter(record.attempts for record in records if record.id not in doubtful)
    assert set(spent) == {1}, [record for record in records if record.attempts > 1][:3]
    assert {record.relay for record in records} == {"main", "backup"}

    received = [*orders.read(main.record), *orders.read(backup.record)]
    orders.check(received, COUNT, doubles=len(doubtful))
    record_property("doubled", len(received) - COUNT)
    record_property("in_doubt", len(doubtful))
    record_property("by_backup", orders.count(backup.record))
