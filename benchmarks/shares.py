"""Where a worker's CPU time goes: lease, render and build, SMTP with its journal, settle; as shares of a mail.

    python -m benchmarks.shares           # 5,000 order confirmations
    python -m benchmarks.shares --quick   # 200, only to see that it runs

One process, as a worker child has it, with every guarantee on: SQLite (synchronous=FULL), the journal on disk. The sink
runs in a process of its own. Only this process' CPU is counted, by step. What the journal costs is too little to be
timed call by call: see journal.py.
"""

import argparse
import os
import platform
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.orders import submissions
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.adapters.stack import Stack
from dispatcher.bootstrap import build
from dispatcher.delivery import Lane
from dispatcher.sources import load

STEPS = ("lease", "compose", "settle")


def main() -> None:
    """Run, and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="200 mails, only to see that it runs")
    count = 200 if options.parse_args().quick else 5000
    with tempfile.TemporaryDirectory() as folder:
        command = [*Stack.command, "sink", "--port", "0", "--record", f"{folder}/sink.jsonl"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sink:
            try:
                assert sink.stdout is not None
                total, spent = measure(Path(folder), sink.stdout.readline().strip(), count)
            finally:
                sink.terminate()
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {count} order confirmations;"
    )
    print("CPU of the sending process, microseconds a mail, and the share of it:")
    spent["send"] = total - sum(spent.values())
    for step in (*STEPS, "send"):
        print(f"  {step:<8} {spent[step] / count * 1e6:8.1f}  {spent[step] / total:6.1%}")
    print(f"  {'all':<8} {total / count * 1e6:8.1f}")


def measure(folder: Path, relay: str, count: int) -> tuple[float, Counter[str]]:
    """Seconds of CPU, in all and by step, for sending so many."""
    settings = load(data_dir=str(folder / "var"), relay_url=relay, **{"from": "Shop <shop@example.com>"})
    spent: Counter[str] = Counter()
    with build(settings, sends=True, sink=lambda _: None) as dispatcher:
        for answer in dispatcher.submit_many(submissions(count)):
            assert not isinstance(answer, Exception), answer
        with (
            patch.object(SqlLedger, "lease", timed(SqlLedger.lease, "lease", spent)),
            patch.object(SqlLedger, "settle", timed(SqlLedger.settle, "settle", spent)),
            patch("dispatcher.batch.compose", timed(_compose(), "compose", spent)),
        ):
            began, sent = time.thread_time(), 0
            while sent < count:
                sent += dispatcher.deliver(Lane.BULK)
            return time.thread_time() - began, spent


def timed(call: Callable[..., Any], step: str, spent: Counter[str]) -> Callable[..., Any]:
    """The same call; the CPU time of this thread in it is added to its step."""

    def measured(*arguments: Any, **options: Any) -> Any:
        began = time.thread_time()
        try:
            return call(*arguments, **options)
        finally:
            spent[step] += time.thread_time() - began  # type: ignore[assignment]

    return measured


def _compose() -> Callable[..., Any]:
    from dispatcher.compose import compose  # noqa: PLC0415 - as it is before it is measured

    return compose


if __name__ == "__main__":
    main()
