"""Play an ERP: `python -m examples.erp --rate 50 --seconds 300 --processes 3 --door both --record events.jsonl`.

Beside a running `dispatcher up`, in its folder or with its settings, after
`dispatcher automations samples automations` and `dispatcher automations load automations/events.yaml ...`.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

from examples.erp import doors
from examples.erp.shop import Told, day


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m examples.erp", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rate", type=float, default=10.0, metavar="N", help="events a second, of all processes (10)")
    options.add_argument("--seconds", type=float, default=30.0, metavar="S", help="for so long (30)")
    options.add_argument("--processes", type=int, default=2, metavar="N", help="so many of them (2)")
    options.add_argument("--door", choices=("celery", "python", "both"), default="both", help="how it tells (both)")
    options.add_argument("--broker", metavar="URL", help="for Celery; what `dispatcher broker-url` prints by default")
    options.add_argument("--seed", type=int, default=1, metavar="N", help="another day for each (1)")
    options.add_argument("--record", type=Path, metavar="FILE", help="what was told, as JSON Lines")
    given = options.parse_args()
    broker = given.broker or (_broker() if given.door != "python" else "")
    results: multiprocessing.Queue[list[tuple[str, str, str, float]]] = multiprocessing.Queue()
    parts = [
        multiprocessing.Process(target=part, args=(n, given, broker, results), daemon=True)
        for n in range(given.processes)
    ]
    for each in parts:
        each.start()
    told = [row for _ in parts for row in results.get(timeout=given.seconds + 300)]
    for each in parts:
        each.join()
    told.sort(key=lambda row: row[3])
    if given.record:
        names = "event", "id", "key", "at"
        given.record.write_text("".join(f"{json.dumps(dict(zip(names, row, strict=True)))}\n" for row in told))
    sums = Counter(row[0] for row in told)
    print(", ".join(f"{number} {event}" for event, number in sorted(sums.items())))


def part(
    n: int, given: argparse.Namespace, broker: str, results: "multiprocessing.Queue[list[tuple[str, str, str, float]]]"
) -> None:
    """One process: it tells at its share of the rate, whatever each telling takes."""
    by_celery = given.door == "celery" or (given.door == "both" and n % 2 == 0)
    door: AbstractContextManager[doors.Door] = doors.celery(broker) if by_celery else doors.python()
    told: list[tuple[str, str, str, float]] = []
    pause = given.processes / given.rate
    with door as tell:
        begin = time.monotonic()
        for number, each in enumerate(day(given.seed, n, given.processes)):
            wait = begin + number * pause - time.monotonic()
            if number * pause >= given.seconds:
                break
            time.sleep(max(0.0, wait))
            told.append(_tell(tell, each))
            if sys.stderr.isatty() and n == 0:
                print(f"\r{number + 1:,} told by the first of {given.processes} ", end="", file=sys.stderr)
    results.put(told)


def _tell(tell: doors.Door, each: Told) -> tuple[str, str, str, float]:
    """What it was, and when it began to be told."""
    at = time.time()
    tell(each.document())
    return each.event, each.id, each.key, at


def _broker() -> str:
    return subprocess.run(["dispatcher", "broker-url"], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
