"""A worker's child and its parent are killed in the middle of a run: nothing is lost, doubles are bounded."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.adapters.stack import Stack
from tests import orders
from tests.processes import children, kill, member, sink_process
from tests.sizes import sized
from tests.waiting import wait_for

COUNT, BATCH = sized(2500, 5000), 100
TIMES = {
    "DISPATCHER_DELIVERY__LEASE_SECONDS": "20",
    "DISPATCHER_DELIVERY__TASK_SECONDS": "15",
    "DISPATCHER_DELIVERY__BATCH_SECONDS": "5",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__CONNECT": "5",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__COMMAND": "5",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__FINAL": "5",
    "DISPATCHER_DELIVERY__PROCESSES__TRANSACTIONAL": "2",
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_child_and_a_killed_parent_lose_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    lines, record = tmp_path / "orders.jsonl", tmp_path / "sink.jsonl"
    orders.write(lines, COUNT)
    with sink_process(record) as url:
        environment = {"DISPATCHER_DATA_DIR": str(tmp_path / "var"), "DISPATCHER_RELAY_URL": url, **TIMES}
        with Stack(environment) as stack:
            submit = subprocess.Popen(
                [*stack.command, "submit", str(lines)],
                env=stack.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_for(lambda: len(orders.read(record)) >= COUNT // 6, 60)
            kill(children(member(stack, "mail.transactional"))[0])
            wait_for(lambda: len(orders.read(record)) >= COUNT // 2, 60)
            kill(member(stack, "mail.transactional"))
            at_the_kill = len(orders.read(record))
            assert at_the_kill < COUNT  # else nothing was interrupted
            assert submit.wait(120) == 0
            idle = stack.run("wait", "--idle", "--timeout", "150")
            assert idle.returncode == 0, idle.stderr
            assert stack.json("status")["states"] == {"sent": COUNT}
            received = orders.read(record)
    # Two processes died with a batch each, and the parent's other child ends by itself.
    orders.check(received, COUNT, doubles=3 * BATCH)
    record_property("doubled", len(received) - COUNT)
