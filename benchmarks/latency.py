"""Latency of single mails on an idle machine: from ``submit`` returning to the relay's 250.

    make bench                # 200 mails
    make bench ARGS=--quick   # 20 mails, only to see that it runs

The whole stack runs in a temporary folder: embedded broker, SQLite ledger (synchronous=FULL), Celery workers.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from dispatcher import Submission
from dispatcher.adapters.stack import Stack
from dispatcher.bootstrap import build
from dispatcher.servers.sink import Sink
from dispatcher.sources import load

DATA = {"customer": {"name": "Ada"}, "login_url": "https://example.com/login"}


def main() -> int:
    """Run, print a line per figure, exit 0 when every mail arrived."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    count = 20 if options.parse_args().quick else 200
    with tempfile.TemporaryDirectory() as folder, Sink(record=Path(folder) / "sink.jsonl") as sink:
        environment = {
            "DISPATCHER_DATA_DIR": f"{folder}/var",
            "DISPATCHER_RELAY_URL": sink.url,
            "DISPATCHER_FROM": "bench@example.com",
        }
        with Stack(environment) as stack:
            delays = measure(stack, sink, count)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {count} mails")
    print(
        f"submit returned -> 250: median {statistics.median(delays) * 1000:.1f} ms, "
        f"p99 {sorted(delays)[int(len(delays) * 0.99) - 1] * 1000:.1f} ms, max {max(delays) * 1000:.1f} ms"
    )
    return 0 if len(delays) == count else 1


def measure(stack: Stack, sink: Sink, count: int) -> list[float]:
    """One mail at a time; the next one when the one before has arrived."""
    delays = []
    with build(load(stack.environment)) as dispatcher:
        for n in range(count):
            dispatcher.submit(Submission(template="welcome", to=[f"{n}@example.com"], data=DATA))
            returned = time.time()
            sink.wait(n + 1, timeout=30)
            delays.append(sink.records()[-1].at - returned)
            time.sleep(0.02)  # idle again
    return delays[1:] if count > 20 else delays


if __name__ == "__main__":
    sys.exit(main())
