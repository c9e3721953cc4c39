"""From one release to the next while mail comes in and goes out: the ledger first, then one worker after the other.

The next release is made here: this one with one migration more, which adds a column and an index, and with code that
writes into the column.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from dispatcher.adapters.sql import engine
from dispatcher.adapters.sql.schema import SCHEMA
from dispatcher.cli import programs
from dispatcher.delivery import Lane
from dispatcher.sources import load
from tests import orders
from tests.processes import sink_process
from tests.sizes import sized
from tests.waiting import wait_for

THIS = Path(__file__).parents[2]
_MAJOR, _, _MINOR = SCHEMA.partition(".")
NEXT_SCHEMA = f"{_MAJOR}.{int(_MINOR) + 1}"
SOME = sized(15, 40)  # mails between one step and the next
DISPATCHER = (sys.executable, "-c", "from dispatcher.cli import main; main()")

_MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{NEXT_SCHEMA}", "{SCHEMA}"
branch_labels = depends_on = None


def upgrade() -> None:
    op.add_column("submissions", sa.Column("release", sa.Text()))
"""
_CHANGES = {  # by file: what stands there now, and what the next release has instead
    "schema.py": {
        f'SCHEMA = "{SCHEMA}"': f'SCHEMA = "{NEXT_SCHEMA}"',
        "messages = Table(": 'Index("ix_submissions_release", submissions.c.release)\n\nmessages = Table(',
        '    Column("blobs_noted"': '    Column("release", Text),\n    Column("blobs_noted"',
    },
    "accepting.py": {
        '"blobs_noted", "list"),': '"blobs_noted", "list", "release"),',
        "        accepted.list,\n    )": '        accepted.list,\n        "next",\n    )',
    },
}
# Submits ten mails at a time, numbered from its first argument on, until it is asked to stop; says what came of it.
_PRODUCER = """
import json, signal, sys, time
from dispatcher import Dispatcher, Submission
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
n, bad = int(sys.argv[1]), []
with Dispatcher.open() as dispatcher:
    while not stop:
        group = [Submission(to=[f"buyer{k}@example.com"], subject=f"{k}", text="T", idempotency_key=f"SO-{k}",
                 lane="bulk" if k % 2 else "transactional") for k in range(n, n + 10)]
        answers = list(dispatcher.submit_many(group))
        bad += [str(each) for each in answers if isinstance(each, Exception) or each.duplicate]
        n += 10
        time.sleep(0.2)
import dispatcher
print(json.dumps({"next": n, "bad": bad, "file": dispatcher.__file__}))
"""


def next_release(folder: Path) -> Path:
    """A copy of this release as the next one may look."""
    for name in ("dispatcher", "tasks", "templates"):
        shutil.copytree(THIS / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    sql = folder / "dispatcher" / "adapters" / "sql"
    (sql / "migrations" / "versions" / "next.py").write_text(_MIGRATION)
    for name, changes in _CHANGES.items():
        content = (sql / name).read_text()
        for before, after in changes.items():
            assert content.count(before) == 1, before
            content = content.replace(before, after)
        (sql / name).write_text(content)
    return folder


class Site:
    """What all hosts share, and the ways to run programs of one release or the other on one of them."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder, self._settings = folder, dict(settings)

    def environment(self, host: str, release: Path) -> dict[str, str]:
        outer = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
        (self.folder / host).mkdir(mode=0o700, exist_ok=True)
        own = {"DISPATCHER_DATA_DIR": str(self.folder / host), "DISPATCHER_FROM": "shop@example.com"}
        return {**outer, **self._settings, **own, "PYTHONPATH": str(release), "PYTHONSAFEPATH": "1"}

    def start(self, host: str, release: Path, command: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        with self.log(host).open("ab") as log:
            return subprocess.Popen(
                command, env=self.environment(host, release), stdout=log, stderr=log, cwd=self.folder / host
            )

    def log(self, host: str) -> Path:
        return self.folder / f"{host}.log"

    def sent(self, host: str) -> int:
        """How many mails a host has sent."""
        return self.log(host).read_text().count("status=sent")

    def run(self, release: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*DISPATCHER, *arguments],
            env=self.environment("desk", release),
            cwd=self.folder / "desk",
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


class Service:
    """A program of a host, which can go from one release to the other."""

    def __init__(self, site: Site, host: str, command: tuple[str, ...], release: Path) -> None:
        self._site, self._host, self._command = site, host, command
        self.process = site.start(host, release, command)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(40) == 0

    def change(self, release: Path) -> None:
        """Drain it, and start it from another release."""
        self.stop()
        self.process = self._site.start(self._host, release, self._command)


@contextmanager
def service(site: Site, host: str, command: tuple[str, ...]) -> Iterator[Service]:
    found = Service(site, host, command, THIS)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
            found.process.wait(10)


def worker(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The command of a worker for all queues."""
    command = list(programs.workers(load(environment))[0].command)
    queues = ",".join((*(lane.queue for lane in Lane), "mail.intake", "mail.control"))
    for option, value in (("-n", f"{name}@%h"), ("-Q", queues)):
        command[command.index(option) + 1] = value
    return tuple(command)


@contextmanager
def producer(site: Site, release: Path, first: int) -> Iterator[Callable[[], int]]:
    """Submits as long as the block runs, or until it is called: then it says with which number to go on."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PRODUCER, str(first)],
        env=site.environment(f"producer{first}", release),
        cwd=site.folder,
        stdout=subprocess.PIPE,
        text=True,
    )

    def stop() -> int:
        process.send_signal(signal.SIGTERM)
        said = json.loads(process.communicate(timeout=40)[0])
        assert said["bad"] == []
        assert Path(said["file"]).is_relative_to(release)
        return int(said["next"])

    try:
        yield stop
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(240)
def test_two_workers_go_to_the_next_release_under_load(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    following = next_release(tmp_path / "next")
    record = tmp_path / "sink.jsonl"
    engine.upgrade(postgres_url)

    def more(hosts: tuple[str, ...] = ("one", "two")) -> None:
        """Wait until some more mails are through, and each of these hosts had a part in it."""
        before, shares = orders.count(record), {host: site.sent(host) for host in hosts}
        wait_for(lambda: orders.count(record) >= before + SOME, 60)
        wait_for(lambda: all(site.sent(host) > share for host, share in shares.items()), 60)

    with ExitStack() as stack:
        url = stack.enter_context(sink_process(record))
        shared = {"BROKER_URL": redis_url, "LEDGER_URL": postgres_url, "RELAY_URL": url}
        site = Site(tmp_path, {f"DISPATCHER_{name}": value for name, value in shared.items()})
        environment = site.environment("one", THIS)
        one, two = (stack.enter_context(service(site, name, worker(environment, name))) for name in ("one", "two"))
        beat = stack.enter_context(service(site, "one", programs.beat(load(environment)).command))
        stop = stack.enter_context(producer(site, THIS, 0))
        more()

        done = site.run(following, "db", "upgrade", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"schema": NEXT_SCHEMA}
        more()  # this release on the next one's ledger
        one.change(following)
        more()  # both releases beside each other
        two.change(following)
        beat.change(following)
        more()
        switched = stop()
        total = stack.enter_context(producer(site, following, switched))
        more()
        accepted = total()

        idle = site.run(following, "wait", "--idle", "--timeout", "60")
        assert idle.returncode == 0, idle.stderr
        status = json.loads(site.run(following, "status", "--json").stdout)
        for each in (one, two, beat):
            each.stop()

    assert (status["accepted"], status["states"]) == (accepted, {"sent": accepted})
    received = Counter(each.rcpt_to[0] for each in orders.read(record))
    assert received == {f"buyer{n}@example.com": 1 for n in range(accepted)}
    made = engine.create(postgres_url)
    with made.connect() as connection:
        counted = connection.execute(text("SELECT release, count(*) FROM submissions GROUP BY 1"))
        by_release = dict(counted.all())
        tried_again = connection.execute(text("SELECT count(*) FROM deliveries WHERE attempts <> 1")).scalar_one()
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_submissions_release'::regclass"
        assert connection.execute(text(valid)).scalar_one() is True
    made.dispose()
    assert by_release == {None: switched, "next": accepted - switched}
    assert tried_again == 0
