"""What holds a campaign, over real workers: a pause, the relay's daily quota, a rate of its own. Others' mail in the
same lane goes on."""

import time
from collections.abc import Callable, Iterator

import pytest

from dispatcher.delivery import Selector
from dispatcher.dispatcher import Dispatcher
from tests.faults import campaigns
from tests.faults.world import BOTH, KINDS, SQLITE, World, make_world
from tests.limits import most
from tests.sizes import sized
from tests.waiting import wait_for

QUOTA, PACED, OTHERS = 1000, sized(240, 1200), sized(200, 2000)
RATE, TOLERANCE = 20, 1.25  # mails a second; how many more may be answered in one, where the machine is slow
BULK, BATCH = 2, 25
PROMPT = 1.0  # second, or a batch
_QUOTA = f"""
[[rule]]
phase = "mail"
per = "sink"
after = {QUOTA}
reply = "550 5.4.5 Daily quota exceeded"
"""
_SLOW = """
[[rule]]
phase = "final"
hold = "150ms"
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(300, 1200))]


@pytest.fixture(scope="module", params=KINDS if BOTH else SQLITE)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    change = {
        "DISPATCHER_DELIVERY__PROCESSES__BULK": str(BULK),
        "DISPATCHER_DELIVERY__BATCH_SIZE": str(BATCH),
        "DISPATCHER_DELIVERY__BATCH_SECONDS": "30",  # so that it is the pause that ends one
        "DISPATCHER_DELIVERY__LEASE_SECONDS": "90",
        "DISPATCHER_DELIVERY__TASK_SECONDS": "60",
    }
    with make_world(request.param, tmp_path_factory.mktemp("brakes"), **change) as made:
        yield made


@pytest.fixture
def producer(world: World) -> Iterator[Dispatcher]:
    with world.producer() as made:
        yield made


def audience(world: World, name: str, count: int) -> set[str]:
    """One of so many; their addresses."""
    addresses = [f"{name}{n}@example.com" for n in range(count)]
    made = campaigns.imported(world, name, campaigns.write_people(world.folder / f"{name}.csv", addresses))
    assert made["kept"] == count
    world.submitted += count
    return set(addresses)


def attempts(producer: Dispatcher, submission: str) -> set[int]:
    """How many its mails have cost."""
    return {row.attempts for row in producer.ledger.find(Selector(ids=(submission,)))}


def test_a_pause_takes_effect_within_a_second_or_one_batch(
    world: World, producer: Dispatcher, record_property: Callable[[str, object], None]
) -> None:
    people = audience(world, "held", 600)
    world.sink.follow(_SLOW)  # so that a batch of all its connections takes as long as a second
    campaigns.begin(world, "held", "held")
    for _ in range(2):
        world.flows(40)
        asked = time.time()
        paused = campaigns.act(world, "pause", "held")
        campaigns.quiet(world)
        moments = [taken.time for taken in campaigns.of(world, producer.campaigns.get("held").submission or "")]
        late = [moment - paused for moment in moments if moment > paused]
        record_property("late", len(late))
        record_property("seconds", max(late, default=0.0))
        assert sum(seconds > PROMPT for seconds in late) <= BULK * BATCH
        assert paused - asked < sized(10, 10)
        assert len(moments) < len(people), "it was sent before it could be paused"
        assert campaigns.shown(world, "held")["reason"] == "by a test"
        campaigns.act(world, "resume", "held")
    world.sink.follow("")
    shown = campaigns.stands(world, "held", "finished", 120)
    assert shown["sums"]["states"] == {"sent": len(people)}
    assert attempts(producer, shown["submission"]) == {1}
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)


def test_a_daily_quota_pauses_it_bounces_nobody_and_the_next_day_it_ends_complete(
    world: World, producer: Dispatcher, record_property: Callable[[str, object], None]
) -> None:
    people = audience(world, "daily", QUOTA + 300)
    world.sink.follow(_QUOTA)
    campaigns.begin(world, "daily", "daily")
    shown = campaigns.stands(world, "daily", "paused", 120)
    assert "the relay lets no more through: 550 5.4.5 Daily quota exceeded" in shown["reason"]
    campaigns.quiet(world)
    shown = campaigns.shown(world, "daily")
    states = shown["sums"]["states"]
    assert states["sent"] == QUOTA
    assert "bounced" not in states
    assert producer.suppressions.count() == 0
    record_property("reason", shown["reason"])
    world.sink.follow("")  # the next day
    assert world.stack.run("resume", "default", "--reason", "a new day").returncode == 0
    campaigns.act(world, "resume", "daily")
    shown = campaigns.stands(world, "daily", "finished", 120)
    assert shown["sums"]["states"] == {"sent": len(people)}
    assert attempts(producer, shown["submission"]) == {1}
    got = [to for taken in campaigns.of(world, shown["submission"]) for to in taken.rcpt_to]
    assert sorted(got) == sorted(people)
    assert producer.suppressions.count() == 0
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)


def test_a_rate_of_its_own_is_kept_over_all_workers_and_others_do_not_wait_for_it(
    world: World, producer: Dispatcher, record_property: Callable[[str, object], None]
) -> None:
    people = audience(world, "paced", PACED)
    campaigns.begin(world, "paced", "paced", "--rate", f"{RATE}/s")
    submission = producer.campaigns.get("paced").submission or ""
    wait_for(lambda: sum(1 for _ in campaigns.of(world, submission)) >= RATE, 60)
    began = time.monotonic()
    before = world.taken()
    world.submit(OTHERS, lane="bulk")
    wait_for(lambda: world.taken() >= before + OTHERS, 60)
    others = time.monotonic() - began
    left = PACED - sum(1 for _ in campaigns.of(world, submission))
    shown = campaigns.stands(world, "paced", "finished", 60 + 2 * PACED / RATE)
    moments = sorted(taken.time for taken in campaigns.of(world, submission))
    took = moments[-1] - moments[0]
    record_property("others", others)
    record_property("took", took)
    record_property("most", most(moments, 1.0))
    assert most(moments, 1.0) <= RATE * TOLERANCE
    assert took <= 1.5 * PACED / RATE + 5, "the rate was not used up"
    assert left > 0, "the others were held up until it was over"
    assert shown["sums"]["states"] == {"sent": len(people)}
    assert attempts(producer, submission) == {1}
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)
