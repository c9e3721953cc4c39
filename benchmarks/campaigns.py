"""How fast an audience becomes mails, and in how much memory: neither may go with the size. And how long a single mail
takes while two campaigns are made and sent.

    python -m benchmarks.campaigns                     # 10,000, 100,000 and 1,000,000 members in SQLite
    python -m benchmarks.campaigns --ledger URL        # in an empty PostgreSQL database, one size: --size 100000
    python -m benchmarks.campaigns beside              # only the single mails
    python -m benchmarks.campaigns --quick             # few of each, only to see that it runs

Each size is expanded by a process of its own, as its task does it, from an audience that was imported from a CSV, into
a ledger with every guarantee on; one in a hundred is suppressed. Nobody sends meanwhile, and each first and last fifth
has its own rate.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import latency
from benchmarks.machine import describe
from benchmarks.ours import Ours
from benchmarks.sink import PostfixSink
from dispatcher import audiences
from dispatcher.adapters.rows.file import of_file
from dispatcher.adapters.sql import engine
from dispatcher.bootstrap import build
from dispatcher.campaign import CampaignSpec
from dispatcher.columns import ColumnMap
from dispatcher.delivery import Actor
from dispatcher.dispatcher import Dispatcher
from dispatcher.kind import Kind
from dispatcher.servers.sink import Sink
from dispatcher.sources import load
from dispatcher.suppression import MARKETING, Reason, Suppression
from tests.audiences import TYPES, Facts, write_csv

SIZES, QUICK = (10_000, 100_000, 1_000_000), (500, 1500)
COLUMNS = (
    *("rows", "members", "check, rows/s", "expand, rows/s", "first fifth", "last fifth", "CPU, us/row"),
    *("memory, MiB", "of these before"),
)
ACTOR = Actor("bench", "here")
SLICE_SECONDS = 0.5  # as the task has it
_SINGLES, _BESIDE = 200, 100_000  # single mails, and members of each campaign beside them
_NAME, _AUDIENCE = "campaign", "customers"


def main() -> None:
    """Run, and print a table and a line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("part", nargs="?", choices=("expand", "beside"), help="only this")
    options.add_argument("--quick", action="store_true", help="few of each, only to see that it runs")
    options.add_argument("--ledger", metavar="URL", help="an empty database; else SQLite in a folder that goes")
    options.add_argument("--size", metavar="N", type=int, action="append", help="rows; as often as needed")
    options.add_argument("--one", nargs=2, metavar=("FOLDER", "LEDGER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(expand(*given.one)))
        return
    print(" · ".join(describe().values()), file=sys.stderr)
    if given.part != "beside":
        print(" | ".join(COLUMNS))
        for size in given.size or (QUICK if given.quick else SIZES):
            with tempfile.TemporaryDirectory() as folder:
                print(" | ".join(line(Path(folder), size, given.ledger)), flush=True)
    if given.part != "expand":
        found = beside(quick=given.quick)
        print(", ".join(f"{name} {value:,.0f}" for name, value in found.items()))


def line(folder: Path, size: int, ledger: str | None) -> list[str]:
    """The figures of one size."""
    url = ledger or f"sqlite:///{folder / 'ledger.db'}"
    engine.upgrade(url)
    with opened(str(folder), url) as dispatcher:
        facts = people(dispatcher, folder / "customers.csv", size)
        began = time.monotonic()
        start(dispatcher, _NAME)
        checking = time.monotonic() - began
    command = [sys.executable, "-m", __spec__.name, "--one", str(folder), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accepted"] == facts.kept, (found, facts)
    assert found["states"].get("suppressed", 0) == len(facts.suppressed), (found, len(facts.suppressed))
    return [
        *(f"{size:,}", f"{facts.kept:,}", f"{facts.kept / checking:,.0f}", f"{facts.kept / found['seconds']:,.0f}"),
        *(f"{rate:,.0f}" for rate in (found["first"], found["last"])),
        f"{found['cpu'] / facts.kept * 1e6:.1f}",
        *(f"{mib:.0f}" for mib in (found["memory"], found["before"])),
    ]


def opened(folder: str, ledger: str) -> Dispatcher:
    """One without workers."""
    environment = {
        "DISPATCHER_DATA_DIR": folder,
        "DISPATCHER_LEDGER_URL": ledger,
        "DISPATCHER_FROM": "shop@example.com",
    }
    relay = {"DISPATCHER_RELAY_URL": "smtp://127.0.0.1:1?tls=none"}
    return build(load(environment | relay))


def people(dispatcher: Dispatcher, file: Path, size: int) -> Facts:
    """Import an audience of so many rows; some of them are suppressed."""
    facts = write_csv(file, size)
    kinds = ColumnMap({}, {name: Kind(kind) for name, kind in TYPES.items()})
    audiences.import_(dispatcher.ledger.audiences, _AUDIENCE, of_file(file), ACTOR, said=kinds)
    dispatcher.suppressions.add([Suppression(each, MARKETING, Reason.HAND) for each in facts.suppressed], ACTOR)
    return facts


def start(dispatcher: Dispatcher, name: str) -> None:
    """Check and start a campaign to all of them."""
    data = {"title": "Autumn, slowly", "intro": "the first frost is here.", "mark": "AD"}
    dispatcher.campaigns.create(name, CampaignSpec("newsletter", _AUDIENCE, "news", data=data), ACTOR)
    checked = dispatcher.campaigns.check(name, ACTOR).checked or {}
    assert checked["ok"], checked
    dispatcher.campaigns.start(name, ACTOR)


def expand(folder: str, ledger: str) -> dict[str, Any]:
    """In a process of its own: expand what was started, and look at the clock and the memory."""
    with opened(folder, ledger) as dispatcher:
        kept = dispatcher.ledger.audiences.current(_AUDIENCE).kept
        before, cpu, began = _memory(), time.process_time(), time.monotonic()
        looks = [(0.0, 0)]
        while dispatcher.advance(SLICE_SECONDS, again=True):
            looks.append((time.monotonic() - began, dispatcher.campaigns.get(_NAME).expanded))
        looks.append((time.monotonic() - began, dispatcher.campaigns.get(_NAME).expanded))
        used = time.process_time() - cpu
        sums = dispatcher.campaigns.sums(_NAME)
    assert not sums.faults(), sums
    return {
        "seconds": looks[-1][0],
        "first": _rate(looks, 0, kept // 5),
        "last": _rate(looks, kept - kept // 5, kept),
        "cpu": used,
        "memory": _memory(),
        "before": before,
        "accepted": sums.accepted,
        "states": {state.value: count for state, count in sums.states.items()},
    }


def _rate(looks: list[tuple[float, int]], begin: int, end: int) -> float:
    """Rows a second between the last look before ``begin`` and the first one after ``end``."""
    since, first = [look for look in looks if look[1] <= begin][-1]
    until, last = next(look for look in looks if look[1] >= end)
    return (last - first) / (until - since)


def _memory() -> float:
    """The most that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def beside(*, quick: bool = False) -> dict[str, float]:
    """Milliseconds of a single mail while two campaigns are expanded and sent; and how much of those was left."""
    with tempfile.TemporaryDirectory() as folder, PostfixSink() as sink, Sink(record=Path(folder) / "one") as single:
        relays = {
            "DISPATCHER_RELAYS__MAIN__URL": sink.url,
            "DISPATCHER_RELAYS__SINGLE__URL": single.url,
            "DISPATCHER_RELAYS__SINGLE__PRIORITY": "2",
        }
        with Ours(Path(folder), None, **relays) as ours:
            people(ours.dispatcher, Path(folder) / "customers.csv", 600 if quick else _BESIDE)
            for name in ("first", "second"):
                start(ours.dispatcher, name)
            found = latency.measure(ours, single, 10 if quick else _SINGLES, relay="single")
            sums = [ours.dispatcher.campaigns.sums(name) for name in ("first", "second")]
            left = sum(each.waiting + each.accepted - each.settled for each in sums)
            assert quick or left, "the campaigns were over before the single mails were"
            return {**{f"{name}, ms": value for name, value in found.items()}, "sent": sink.count, "left": left}


if __name__ == "__main__":
    main()
