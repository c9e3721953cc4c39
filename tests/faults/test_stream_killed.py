"""The intake worker is killed twice in the middle of the stream: each entry is accepted once, or kept as rejected."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from redis import Redis

from dispatcher.adapters.stream import GROUP, KEY
from tests import orders
from tests.commands import QuickStack
from tests.processes import children, kill, member, sink_process
from tests.sizes import sized
from tests.waiting import wait_for

COUNT = sized(2000, 10_000)
BAD = frozenset({5, COUNT // 4, COUNT // 2, COUNT * 3 // 4, COUNT - 1})
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def mail(n: int) -> str:
    made = {"to": [f"buyer{n}@example.com"], "from": "erp@example.com", "subject": f"Order {n}", "text": f"Order {n}."}
    return json.dumps(made | ({"colour": "red"} if n in BAD else {}))


def hand_over(redis: Redis) -> dict[int, str]:
    """All of them at once; their entry ids by number."""
    pipe = redis.pipeline(transaction=False)
    for n in range(COUNT):
        pipe.xadd(KEY, {"submission": mail(n)})
    return dict(enumerate(entry.decode() for entry in pipe.execute()))


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_thousands_of_entries_with_the_intake_worker_killed_twice_arrive_once_each(
    tmp_path: Path,
) -> None:
    record = tmp_path / "sink.jsonl"
    with (
        sink_process(record) as url,
        QuickStack({"DISPATCHER_DATA_DIR": str(tmp_path / "var"), "DISPATCHER_RELAY_URL": url}, "--no-flower") as stack,
        Redis.from_url(stack.run("broker-url").stdout.strip()) as redis,
    ):
        entries = hand_over(redis)
        intake = member(stack, "mail.intake")
        wait_for(lambda: redis.xlen(KEY) < COUNT * 0.8, 60, every=0.005)
        kill(children(intake)[0])
        wait_for(lambda: redis.xlen(KEY) < COUNT * 0.4, 60, every=0.005)
        kill(intake)
        wait_for(lambda: redis.xlen(KEY) == 0, 90)
        wait_for(lambda: redis.xpending(KEY, GROUP)["pending"] == 0, 10)
        assert stack.run("wait", "--idle", "--timeout", "90").returncode == 0
        assert stack.json("status")["states"] == {"sent": COUNT - len(BAD)}
        rejects = {reject["reference"]: reject["field"] for reject in stack.json("rejects", "list")}
    assert rejects == {entries[n]: "colour" for n in BAD}
    received = Counter(r.rcpt_to for r in orders.read(record))
    assert received == Counter({(f"buyer{n}@example.com",): 1 for n in range(COUNT) if n not in BAD})
