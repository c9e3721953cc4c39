"""The intake worker is killed again and again just as it is handed a Celery task: none is lost."""

import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from celery import Celery

from tests import orders
from tests.commands import QuickStack
from tests.processes import kill, member, sink_process
from tests.sizes import sized
from tests.waiting import wait_for

KILLS = sized(3, 20)
MOST_SECONDS = 0.003  # between handing over and killing: it is fetched in this time
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(240, 900))]


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_task_whose_worker_is_killed_as_it_is_fetched_arrives_once(tmp_path: Path) -> None:
    record, sent = tmp_path / "sink.jsonl", 0
    with (
        sink_process(record) as url,
        QuickStack({"DISPATCHER_DATA_DIR": str(tmp_path / "var"), "DISPATCHER_RELAY_URL": url}, "--no-flower") as stack,
        Celery(broker=stack.run("broker-url").stdout.strip(), set_as_current=False) as celery,
    ):

        def hand_over() -> None:
            nonlocal sent
            mail = {"to": [f"n{sent}@example.com"], "from": "erp@example.com", "subject": "Order", "text": "Order."}
            celery.send_task("mail.submit", kwargs={"submission": mail}, queue="mail.intake")
            sent += 1

        for _ in range(KILLS):
            hand_over()
            wait_for(lambda: orders.count(record) >= sent, 90)  # it serves: what its forerunner held arrived, too
            intake = member(stack, "mail.intake")
            for _ in range(3):
                hand_over()
            time.sleep(random.uniform(0, MOST_SECONDS))
            kill(intake)
        wait_for(lambda: orders.count(record) >= sent, 90)
        assert stack.run("wait", "--idle", "--timeout", "60").returncode == 0
        # One that was in the ledger when its worker was killed before it said so is taken over, and found there.
        wait_for(lambda: stack.json("status")["stream"] == 0, 60)
        assert stack.json("status")["states"] == {"sent": sent}
    assert Counter(r.rcpt_to for r in orders.read(record)) == Counter({(f"n{n}@example.com",): 1 for n in range(sent)})
