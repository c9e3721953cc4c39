"""Workers are asked to stop, in every way, under load: after SIGTERM nothing is in doubt, after anything harder at most
the message of each open connection."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.faults.rig.arming import PATIENT, Rig, ended, rigged, sender
from tests.faults.world import BOTH, CONNECTIONS, KINDS, POSTGRES, World
from tests.processes import children, kill, member
from tests.sizes import sized
from tests.waiting import wait_for

COUNT, PROCESSES = sized(300, 3000), 2
FINAL_SECONDS = 0.15  # that the relay takes over each mail
LONGEST = 20.0  # that a phase of a mail may last
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(600, 3600))]


@pytest.fixture(scope="module", params=KINDS if BOTH else POSTGRES)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Rig]]:
    with rigged(
        request.param, tmp_path_factory.mktemp("stopped"), final_seconds=FINAL_SECONDS, RIG_SOFT="3", **PATIENT
    ) as found:
        yield found


def busy(world: World) -> int:
    """The parent process of the lane, while it sends."""
    world.flows(10)
    return sender(world)


def test_restarted_again_and_again_it_leaves_nothing_in_doubt(
    stage: tuple[World, Rig], record_property: Callable[[str, object], None]
) -> None:
    world, _ = stage
    took = []
    with world.submitting(COUNT // 2):
        for _ in range(sized(3, 10)):
            asked = busy(world)
            os.kill(asked, signal.SIGTERM)
            took.append(ended(asked, LONGEST + 3))
    world.settle(sized(120, 600))
    world.prove(in_doubt_events=0, doubled=0)
    record_property("took", took)


def quit_at_once(pid: int) -> None:
    os.kill(pid, signal.SIGQUIT)
    ended(pid, 30)


def term_then_kill(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    for each in (pid, *children(pid)):
        kill(each)


@pytest.mark.parametrize("end", [quit_at_once, term_then_kill])
def test_ended_the_hard_way_only_open_connections_are_in_doubt(
    stage: tuple[World, Rig], end: Callable[[int], None]
) -> None:
    world, _ = stage
    with world.submitting(COUNT // 3):
        end(busy(world))
    world.settle(sized(120, 600))
    most = PROCESSES * CONNECTIONS
    world.prove(in_doubt_events=0 if end is quit_at_once else most, doubled=most)


def test_children_that_do_one_task_each_leave_nothing_in_doubt(stage: tuple[World, Rig]) -> None:
    world, rig = stage
    with rig.one_task_each(), world.submitting(COUNT // 3):
        before = busy(world)
        os.kill(before, signal.SIGTERM)
        ended(before, LONGEST + 3)
        first = set(children(busy(world)))
        wait_for(lambda: not first & set(children(member(world.stack, "mail.transactional"))), 120)
    world.settle(sized(120, 600))
    world.prove(in_doubt_events=0, doubled=0)
