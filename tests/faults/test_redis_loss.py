"""Redis loses what it had: bells that nobody has heard are gone, and every mail that they were for is sent."""

import json
import shutil
from base64 import b64decode
from collections.abc import Callable

import pytest

from tests.faults.world import COUNT, World
from tests.sizes import sized

SHARE, LANE = COUNT // 5, "mail.transactional"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(300, 1800))]


def named(world: World) -> set[int]:
    """The messages that the bells of the lane name. Those of the sweep name none."""
    with world.client() as client:
        bells = [json.loads(raw) for raw in client.lrange(LANE, 0, -1)]
    return {message for bell in bells for message in json.loads(b64decode(bell["body"]))[0][1]}


def cut(world: World) -> None:
    """The append-only file loses its second half, in the middle of a command: the disk never had it."""
    world.kill_broker()
    (file,) = world.broker_folder.glob("appendonlydir/*.incr.aof")
    with file.open("r+b") as kept:
        kept.truncate(file.stat().st_size // 2)
    world.start_broker()


def empty(world: World) -> None:
    world.kill_broker()
    shutil.rmtree(world.broker_folder / "appendonlydir")
    world.start_broker()


def flush(world: World) -> None:
    with world.client() as client:
        client.flushall()


@pytest.mark.parametrize("lose", sized([cut, flush], [cut, flush, empty]))
def test_bells_are_lost_and_no_mail_is(world: World, lose: Callable[[World], None]) -> None:
    with world.asleep(LANE):
        world.submit(SHARE)
        before = named(world)
        lose(world)
        assert before - named(world)  # others may be back, which were heard already: that is lost, too
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)


def test_everything_is_flushed_under_load(world: World) -> None:
    with world.submitting(SHARE), world.client() as client:
        for _ in range(5):
            world.flows(SHARE // 10)
            client.flushall()
        assert world.taken() < world.submitted
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)
