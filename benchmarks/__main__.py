"""Measures, and writes down what was measured: ``python -m benchmarks [PART ...]``, or ``make bench``.

    drain      end to end, beside the bare loop, the tutorial, django-post_office and smtp-source
    pinned     the same on one CPU: what a mail costs its sender, steadily
    roundtrip  over lines of 10 and 40 ms
    backlog    with up to a million mails waiting; and single mails beside them
    latency    single mails on an idle machine
    submit     how fast mails are accepted

Results go to ``benchmarks/results``: JSON, Markdown, and a plot. ``--quick`` only sees that everything runs.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import backlog, drain, latency, report, roundtrip, submit
from benchmarks.machine import describe

Table = dict[str, Any]
_RESULTS = Path(__file__).parent / "results"
_DURABLE = (
    "SQLite synchronous=FULL, PostgreSQL with fsync; the journals on disk; sink, broker and database on the same CPUs."
)


def _drain(*, quick: bool) -> tuple[Table, dict[str, float]]:
    cases = drain.cases(quick)
    found = {name: drain.medians(runs) for name, runs in drain.measure(cases, 1 if quick else 3).items()}
    return _drained("End to end", f"{drain.PROCESSES} processes each. {_DURABLE}", found), {
        name: each.rate for name, each in found.items()
    }


def _drained(title: str, text: str, found: dict[str, drain.Drained]) -> Table:
    bare = found["bare loop"].rate
    head = (
        *("", "mails/s", "÷ bare loop", "CPU of the sender, us/mail", "CPU of the sink, us/mail"),
        "with handing over, mails/s",
    )
    rows = [
        (name, each.rate, each.rate / bare, each.sender_us, each.sink_us, each.whole) for name, each in found.items()
    ]
    return {"title": title, "text": text, "rows": [head, *rows]}


def _pinned(*, quick: bool) -> Table:
    cases = [case for case in drain.cases(quick) if case.name in ("bare loop", "ours, SQLite", "ours, PostgreSQL")]
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})  # what is started from here stays there, too
    try:
        found = {name: drain.medians(runs) for name, runs in drain.measure(cases, 1 if quick else 3).items()}
    finally:
        os.sched_setaffinity(0, everywhere)
    return _drained("On one CPU", "Sender, sink, broker and database share it.", found)


def _roundtrip(*, quick: bool) -> Table:
    head = (
        "round trip",
        "smtplib, mails/s",
        "ours, one connection",
        "÷ smtplib",
        f"ours, {roundtrip.CONNECTIONS} of them",
    )
    rows = [
        (
            f"{row['trip'] * 1000:.0f} ms",
            row["smtplib"],
            row["ours"],
            row["ours"] / row["smtplib"],
            row["ours, several"],
        )
        for row in roundtrip.measure(quick=quick)
    ]
    text = "One process, mails that were built before; the proxy does not delay the TCP handshake."
    return {"title": "Over a line that takes its time", "text": text, "rows": [head, *rows]}


def _backlog(*, quick: bool) -> Table:
    rows, singles = backlog.measure(quick=quick)
    growth = backlog.growth(rows)
    head = ("waiting", "mails/s", "CPU of the workers, us/mail", "largest worker, MiB", "Redis, MiB", "ledger, MiB")
    lines = [
        (f"{r.size:,}", r.drained.rate, r.drained.sender_us, r.worker_mib, r.redis_mib, r.ledger_mib) for r in rows
    ]
    text = (
        f"SQLite. Cost of a mail at the largest against the smallest: {growth['cost']:.2f}; growth of a worker "
        f"{growth['worker MiB']:.1f} MiB. Single mails while all of them are being sent: median "
        f"{singles['median']:.0f} ms, p99 {singles['p99']:.0f} ms."
    )
    return {"title": "With a backlog", "text": text, "rows": [head, *lines]}


def _latency(*, quick: bool) -> Table:
    found = latency.idle(quick=quick)
    rows = [("median, ms", "p99, ms", "max, ms"), tuple(found.values())]
    return {"title": "Single mails, idle", "text": "From `submit` returning to the relay's 250.", "rows": rows}


def _submit(*, quick: bool) -> Table:
    found = submit.measure(1 if quick else 3, quick=quick)
    rows = [("", "mails/s"), *found.items()]
    text = "Checked, deduplicated, on disk. The command is timed from its start to its end."
    return {"title": "Accepting", "text": text, "rows": rows}


_PARTS: dict[str, Callable[..., Any]] = {
    "drain": _drain,
    "pinned": _pinned,
    "roundtrip": _roundtrip,
    "backlog": _backlog,
    "latency": _latency,
    "submit": _submit,
}


def main() -> None:
    """Run the parts that were asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one or more of: {', '.join(_PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few mails, only to see that it runs")
    parser.add_argument("--out", type=Path, default=_RESULTS, help="the folder for the results")
    options = parser.parse_args()
    if unknown := set(options.parts) - _PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    found: dict[str, Any] = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": describe(), "tables": []}
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.parts or _PARTS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        made = _PARTS[name](quick=options.quick)
        if name == "drain":
            made, rates = made
            (options.out / "drain.svg").write_text(
                report.bars("Mails a second, end to end", sorted(rates.items(), key=lambda item: item[1]))
            )
        found["tables"].append(made)
    (options.out / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (options.out / "results.md").write_text(report.markdown(found))
    print(report.markdown(found))


if __name__ == "__main__":
    main()
