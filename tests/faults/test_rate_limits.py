"""A rate over four processes by the relay's own clock: never exceeded, and used up; also when Redis is restarted.

Three minutes with DISPATCHER_TEST_FULL=1.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.delivery import Selector
from dispatcher.rate import Rate
from tests import orders
from tests.commands import QuickStack
from tests.limits import most
from tests.processes import sink_process
from tests.servers import Redis
from tests.sizes import sized
from tests.waiting import wait_for

RATE = ("20/s", "500/min")
PROCESSES = 4
SECONDS, RESTARTED = sized(66, 180), sized(30, 120)

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(params=sized(["with its data"], ["with its data", "without its data"]))
def redis(request: pytest.FixtureRequest) -> Iterator[Redis]:
    keeping = request.param == "with its data"
    server = Redis("--save", "", "--appendonly", "yes" if keeping else "no")
    yield server
    server.close()


def moments(record: Path) -> list[float]:
    """When each recipient was taken, by the relay's clock, in seconds from the first on."""
    found = [received.time for received in orders.read(record) for _ in received.rcpt_to]
    return [moment - found[0] for moment in found]


def run(redis: Redis, folder: Path, seconds: float, meanwhile: Callable[[Path], None] = lambda _: None) -> list[float]:
    """Let four worker processes send for so many seconds from the first mail on; what the relay took until then."""
    record = folder / "sink.jsonl"
    with sink_process(record) as url:
        environment = {
            "DISPATCHER_DATA_DIR": str(folder / "var"),
            "DISPATCHER_BROKER_URL": redis.url,
            "DISPATCHER_FROM": "shop@example.com",
            "DISPATCHER_RELAYS__MAIN__URL": url,
            "DISPATCHER_RELAYS__MAIN__RATE": json.dumps(RATE),
            "DISPATCHER_DELIVERY__PROCESSES__BULK": str(PROCESSES),
        }
        with QuickStack(environment, "--no-flower") as stack:
            mail = '{"to": ["buyer%d@example.com"], "subject": "Hello", "text": "Hello", "lane": "bulk"}'
            done = stack.run("submit", "-", stdin="\n".join(mail % n for n in range(int(seconds * 500 / 60) + 600)))
            assert done.returncode == 0, done.stderr
            wait_for(lambda: orders.count(record), 60)
            started = time.monotonic()
            meanwhile(record)
            time.sleep(max(0.0, seconds - (time.monotonic() - started)))
            assert set(stack.json("status")["states"]) <= {"sent", "queued", "leased"}
            ledger = SqlLedger(f"sqlite:///{stack.folder.resolve() / 'ledger.db'}")
            assert not any(record.attempts > 1 for record in ledger.find(Selector()))
            ledger.close()
        return moments(record)


def check(found: list[float]) -> None:
    """No span of any window's length holds more than its limit."""
    for window in Rate.parse(RATE, "rate").windows:
        assert most(found, window.seconds) <= window.limit, f"{window.text} was exceeded"


def test_a_rate_over_four_processes_is_used_up_and_never_exceeded(
    redis_server: Redis, redis_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = run(redis_server, tmp_path, SECONDS)
    check(found)
    record_property("sent", len(found))
    # The windows of a minute that begin within the run, as far as a second of 20 lets each be used up.
    allowed = sum(min(500, 20 * (SECONDS - start)) for start in range(0, SECONDS, 60))
    assert len([moment for moment in found if moment <= SECONDS]) >= 0.97 * min(allowed, SECONDS * 500 / 60)


def test_a_restart_of_redis_exceeds_nothing(
    redis: Redis, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    def restart(record: Path) -> None:
        wait_for(lambda: orders.count(record) >= 150, 60)
        redis.stop(signal.SIGKILL)
        time.sleep(3)
        redis.start()

    found = run(redis, tmp_path, RESTARTED, restart)
    check(found)
    record_property("sent", len(found))
