"""End to end: mails that wait are sent; ours with every guarantee on, beside what others do with the same mails.

Counted at the sink, from a twentieth of the mails until the last: what starts up is not in it. The cases of a round
follow each other, and the rounds are interleaved, so that a slow minute of the machine is everybody's.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu
from benchmarks.orders import submissions
from benchmarks.ours import Ours
from benchmarks.sink import PostfixSink
from tests.servers import Redis

PROCESSES = 2
_PATIENCE = 300.0  # seconds for a run


@dataclass(frozen=True)
class Drained:
    """One run: mails a second, CPU of the sending processes and of the sink in microseconds a mail. ``handing``: the
    seconds that one process took before to hand a mail over; 0 where nothing is handed over."""

    rate: float
    sender_us: float
    sink_us: float
    handing: float = 0.0

    @property
    def whole(self) -> float:
        """Mails a second when one process hands them over, and then they are sent."""
        return 1 / (self.handing + 1 / self.rate)


@dataclass(frozen=True)
class Case:
    """``count`` mails are sent by ``run``, which answers the processes that send once all of them wait."""

    name: str
    count: int
    run: Callable[[PostfixSink, int], Any]


def cases(quick: bool = False) -> list[Case]:
    """All that is compared; the bare loop is what the others are compared with."""
    size = 300 if quick else 10_000
    return [
        Case("bare loop", size // 2, bare),
        Case("ours, SQLite", size * 2, ours),
        Case("ours, PostgreSQL", size * 2, ours_on_postgres),
        Case("tutorial", size // 4, tutorial),
        Case("django-post_office", size // 2, office),
        Case("smtp-source", size * 4, source),
    ]


def measure(chosen: list[Case], rounds: int) -> dict[str, list[Drained]]:
    """The runs of each case."""
    found: dict[str, list[Drained]] = {case.name: [] for case in chosen}
    for number in range(rounds):
        for case in chosen:
            with PostfixSink() as sink:
                drained = case.run(sink, case.count)
                # What is on its way twice, or not at all, would falsify the rate.
                assert sink.count == case.count, f"{case.name}: {sink.count} of {case.count} mails"
            found[case.name].append(drained)
            print(f"  round {number + 1}: {case.name:20} {drained.rate:8.0f}/s", file=sys.stderr, flush=True)
    return found


def medians(runs: list[Drained]) -> Drained:
    """Of each figure its own."""
    return Drained(*(statistics.median(values) for values in zip(*map(astuple, runs), strict=True)))


def watch(sink: PostfixSink, count: int, senders: list[int], before: int = 0) -> Drained:
    """Look until the sink has so many more than ``before``."""
    until, first = time.monotonic() + _PATIENCE, None
    while (taken := sink.count - before) < count:
        if first is None and taken >= count // 20:
            first = _look(sink, senders)
        if time.monotonic() > until:
            raise TimeoutError(f"{taken} of {count} mails after {_PATIENCE:g} s")
        time.sleep(0.01)
    last = _look(sink, senders)
    began = first or last
    mails = max(1, last[1] - began[1])
    return Drained(
        mails / max(1e-9, last[0] - began[0]), (last[2] - began[2]) / mails * 1e6, (last[3] - began[3]) / mails * 1e6
    )


def _look(sink: PostfixSink, senders: list[int]) -> tuple[float, int, float, float]:
    return time.monotonic(), sink.count, cpu(*senders), cpu(sink.pid)


def ours(sink: PostfixSink, count: int, **settings: str) -> Drained:
    """With SQLite (synchronous=FULL), the embedded broker, and the journals on disk."""
    with tempfile.TemporaryDirectory() as folder, Ours(Path(folder), sink.url, **settings) as stack:
        stack.pause()
        began = time.monotonic()
        stack.submit(submissions(count))
        handing = (time.monotonic() - began) / count
        stack.resume()
        return replace(watch(sink, count, stack.workers("bulk")), handing=handing)


def ours_on_postgres(sink: PostfixSink, count: int) -> Drained:
    """With PostgreSQL, every write on disk before it counts, and Redis."""
    with durable_postgres() as url, _redis() as broker:
        return ours(sink, count, DISPATCHER_LEDGER_URL=url, DISPATCHER_BROKER_URL=broker)


def bare(sink: PostfixSink, count: int) -> Drained:
    """See peers/bare.py; in as many processes."""
    share = count // PROCESSES
    arguments = [(str(sink.port), str(n * share), str(share)) for n in range(PROCESSES)]
    with _ready(*[("-m", "benchmarks.peers.bare", *given) for given in arguments]) as pids:
        return watch(sink, count, pids)


def office(sink: PostfixSink, count: int) -> Drained:
    """See peers/office.py."""
    said: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        _ready(("-m", "benchmarks.peers.office", folder, str(sink.port), str(count)), said=said) as pids,
    ):
        return replace(watch(sink, count, pids), handing=float(said[0].split()[1]) / count)


def tutorial(sink: PostfixSink, count: int) -> Drained:
    """See peers/tutorial.py: its tasks wait in Redis before the worker starts."""
    with _redis() as broker:
        environment = {
            **os.environ,
            "BENCH_BROKER": broker,
            "BENCH_PORT": str(sink.port),
            "PYTHONWARNINGS": "ignore",  # Celery's word on root, which many a container is
        }
        enqueue = ["-m", "benchmarks.peers.tutorial", str(count)]
        done = subprocess.run(
            [sys.executable, *enqueue], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.tutorial", "worker"]
        options = ["-P", "prefork", "-c", str(PROCESSES), "-l", "ERROR"]
        with subprocess.Popen([*command, *options], env=environment, stdout=subprocess.DEVNULL) as worker:
            try:
                return replace(watch(sink, count, [worker.pid]), handing=float(done.stdout) / count)
            finally:
                worker.terminate()


def source(sink: PostfixSink, count: int) -> Drained:
    """Postfix's smtp-source: C, nothing rendered, nothing kept; messages of the same length."""
    command = ["smtp-source", "-d", "-N", "-l", "12000", "-m", str(count), "-s", "16", f"127.0.0.1:{sink.port}"]
    with subprocess.Popen(command) as process:
        return watch(sink, count, [process.pid])


@contextmanager
def _ready(*commands: tuple[str, ...], said: list[str] | None = None) -> Iterator[list[int]]:
    """Start these Python programs, wait until each says that it is ready, and let all go at once. ``said`` takes their
    lines."""
    programs = [
        subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    try:
        for program in programs:
            assert program.stdout is not None
            line = program.stdout.readline().strip()
            assert line.startswith("ready"), line
            if said is not None:
                said.append(line)
        for program in programs:
            assert program.stdin is not None
            program.stdin.write("go\n")
            program.stdin.flush()
        yield [program.pid for program in programs]
    finally:
        for program in programs:
            program.communicate(timeout=60)


@contextmanager
def _redis() -> Iterator[str]:
    server = Redis()
    try:
        yield server.url
    finally:
        server.close()


@contextmanager
def durable_postgres() -> Iterator[str]:
    """An empty database on a server that has none of the tests' shortcuts."""
    from tests.servers import Postgres  # noqa: PLC0415 - an extra

    server = Postgres("fsync=on", "full_page_writes=on", "synchronous_commit=on")
    try:
        yield server.create()
    finally:
        server.close()
