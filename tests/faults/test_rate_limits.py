"""A rate over four processes by the relay's own clock: never exceeded, and used up; also when Redis is restarted.

Short by default; with DISPATCHER_TEST_LONG=1 the whole three minutes.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatcher.rate import Rate
from dispatcher.servers.recording import Recording
from tests.limits import most
from tests.processes import sink_process
from tests.senders import senders
from tests.servers import Redis
from tests.waiting import wait_for

RATE = ("20/s", "500/min")
PROCESSES = 4
SECONDS = 180 if os.environ.get("DISPATCHER_TEST_LONG") else 70

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(params=["with its data", "without its data"])
def redis(request: pytest.FixtureRequest) -> Iterator[Redis]:
    keeping = request.param == "with its data"
    server = Redis("--save", "", "--appendonly", "yes" if keeping else "no")
    yield server
    server.close()


def moments(record: Path) -> list[float]:
    """When each recipient was taken, by the relay's clock, in seconds from the first on."""
    found = [received.time for received in Recording.read(record) for _ in received.rcpt_to] if record.exists() else []
    return [moment - found[0] for moment in found]


def run(redis: Redis, record: Path, meanwhile: Callable[[], None] = lambda: None) -> list[float]:
    """Let the processes send for so many seconds from the first mail on; what the relay took until then."""
    with sink_process(record) as url, senders(PROCESSES, redis.url, url, *RATE):
        wait_for(lambda: moments(record), 60)
        started = time.monotonic()
        meanwhile()
        time.sleep(max(0.0, SECONDS - (time.monotonic() - started)))
    return moments(record)


def check(found: list[float]) -> None:
    """No span of any window's length holds more than its limit."""
    for window in Rate.parse(RATE, "rate").windows:
        assert most(found, window.seconds) <= window.limit, f"{window.text} was exceeded"


def test_a_rate_over_four_processes_is_used_up_and_never_exceeded(
    redis_server: Redis, redis_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = run(redis_server, tmp_path / "sink.jsonl")
    check(found)
    record_property("sent", len(found))
    # The windows of a minute that begin within the run, as far as a second of 20 lets each be used up.
    allowed = sum(min(500, 20 * (SECONDS - start)) for start in range(0, SECONDS, 60))
    assert len([moment for moment in found if moment <= SECONDS]) >= 0.97 * min(allowed, SECONDS * 500 / 60)


def test_a_restart_of_redis_exceeds_nothing(
    redis: Redis, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record = tmp_path / "sink.jsonl"

    def restart() -> None:
        wait_for(lambda: len(moments(record)) >= 150, 60)
        redis.stop(signal.SIGKILL)
        time.sleep(3)
        redis.start()
        before = len(moments(record))
        wait_for(lambda: len(moments(record)) >= before + 100, 90)  # they go on, if only after a minute

    found = run(redis, record, restart)
    check(found)
    record_property("sent", len(found))
