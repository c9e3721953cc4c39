"""Latency of single mails on an idle machine: from ``submit`` returning to the relay's 250.

    make bench                # 200 mails
    make bench ARGS=--quick   # 20 mails, only to see that it runs

The whole stack runs in a temporary folder: embedded broker, SQLite ledger (synchronous=FULL), Celery workers.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

from dispatcher import Submission
from dispatcher.adapters.stack import Stack
from dispatcher.bootstrap import build
from dispatcher.servers.sink import Sink
from dispatcher.sources import load

WARM_UP = 5  # each worker process connects and compiles once
DATA = {"customer": {"name": "Ada"}, "login_url": "https://example.com/login"}


def main() -> None:
    """Run, and print a line per figure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="20 mails, only to see that it runs")
    count = 20 if options.parse_args().quick else 200
    with tempfile.TemporaryDirectory() as folder, Sink(record=Path(folder) / "sink.jsonl") as sink:
        environment = {
            "DISPATCHER_DATA_DIR": f"{folder}/var",
            "DISPATCHER_RELAY_URL": sink.url,
            "DISPATCHER_FROM": "bench@example.com",
        }
        with Stack(environment) as stack:
            delays = measure(stack, sink, count)
    delays.sort()
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {count} mails, idle machine"
    )
    print("sink on loopback, SQLite synchronous=FULL, embedded broker; from submit returning to the sink's 250:")
    print(
        f"median {statistics.median(delays) * 1000:.1f} ms, p99 {delays[int(count * 0.99) - 1] * 1000:.1f} ms, "
        f"max {delays[-1] * 1000:.1f} ms"
    )


def measure(stack: Stack, sink: Sink, count: int) -> list[float]:
    """Seconds from ``submit`` returning to the sink's 250; one mail at a time, the next after the one before."""
    delays = []
    with build(load(stack.environment)) as dispatcher:
        for n in range(WARM_UP + count):
            dispatcher.submit(Submission(template="welcome", to=[f"{n}@example.com"], data=DATA))
            returned = time.time()
            delays.append(arrival(sink, n) - returned)
    return delays[WARM_UP:]


def arrival(sink: Sink, n: int) -> float:
    """When mail number ``n`` was taken, by the sink's clock."""
    until = time.monotonic() + 30
    while True:
        time.sleep(0.15)  # the sink keeps the time: looking more often would only take its CPU away
        if len(received := sink.received()) > n:
            return received[n].time
        if time.monotonic() > until:
            raise TimeoutError(f"mail {n} did not arrive within 30 s")


if __name__ == "__main__":
    main()
