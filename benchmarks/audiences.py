"""How fast a list of customers becomes an audience, and in how much memory: neither may go with the size.

    python -m benchmarks.audiences                     # 10,000, 100,000 and 1,000,000 rows into SQLite
    python -m benchmarks.audiences --ledger URL        # into an empty PostgreSQL database
    python -m benchmarks.audiences --quick             # 500 and 2,000 rows, only to see that it runs

Each size is imported by a process of its own, from a CSV on disk into a ledger with every guarantee on. "csv alone":
what Python's own reader makes of the file on this machine, doing nothing with it.
"""

import argparse
import csv
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from dispatcher import audiences
from dispatcher.adapters.rows.file import of_file
from dispatcher.adapters.sql import engine
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.columns import ColumnMap
from dispatcher.delivery import Actor
from dispatcher.kind import Kind
from tests.audiences import TYPES, Facts, write_csv

SIZES, QUICK = (10_000, 100_000, 1_000_000), (500, 2000)
COLUMNS = (
    *("rows", "csv alone, rows/s", "import, rows/s", "first fifth", "last fifth", "merging doubles, s"),
    *("CPU, us/row", "memory, MiB", "of these before"),
)
ACTOR = Actor("bench", "here")


def main() -> None:
    """Run, and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="few rows, only to see that it runs")
    options.add_argument("--ledger", metavar="URL", help="an empty database; else SQLite in a folder that goes")
    options.add_argument("--one", nargs=2, metavar=("FILE", "LEDGER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(measure(Path(given.one[0]), given.one[1])))
        return
    print(" · ".join(describe().values()), file=sys.stderr)
    print(" | ".join(COLUMNS))
    for size in QUICK if given.quick else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            print(" | ".join(line(Path(folder), size, given.ledger)), flush=True)


def line(folder: Path, size: int, ledger: str | None) -> list[str]:
    """The figures of one size."""
    file = folder / "customers.csv"
    facts = write_csv(file, size)
    url = ledger or f"sqlite:///{folder / 'ledger.db'}"
    engine.upgrade(url)
    alone = size / read_alone(file)
    command = [sys.executable, "-m", __spec__.name, "--one", str(file), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sums"] == sums(facts), (found["sums"], facts)
    return [
        *(f"{size:,}", f"{alone:,.0f}", f"{size / found['seconds']:,.0f}"),
        *(f"{rate:,.0f}" for rate in (found["first"], found["last"])),
        *(f"{found['merging']:.1f}", f"{found['cpu'] / size * 1e6:.1f}"),
        *(f"{mib:.0f}" for mib in (found["memory"], found["before"])),
    ]


def sums(facts: Facts) -> list[int]:
    """What an import has to come to."""
    return [facts.rows, facts.kept, facts.bad, facts.doubled]


def read_alone(file: Path) -> float:
    """Seconds that ``csv.reader`` takes."""
    began = time.perf_counter()
    with file.open(encoding="utf-8", newline="") as text:
        for _ in csv.reader(text):
            pass
    return time.perf_counter() - began


def measure(file: Path, ledger: str) -> dict[str, Any]:
    """Import a file, in this process: seconds in all and of CPU, rows a second of the first and the last fifth of the
    chunks, seconds after the last row, MiB before and at most."""
    gc.set_threshold(50_000, 20, 100)  # as the command has it
    said = ColumnMap(kinds={name: Kind(kind) for name, kind in TYPES.items()})
    marks: list[tuple[float, int]] = []
    kept = SqlLedger(ledger)
    kept.audiences.list()  # connected
    before = peak()
    cpu, began = time.process_time(), time.perf_counter()
    made = audiences.import_(
        kept.audiences,
        "customers",
        of_file(file),
        ACTOR,
        said=said,
        progress=lambda more: marks.append((time.perf_counter(), more)),
    )
    ended = time.perf_counter()
    kept.close()
    fifth = max(1, len(marks) // 5)
    return {
        "seconds": ended - began,
        "first": sum(more for _, more in marks[:fifth]) / (marks[fifth - 1][0] - began),
        "last": sum(more for _, more in marks[-fifth:])
        / (marks[-1][0] - (marks[-fifth - 1][0] if marks[fifth:] else began)),
        "merging": ended - marks[-1][0],
        "cpu": time.process_time() - cpu,
        "memory": peak(),
        "before": before,
        "sums": [made.rows, made.kept, made.bad, made.doubled],
    }


def peak() -> float:
    """MiB that this process has had resident at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
