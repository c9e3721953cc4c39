"""A producer that has Celery and nothing of ours hands over mail: each ends in one submission or one kept reject."""

import os
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from dispatcher.adapters.stack import Stack
from tests import orders
from tests.commands import QuickStack
from tests.processes import children, kill, member, sink_process
from tests.servers import Postgres, missing
from tests.waiting import wait_for

_PRODUCER = """
import json, sys
from celery import Celery
app = Celery("erp", broker=sys.argv[1])
for document in json.load(sys.stdin):
    print(app.send_task("mail.submit", kwargs={"submission": document}, queue="mail.intake").id)
"""
AWAY_SECONDS = 20.0
WAITS = "the ledger is away: what was handed over waits"
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of another environment, which has only Celery."""
    folder = tmp_path_factory.mktemp("erp")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    celery = f"celery[redis]=={version('celery')}"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", celery],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        missing("a package index, for the producer's own environment", done.stderr)
    return python


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "sink.jsonl"


@pytest.fixture
def stack(tmp_path: Path, record: Path, own_postgres: Postgres) -> Iterator[Stack]:
    with sink_process(record) as url:
        environment = {
            "DISPATCHER_DATA_DIR": str(tmp_path / "var"),
            "DISPATCHER_RELAY_URL": url,
            "DISPATCHER_LEDGER_URL": own_postgres.url,
        }
        stack = QuickStack(environment, "--no-flower")
        assert stack.run("db", "upgrade").returncode == 0
        with stack:
            yield stack


def hand_over(stack: Stack, python: Path, *documents: str) -> list[str]:
    broker = stack.run("broker-url").stdout.strip()
    done = subprocess.run(
        [python, "-c", _PRODUCER, broker],
        input=f"[{','.join(documents)}]",
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    return done.stdout.split()


MAIL = '{"to": ["%s@example.com"], "from": "erp@example.com", "subject": "Hi", "text": "x"}'


def test_a_celery_only_producer_gets_its_mail_delivered(stack: Stack, producer: Path, record: Path) -> None:
    (task,) = hand_over(stack, producer, MAIL % "ada")
    wait_for(lambda: orders.count(record), 30)
    (found,) = stack.json("messages", "list", "--idempotency-key", f"task:{task}")
    assert found["to"] == "ada@example.com"


def test_an_invalid_submission_is_kept_with_its_reason(stack: Stack, producer: Path, record: Path) -> None:
    (task,) = hand_over(stack, producer, '{"to": ["nobody"], "from": "erp@example.com", "subject": "Hi", "text": "x"}')
    (kept,) = wait_for(lambda: stack.json("rejects", "list"), 30)
    assert (kept["reference"], kept["field"]) == (task, "to[0]")
    assert orders.read(record) == []


def test_mail_handed_over_while_the_ledger_is_away_and_a_child_is_killed_is_accepted_once(
    stack: Stack, producer: Path, record: Path, own_postgres: Postgres
) -> None:
    own_postgres.stop()
    back = time.monotonic() + AWAY_SECONDS
    hand_over(stack, producer, *[MAIL % f"buyer{n}" for n in range(5)])
    intake = member(stack, "mail.intake")
    wait_for(lambda: WAITS in stack.log(), 20)
    seen = stack.log().count(WAITS)
    first = children(intake)[0]
    kill(first)
    wait_for(lambda: first not in children(intake) and children(intake), 20)
    wait_for(lambda: stack.log().count(WAITS) > seen, 60)  # the next one has taken them over
    wait_for(lambda: time.monotonic() >= back, AWAY_SECONDS)
    own_postgres.start()
    wait_for(lambda: orders.count(record) >= 5, 60)
    assert stack.run("wait", "--idle", "--timeout", "60").returncode == 0
    assert sorted(r.rcpt_to[0] for r in orders.read(record)) == [f"buyer{n}@example.com" for n in range(5)]
    assert stack.json("rejects", "list") == []


if sys.platform != "linux":
    pytestmark.append(pytest.mark.skip(reason="finds processes in /proc"))
