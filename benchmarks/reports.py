"""A report of thousands of statements: that every file arrives at its person while workers are killed, in which memory,
and how fast beside a bare loop that attaches with EmailMessage.

    python -m benchmarks.reports                  # 5,000 people with 200 kB each, and 2 MB for all of them
    python -m benchmarks.reports proof            # only whose file arrived where; speed: only how fast
    python -m benchmarks.reports --count 1000     # fewer
    python -m benchmarks.reports --quick          # few and small, only to see that it runs

Redis and PostgreSQL are servers of its own. For the proof a sink takes every file apart, and all workers that send are
killed twice; for the speed Postfix's sink takes and forgets.
"""

import argparse
import smtplib
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Self

from redis import Redis as Client

from benchmarks.digesting import DigestingSink
from benchmarks.machine import describe
from benchmarks.ours import Ours
from benchmarks.sink import PostfixSink
from dispatcher.adapters.rows.file import of_file
from dispatcher.adapters.sql import engine
from dispatcher.bootstrap import AttachmentPaths, build
from dispatcher.delivery import Actor
from dispatcher.report_job import ReportSpec
from dispatcher.sources import load
from tests import documents
from tests.documents import Documents
from tests.processes import children, kill, member
from tests.servers import Postgres, Redis

COUNT, SIZE, SHARED = 5000, 200_000, 2_000_000
QUICK = 60, 20_000, 200_000
_LOOP = 10  # of so many mails one goes through the bare loop
_MIB = 1 << 20


def main() -> None:
    """Run, and print a line of figures for each part."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("part", nargs="?", choices=("proof", "speed"), help="only this")
    options.add_argument("--quick", action="store_true", help="few and small, only to see that it runs")
    options.add_argument("--count", type=int, metavar="N", help="people")
    given = options.parse_args()
    count, size, shared = QUICK if given.quick else (COUNT, SIZE, SHARED)
    print(" · ".join(describe().values()), file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        made = documents.write(Path(folder) / "documents", given.count or count, size, shared)
        for part, run in (("proof", proof), ("speed", speed)):
            if given.part in (None, part):
                found = run(Path(folder) / part, made)
                print(f"{part}: " + ", ".join(f"{name} {value:,.1f}" for name, value in found.items()), flush=True)


def proof(folder: Path, made: Documents) -> dict[str, float]:
    """Every file at its person and nobody else, whoever is killed."""
    folder.mkdir()
    with DigestingSink(folder / "sink.jsonl") as sink, stack(folder, sink.url) as (ours, url, broker):
        memory = Memory(ours, broker)
        taken = take_in(ours, made)
        with memory:
            began, total = time.monotonic(), len(made.digests)
            for share in (0.2, 0.5):
                wait(lambda share=share: sink.count >= total * share)  # type: ignore[misc]  # mypy sees no default
                bulk = member(ours.stack, "mail.bulk")
                for pid in (*children(bulk), bulk):
                    kill(pid)
            wait(lambda: over(ours))
            seconds = time.monotonic() - began
        times = Counter[str]()
        for address, files in sink:
            assert files == made.digests[address], address
            times[address] += 1
        assert times.keys() == made.digests.keys()
        with engine.create(url).connect() as connection:
            blobs = connection.exec_driver_sql("SELECT count(*) FROM blobs").scalar_one()
        assert blobs == total + 1, blobs
    doubled = sum(times.values()) - total
    return {
        "mails": total, "doubled": doubled, "blobs": blobs, "taken in, s": taken, "sent, s": seconds,
        "largest worker, MiB": memory.workers / _MIB, "Redis, MiB": memory.redis / _MIB,
    }  # fmt: skip


def speed(folder: Path, made: Documents) -> dict[str, float]:
    """Beside the bare loop, into the same sink."""
    folder.mkdir()
    with PostfixSink() as sink, stack(folder, sink.url) as (ours, _, broker):
        loop = bare(sink, made, max(10, len(made.digests) // _LOOP))
        ours.pause()
        taken = take_in(ours, made)
        with Memory(ours, broker) as memory:
            before, began = sink.count, time.monotonic()
            ours.resume()
            wait(lambda: sink.count >= before + len(made.digests))
            seconds = time.monotonic() - began
    rate = len(made.digests) / seconds
    each = made.terms.stat().st_size + next(made.folder.iterdir()).stat().st_size
    return {
        "taken in, s": taken, "mails/s": rate, "MB/s of files": rate * each / 1e6, "bare loop, mails/s": loop,
        "times": rate / loop, "largest worker, MiB": memory.workers / _MIB, "Redis, MiB": memory.redis / _MIB,
    }  # fmt: skip


def bare(sink: PostfixSink, made: Documents, count: int) -> float:
    """Mails a second of a loop as everybody writes it."""
    began = time.monotonic()
    with smtplib.SMTP("127.0.0.1", sink.port) as smtp:
        for n, address in enumerate(list(made.digests)[:count]):
            mail = EmailMessage()
            mail["From"], mail["To"], mail["Subject"] = "bank@example.com", address, "Statement"
            mail.set_content("Yours.")
            for path in (made.folder / f"{n}.pdf", made.terms):
                mail.add_attachment(path.read_bytes(), maintype="application", subtype="pdf", filename=path.name)
            smtp.send_message(mail)
    return count / (time.monotonic() - began)


@contextmanager
def stack(folder: Path, relay: str) -> Iterator[tuple[Ours, str, Client]]:
    """On servers of its own, as in production."""
    redis, postgres = Redis("--appendonly", "yes", "--save", ""), Postgres("synchronous_commit=on")
    try:
        url = postgres.create()
        settings = {
            "DISPATCHER_BROKER_URL": redis.url,
            "DISPATCHER_LEDGER_URL": url,
            "DISPATCHER_PAGES__ENABLED": "false",
        }
        with Ours(folder, relay, **settings) as ours, Client.from_url(redis.url) as broker:
            yield ours, url, broker
    finally:
        postgres.close()
        redis.close()


def take_in(ours: Ours, made: Documents) -> float:
    """Check it and hand it over; seconds."""
    spec = ReportSpec.parse({
        "subject": "Statement", "text": "Yours.", "folder": str(made.folder), "files": ["{customer}.pdf"],
        "attach": [str(made.terms)],
    })  # fmt: skip
    began = time.monotonic()
    with build(load(ours.stack.environment), paths=AttachmentPaths.ANYWHERE) as dispatcher:
        checked = dispatcher.reports.check(spec, of_file(made.manifest))
        assert checked.ok, checked.findings
        dispatcher.reports.send("statements", spec, checked, Actor("bench", "here"))
    return time.monotonic() - began


def over(ours: Ours) -> bool:
    """Whether the report is."""
    return ours.dispatcher.reports.get("statements").finished_at is not None


def wait(condition: Any, seconds: float = 3600.0) -> None:
    """Until it holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.2)


class Memory:
    """The most that a worker process and Redis had while the block ran, in bytes."""

    def __init__(self, ours: Ours, broker: Client) -> None:
        self.workers = self.redis = 0
        self._ours, self._broker, self._ended = ours, broker, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            told: Mapping[str, Any] = self._broker.info("memory")  # type: ignore[assignment]  # not a pipeline's
            self.redis = max(self.redis, told["used_memory_peak"])
            for parent in children(self._ours.stack.pid):
                for pid in (parent, *children(parent)):
                    self.workers = max(self.workers, _peak(pid))


def _peak(pid: int) -> int:
    """The most that a process of ours had; 0 for one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        ours = b"celery" in (line := Path(f"/proc/{pid}/cmdline").read_bytes()) or b"tasks" in line
    except OSError:
        return 0
    found = status.partition("VmHWM:")[2].split()
    return int(found[0]) * 1024 if found and ours else 0


if __name__ == "__main__":
    main()
