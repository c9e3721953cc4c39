"""A worker's child, a whole worker, a whole host stand still for longer than their leases: nobody takes over what a
living process holds, so it is ended first, or finds its lease over when it wakes."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.faults.rig.arming import ONE_BY_ONE, Rig, ended, rigged, sender
from tests.faults.test_worker_steps import copies, in_doubt, rows
from tests.faults.world import BOTH, KINDS, LEASE, SQLITE, World
from tests.processes import children
from tests.sizes import sized

COUNT, PROCESSES = 200, 3
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(600, 3600))]


@pytest.fixture(scope="module", params=KINDS if BOTH else SQLITE)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Rig]]:
    with rigged(
        request.param,
        tmp_path_factory.mktemp("frozen"),
        final_seconds=0.05,
        DISPATCHER_DELIVERY__PROCESSES__TRANSACTIONAL=str(PROCESSES),
        DISPATCHER_DELIVERY__BATCH_SIZE="20",
        **ONE_BY_ONE,
    ) as found:
        yield found


def test_a_frozen_child_is_ended_by_its_time_limit(stage: tuple[World, Rig]) -> None:
    world, rig = stage
    rig.arm("after_lease", signal.SIGSTOP)
    rig.arm("mid_data", signal.SIGSTOP)
    world.submit(COUNT)
    leased, begun = rig.struck("after_lease"), rig.struck("mid_data")
    for frozen in (leased, begun):
        ended(frozen.pid, 2 * LEASE)
    world.settle(2 * LEASE + 60)
    world.prove(in_doubt_events=1, doubled=1)
    found, sunk = rows(world, *leased.mails, *begun.mails), copies(world)
    for mail in leased.mails:
        assert (found[mail].state, in_doubt(found[mail]), sunk[mail]) == ("sent", 0, 1), found[mail]
    assert (in_doubt(found[begun.mails[0]]), sunk[begun.mails[0]]) == (1, 1)


def test_a_frozen_worker_is_ended_by_the_supervisor(stage: tuple[World, Rig]) -> None:
    world, _ = stage
    with world.submitting(COUNT):
        world.flows(20)
        parent = sender(world)
        whole = (parent, *children(parent))
        for pid in whole:
            os.kill(pid, signal.SIGSTOP)
        for pid in whole:
            ended(pid, 2 * LEASE + 20)
        world.flows()
    world.settle(2 * LEASE + 60)
    world.prove(in_doubt_events=PROCESSES, doubled=PROCESSES)


def test_a_host_that_stood_still_sends_nothing_under_a_lease_that_is_over(stage: tuple[World, Rig]) -> None:
    world, _ = stage
    with world.submitting(COUNT):
        world.flows(20)
        whole = [world.stack.pid]
        for pid in whole:  # it grows
            whole += children(pid)
        for pid in whole:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(LEASE + 1)  # that long it stands still: nothing to wait for
        for pid in reversed(whole):
            os.kill(pid, signal.SIGCONT)
        world.flows()
    world.settle(2 * LEASE + 60)
    world.prove(in_doubt_events=PROCESSES, doubled=PROCESSES)
