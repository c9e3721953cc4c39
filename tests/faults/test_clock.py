"""Two workers whose clocks are two hours off, one ahead and one behind, on a ledger with a clock of its own: mail is
sent when it is due, lives as long as it may, and comes back from a dead process as soon as ever."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.delivery import Selector
from tests import orders
from tests.faults.rig.arming import PATIENT, Rig, rigged
from tests.faults.world import CONNECTIONS, World
from tests.waiting import wait_for

COUNT = 60
LANES = ("transactional", "bulk")
OFF = "mail.transactional=7200,mail.bulk=-7200"
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Rig]]:
    with rigged(
        "postgres+redis",
        tmp_path_factory.mktemp("clock"),
        **PATIENT,
        RIG_AHEAD=OFF,
        DISPATCHER_RETRY__LIFETIME__TRANSACTIONAL="1h",
        DISPATCHER_RETRY__LIFETIME__BULK="1h",
    ) as found:
        yield found


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def test_the_clock_of_a_worker_changes_nothing(stage: tuple[World, Rig]) -> None:
    world, rig = stage
    began = time.time()
    soon, later = began + 5, began + 3600
    for lane in LANES:
        rig.arm("after_begin")
        world.submit(COUNT, lane=lane)
        world.submit(1, lane=lane, to=[f"soon-{lane}@example.com"], send_at=iso(soon))
        world.submit(1, lane=lane, to=[f"later-{lane}@example.com"], send_at=iso(later))
        rig.struck("after_begin")
    wait_for(lambda: time.time() > soon)
    world.settle(120)
    taken = {mail.rcpt_to[0]: mail.time for mail in orders.read(world.record)}
    proof = world.prove(in_doubt_events=len(LANES) * CONNECTIONS, doubled=0)
    assert proof["states"] == {"sent": len(LANES) * (COUNT + 1), "queued": len(LANES)}
    for lane in LANES:
        assert soon <= taken[f"soon-{lane}@example.com"] < began + 600
    ledger = SqlLedger(world.ledger_url)
    assert all(began <= row.changed_at <= time.time() for row in ledger.find(Selector()))
    ledger.close()
