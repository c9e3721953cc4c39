"""Redis goes away under load and comes back: killed, frozen, cut off, full. Nothing is refused, lost or doubled."""

import time
from collections.abc import Callable

import pytest

from tests.faults.world import COUNT, OUTAGE, World
from tests.sizes import FULL, sized
from tests.waiting import wait_for

SHARE = COUNT // 5
FIRST, LATER = sized((8.0, 2.0), (6.0, 1.0))  # seconds that a submission may take: the timeout is 5, and we are busy
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(300, 1800))]
Property = Callable[[str, object], None]


def under_way(world: World) -> None:
    """Mail flows, and it is not over: else nothing would be interrupted."""
    world.flows(SHARE // 10)
    assert world.taken() < world.submitted


def goes_on(world: World, note: Property) -> None:
    """What was interrupted is sent, workers hear bells again, and nothing was lost or doubled."""
    since = time.monotonic()
    world.submit(SHARE // 10)
    world.settle()
    note("seconds_to_settle", round(time.monotonic() - since, 1))
    world.prove(doubled=0, in_doubt_events=0)


@pytest.mark.parametrize("down", sized([OUTAGE], [OUTAGE, 0.0]))
def test_redis_is_killed_under_load(world: World, down: float, record_property: Property) -> None:
    with world.submitting(SHARE):
        under_way(world)
        with world.broker_down(down):
            pass
    goes_on(world, record_property)


def test_redis_is_killed_while_nothing_is_to_do(world: World, record_property: Property) -> None:
    world.settle()
    with world.broker_down(OUTAGE):
        pass
    goes_on(world, record_property)


def test_every_connection_is_cut_again_and_again(world: World, record_property: Property) -> None:
    with world.submitting(SHARE), world.client() as client:
        under_way(world)
        until, cut = time.monotonic() + OUTAGE, 0
        while time.monotonic() < until:
            cut += int(client.client_kill_filter(_type="normal"))
            time.sleep(1)
    assert cut > 0
    goes_on(world, record_property)
    if FULL:
        with world.client() as client:  # what was in hand when it was cut off is offered again
            wait_for(lambda: client.hlen("unacked") == 0, 240)


def test_redis_is_out_of_memory(world: World, record_property: Property) -> None:
    with world.submitting(SHARE), world.client() as client:
        under_way(world)
        before = refused(world)
        client.config_set("maxmemory", 1)
        time.sleep(OUTAGE)
        client.config_set("maxmemory", 0)
        assert refused(world) > before
    goes_on(world, record_property)


def refused(world: World) -> int:
    """How many commands it has refused for want of memory."""
    with world.client() as client:
        found = client.info("errorstats").get("errorstat_OOM", {"count": 0})
        return int(found["count"])


def test_a_frozen_redis_holds_up_one_submission_and_no_other(world: World, record_property: Property) -> None:
    with world.submitting(SHARE), world.producer() as producer:
        producer.submit(world.orders(1)[0])  # it has read the template, and is connected
        under_way(world)
        with world.broker_frozen():
            began = time.monotonic()
            first = seconds(lambda: producer.submit(world.orders(1)[0]))
            later = [seconds(lambda: producer.submit(world.orders(1)[0])) for _ in range(10)]
            world.submitted += 1
            arguments = ("--to", "a@example.com", "--from", "b@example.com", "--subject", "s", "--text", "t")
            sent = world.stack.run("send", *arguments)
            time.sleep(max(0.0, began + OUTAGE - time.monotonic()))
    record_property("first_and_slowest_of_the_others", (round(first, 2), round(max(later), 2)))
    assert first < FIRST
    assert max(later) < LATER
    assert sent.returncode == 0, sent.stderr
    goes_on(world, record_property)


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began
