"""Workers are killed at random in the middle of a run, child, parent and whole: for each process that died at most the
message of each open connection is in doubt, nothing is lost, and nothing is there twice that was not in doubt."""

import random
from collections.abc import Callable, Iterator
from itertools import cycle, islice

import pytest

from tests.faults.rig.arming import PATIENT, sender
from tests.faults.world import BOTH, CONNECTIONS, KINDS, POSTGRES, World, make_world
from tests.processes import children, kill
from tests.sizes import sized

COUNT, KILLS, PROCESSES = sized(300, 6000), sized(3, 20), 3
FINAL_SECONDS = 0.05  # so that a body is nearly always in flight
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(600, 3600))]


@pytest.fixture(scope="module", params=KINDS if BOTH else POSTGRES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(
        request.param,
        tmp_path_factory.mktemp("killed"),
        final_seconds=FINAL_SECONDS,
        **PATIENT | {"DISPATCHER_DELIVERY__PROCESSES__TRANSACTIONAL": str(PROCESSES)},
    ) as made:
        yield made


def kill_child(world: World) -> int:
    """As the kernel does when memory runs out. Returns how many that may have been sending died."""
    kill(random.choice(children(sender(world))))
    return 1


def kill_parent(world: World) -> int:
    """The kernel ends its children with it, wherever they are (Celery asks for that)."""
    parent = sender(world)
    found = len(children(parent))
    kill(parent)
    return found


def kill_whole(world: World) -> int:
    parent = sender(world)
    found = children(parent)
    for pid in (*found, parent):
        kill(pid)
    return len(found)


def test_what_dies_leaves_at_most_its_open_connections_in_doubt(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    before, died = world.taken(), 0
    strikes = cycle((kill_child, kill_parent, kill_whole))
    with world.submitting(COUNT):
        for strike in islice(strikes, KILLS):
            world.flows(random.randint(10, COUNT // (2 * KILLS)))
            died += strike(world)
        assert world.taken() - before < COUNT, "everything was sent before anything could go wrong"
    world.settle(sized(120, 600))
    proof = world.prove(in_doubt_events=died * CONNECTIONS, doubled=died * CONNECTIONS)
    record_property("in_doubt", proof["in_doubt_events"])
    record_property("doubled", proof["doubled"])
