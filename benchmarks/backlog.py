"""What a backlog costs: mails sent while ten thousand, a hundred thousand, or a million wait behind them; and at the
largest, how long a single mail takes while all of those are being sent."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import latency
from benchmarks.drain import Drained, medians, watch
from benchmarks.machine import resident
from benchmarks.orders import submissions
from benchmarks.ours import Ours
from benchmarks.sink import PostfixSink
from dispatcher.adapters.redis import connect
from dispatcher.broker import BrokerAddress
from dispatcher.delivery import Selector, State
from dispatcher.servers.sink import Sink

SIZES = (10_000, 100_000, 1_000_000)
_WINDOW = 8_000  # mails that are sent of each backlog, three times
_SINGLES = 200
_MIB = 1024**2


@dataclass(frozen=True)
class Row:
    """With so many waiting: what a mail costs, and what the parts hold, in MiB (of the workers, the largest)."""

    size: int
    drained: Drained
    worker_mib: float
    redis_mib: float
    ledger_mib: float


def measure(sizes: tuple[int, ...] = SIZES, *, quick: bool = False) -> tuple[list[Row], dict[str, float]]:
    """A row for each size, on one ledger that grows; and the latency of single mails in milliseconds."""
    sizes, window, rounds = ((600,), 400, 1) if quick else (sizes, _WINDOW, 3)
    with (
        tempfile.TemporaryDirectory() as folder,
        PostfixSink() as sink,
        Sink(record=Path(folder) / "singles") as single,
    ):
        relays = {
            "DISPATCHER_RELAYS__MAIN__URL": sink.url,
            "DISPATCHER_RELAYS__SINGLE__URL": single.url,
            "DISPATCHER_RELAYS__SINGLE__PRIORITY": "2",
        }
        with Ours(Path(folder), None, **relays) as ours:
            ours.pause()
            submitted, rows = 0, []
            for size in sizes:
                runs = []
                for _ in range(rounds):
                    missing = size - (submitted - sink.count)
                    ours.submit(submissions(missing))
                    submitted += missing
                    runs.append(_drain(ours, sink, window))
                rows.append(_row(ours, Path(folder), size, runs))
            ours.resume()
            singles = latency.measure(ours, single, 20 if quick else _SINGLES, relay="single")
            assert quick or sink.count < submitted, "the bulk mail ended before the single ones did"
    return rows, singles


def _drain(ours: Ours, sink: PostfixSink, window: int) -> Drained:
    """Send so many, and wait for those that are being sent."""
    before = sink.count
    ours.resume()
    try:
        return watch(sink, window, ours.workers("bulk"), before)
    finally:
        ours.pause()
        while ours.dispatcher.ledger.count(Selector(states=(State.LEASED,))):
            time.sleep(0.05)


def _row(ours: Ours, folder: Path, size: int, runs: list[Drained]) -> Row:
    found: Any = connect(BrokerAddress(ours.broker_url))
    redis = found.info("memory")["used_memory"] / _MIB
    found.close()
    ledger = sum(path.stat().st_size for path in (folder / "var").glob("ledger*")) / _MIB
    return Row(size, medians(runs), max(resident(*ours.workers("bulk")).values()), redis, ledger)


def growth(rows: list[Row]) -> dict[str, float]:
    """Of the largest backlog against the smallest: the cost of a mail, as a ratio, and a worker's memory in MiB."""
    first, last = rows[0], rows[-1]
    return {
        "cost": last.drained.sender_us / first.drained.sender_us,
        "worker MiB": last.worker_mib - first.worker_mib,
    }
