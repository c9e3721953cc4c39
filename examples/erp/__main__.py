"""Play an ERP: `python -m examples.erp --rate 50 --seconds 300 --processes 3 --door both --record events.jsonl`

Beside a running `dispatcher up`, in its folder or with its settings, after

    dispatcher automations samples automations
    dispatcher automations load automations/events.yaml automations/welcome.yaml automations/order_flow.yaml

Ctrl-C ends the day early.
"""

import argparse
import json
import multiprocessing
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from pathlib import Path

from examples.erp.doors import Refused
from examples.erp.telling import Row, Shared, begin, part


def main() -> None:
    given = arguments()
    broker = given.broker or (running_broker() if given.door != "python" else "")
    shared = Shared(multiprocessing.Event(), multiprocessing.Value("q", 0))
    with ProcessPoolExecutor(given.processes, initializer=begin, initargs=(shared,)) as pool:
        parts = [pool.submit(part, n, given, broker) for n in range(given.processes)]
        signal.signal(signal.SIGINT, lambda *_: shared.over.set())
        try:
            watch(parts, shared)
            rows = sorted((row for each in parts for row in each.result()), key=lambda row: row.at)
        except Refused as error:
            sys.exit(f"erp: {error}")
        finally:
            shared.over.set()
    if given.record:
        given.record.write_text("".join(f"{json.dumps(row._asdict())}\n" for row in rows))
    seconds = rows[-1].at - rows[0].at if rows else 0.0
    sums = (f"{many:,} {event}" for event, many in sorted(Counter(row.event for row in rows).items()))
    print(f"{len(rows):,} events in {seconds:.0f} s: {', '.join(sums)}")


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        prog="python -m examples.erp", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rate", type=float, default=10.0, metavar="N", help="events a second, of all processes (10)")
    options.add_argument("--seconds", type=float, default=30.0, metavar="S", help="for so long (30)")
    options.add_argument("--processes", type=int, default=2, metavar="N", help="so many of them (2)")
    options.add_argument("--door", choices=("celery", "python", "both"), default="both", help="how they tell (both)")
    options.add_argument("--broker", metavar="URL", help="for Celery; what `dispatcher broker-url` prints by default")
    options.add_argument("--seed", type=int, default=1, metavar="N", help="another day for each (1)")
    options.add_argument("--record", type=Path, metavar="FILE", help="where to write what was told, as JSON Lines")
    given = options.parse_args()
    if given.rate <= 0 or given.processes < 1:
        options.error("--rate and --processes must be above 0")
    return given


def running_broker() -> str:
    try:
        found = subprocess.run(["dispatcher", "broker-url"], check=True, stdout=subprocess.PIPE, text=True)
    except (OSError, subprocess.CalledProcessError):
        sys.exit("erp: no broker is known; start `dispatcher up`, or name one with --broker")
    return found.stdout.strip()


def watch(parts: Collection[Future[list[Row]]], shared: Shared) -> None:
    """Until all are done, or one has failed; on a terminal with a line of progress."""
    while wait(parts, 0.5, FIRST_EXCEPTION).not_done and not any(each.done() and each.exception() for each in parts):
        if sys.stderr.isatty():
            print(f"\r{shared.told.value:,} events told ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
