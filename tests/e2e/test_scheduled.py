"""A mail for later arrives at its time, once, although broker and beat were restarted meanwhile."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests import orders
from tests.commands import QuickStack
from tests.processes import kill, member, sink_process
from tests.waiting import wait_for


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_scheduled_mail_outlives_broker_and_beat(tmp_path: Path) -> None:
    record = tmp_path / "sink.jsonl"
    settings = {"DISPATCHER_DATA_DIR": str(tmp_path / "var")}
    with sink_process(record) as url, QuickStack(settings | {"DISPATCHER_RELAY_URL": url}, "--no-flower") as stack:
        due = datetime.now(UTC) + timedelta(seconds=40)
        sent = stack.run(
            "send",
            "--from",
            "shop@example.com",
            "--to",
            "ada@example.com",
            "--subject",
            "Later",
            "--text",
            "Now",
            "--at",
            due.isoformat(),
        )
        assert sent.returncode == 0, sent.stderr
        for part in ("valkey-server|redis-server", r"\bbeat\b"):
            pid = member(stack, part)
            kill(pid)
            wait_for(lambda part=part, pid=pid: member(stack, part) != pid)
        wait_for(lambda: orders.count(record), 60)
        assert stack.run("wait", "--idle", "--timeout", "30").returncode == 0
        (received,) = orders.read(record)
    late = received.time - due.timestamp()
    assert 0 <= late <= 3, f"{late:.1f} s after its time"
