"""``mail.submit``: whatever was handed over ends as one submission or as one kept reject, even on a fault of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Redis

SCRIPT = """
import json
from tasks import intake
from tasks.lifecycle import current

MAIL = {"to": ["a@example.com"], "from": "erp@example.com", "subject": "Hi", "text": "x"}

def run(task, *args, **kwargs):
    return intake.submit.apply(args=args, kwargs=kwargs, task_id=task).result

def broken(*_, **__):
    raise ZeroDivisionError("a fault of ours")

answers = {
    "good": run("good", submission=MAIL, producer="erp"),
    "again": run("good", submission=MAIL, producer="erp"),
    "positional": run("positional", MAIL),
    "nothing": run("nothing"),
    "unknown": run("unknown", submission=MAIL, colour="red"),
    "no object": run("no object", submission=["mail"]),
    "long producer": run("long producer", submission=MAIL, producer="x" * 5000),
}
for _ in range(3):
    intake.strikes.strike("killer")
answers["killer"] = run("killer", submission=MAIL)
dispatcher = current()
real = dispatcher._commit
dispatcher._commit = lambda good: broken() if good else real(good)
answers["fault"] = run("fault", submission=MAIL)
rejects = {r.reference: [r.field, r.reason] for r in dispatcher.ledger.rejects()}
print(json.dumps([answers, rejects, dispatcher.ledger.totals().accepted]))
"""


@pytest.fixture
def outcome(tmp_path: Path, redis_server: Redis) -> tuple[dict[str, str], dict[str, list[str]], int]:
    redis_server.flush()
    environment = os.environ | {
        "DISPATCHER_DATA_DIR": str(tmp_path / "var"),
        "DISPATCHER_BROKER_URL": redis_server.url,
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    found: Any = json.loads(done.stdout.splitlines()[-1])  # our log is configured by a worker, not here
    return found[0], found[1], found[2]


@pytest.mark.server
def test_all_that_is_handed_over_is_accepted_once_or_kept(
    outcome: tuple[dict[str, str], dict[str, list[str]], int],
) -> None:
    answers, rejects, accepted = outcome
    assert answers["again"] == answers["good"] != "rejected"
    assert answers["positional"] != "rejected"
    assert accepted == 2
    assert set(rejects) == {"nothing", "unknown", "no object", "long producer", "killer", "fault"}
    assert rejects["nothing"][0] == "submission"
    assert "not colour" in rejects["unknown"][1]
    assert "JSON object" in rejects["no object"][1]
    assert rejects["long producer"][0] == "producer"
    assert "killed its worker 3 times" in rejects["killer"][1]
    assert "ZeroDivisionError: a fault of ours" in rejects["fault"][1]
