"""Single mails come faster than one connection could carry them to a relay that takes its time: they go together."""

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.delay import DelayProxy
from dispatcher import Submission
from dispatcher.bootstrap import build
from dispatcher.sources import load
from tests import orders
from tests.commands import QuickStack
from tests.processes import sink_process
from tests.sizes import sized
from tests.waiting import wait_for

RATE, SECONDS = sized(60, 200), 8  # a second; one connection would carry no more than 20


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_single_mails_one_by_one_reach_a_relay_whose_replies_take_50_ms_within_a_second(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record = tmp_path / "sink.jsonl"
    with sink_process(record) as url, DelayProxy(urlsplit(url).port or 0, 0.05) as slow:
        settings = {
            "DISPATCHER_DATA_DIR": str(tmp_path / "var"),
            "DISPATCHER_RELAY_URL": slow.url,
            "DISPATCHER_FROM": "shop@example.com",
        }
        with QuickStack(settings, "--no-flower") as stack, build(load(stack.environment)) as dispatcher:
            submitted = {}
            began = time.monotonic()
            for n in range(RATE * SECONDS):
                time.sleep(max(0.0, began + n / RATE - time.monotonic()))
                to = f"{n}@example.com"
                dispatcher.submit(Submission(to=[to], subject="Your code", text="123456"))
                submitted[to] = time.time()
            took = time.monotonic() - began
            wait_for(lambda: orders.count(record) == len(submitted), 60)
    delays = sorted(each.time - submitted[each.rcpt_to[0]] for each in orders.read(record))
    told = (
        f"median {delays[len(delays) // 2]:.2f} s, p95 {delays[len(delays) * 95 // 100]:.2f} s, {took:.1f} s submitting"
    )
    record_property("latency", told)
    assert took < SECONDS + 1, told
    assert delays[len(delays) * 95 // 100] < 1.0, told
