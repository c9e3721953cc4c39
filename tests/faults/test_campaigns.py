"""A campaign whose import, check, start, expansion and sending are killed wherever it hurts: everybody of its list is
accounted for, and nobody gets it twice but whose mail was in doubt."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dispatcher import ids
from dispatcher.campaign import Campaign, CampaignState
from dispatcher.delivery import Actor, Selector
from dispatcher.dispatcher import Dispatcher
from dispatcher.suppression import MARKETING, Reason, Suppression
from tests.audiences import write_csv
from tests.faults import campaigns
from tests.faults.rig.arming import PATIENT, Rig, rigged
from tests.faults.world import BOTH, CONNECTIONS, KINDS, OUTAGE, POSTGRES, World
from tests.processes import children, kill, member
from tests.sizes import FULL, sized
from tests.waiting import wait_for
from tests.zygote import zygote

ROWS = sized(2400, 100_000)
POINTS = 500  # that a row needs to be meant: one in ten has fewer
BULK = 2  # processes
BATCH = sized(25, 100)
NAME, AUDIENCE = "autumn", "customers"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(300, 5400))]


@pytest.fixture(scope="module", params=KINDS if BOTH else POSTGRES)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Rig]]:
    """Its relay and its expansion are so slow that neither is over before it was struck."""
    with rigged(
        request.param,
        tmp_path_factory.mktemp("campaigns"),
        final_seconds=sized(0.05, 0.01),
        **PATIENT,
        **({} if FULL else {"RIG_ROWS": "50", "RIG_ROWS_SECONDS": "0.05"}),
        DISPATCHER_DELIVERY__PROCESSES__BULK=str(BULK),
    ) as found:
        yield found


@pytest.fixture
def producer(stage: tuple[World, Rig]) -> Iterator[Dispatcher]:
    with stage[0].producer() as made:
        yield made


@contextmanager
def watching(world: World) -> Iterator[None]:
    """Somebody looks on while the block runs, and is killed in the end."""
    log = world.folder / "watching.log"
    with log.open("ab") as said:
        show = zygote().start(["campaigns", "show", NAME, "--watch"], world.stack.environment, output=said, errors=said)
    try:
        yield
        assert show.poll() is None, log.read_text()
    finally:
        show.kill()


def kill_child(world: World, pattern: str) -> int:
    """Returns how many that may have been sending died."""
    kill(wait_for(lambda: children(member(world.stack, pattern)), 60)[0])
    return 1


def kill_parent(world: World, pattern: str) -> int:
    parent = member(world.stack, pattern)
    found = len(children(parent))
    kill(parent)
    return found


def test_whoever_is_killed_everybody_of_the_list_is_accounted_for(
    stage: tuple[World, Rig], producer: Dispatcher, record_property: Callable[[str, object], None]
) -> None:
    world, rig = stage
    path = world.folder / "customers.csv"
    facts = write_csv(path, ROWS, seed=6)
    meant, fewer = campaigns.meant(path, facts, POINTS)
    optouts = [Suppression(each.lower(), MARKETING, Reason.HAND) for each in facts.suppressed]
    producer.suppressions.add(optouts, Actor("anna", "desk"))

    rig.arm("mid_import")
    campaigns.killed_import(world, AUDIENCE, path)
    assert world.stack.run("audiences", "show", AUDIENCE).returncode != 0  # half a list is none
    version = campaigns.imported(world, AUDIENCE, path)
    assert [version[name] for name in ("rows", "bad", "doubled")] == [ROWS, facts.bad, facts.doubled]
    assert version["kept"] == ROWS - facts.bad - facts.doubled

    own = ("--where", f"points>={POINTS}", "--at", "2026-01-02T09:00", "--hours", "00:00-24:00")
    campaigns.create(world, NAME, AUDIENCE, *own)
    rig.arm("before_check")
    assert world.stack.run("campaigns", "check", NAME).returncode < 0
    campaigns.run(world, "campaigns", "check", NAME)
    rig.arm("before_start")
    assert world.stack.run("campaigns", "start", NAME, "--yes").returncode < 0
    assert producer.campaigns.get(NAME).state is CampaignState.CHECKED
    rig.arm("mid_expand")
    rig.arm("after_start")
    assert world.stack.run("campaigns", "start", NAME, "--yes").returncode < 0  # it runs, and nobody was told

    def now() -> Campaign:
        return producer.campaigns.get(NAME)

    def expanded(more: int = 1) -> None:
        wanted = now().expanded + more
        wait_for(lambda: now().expanded >= wanted, sized(60, 300))

    # Expanding.
    with watching(world):
        rig.struck("mid_expand")
        expanded()
        rig.arm("after_expand")
        rig.struck("after_expand")
        kill_parent(world, "mail.control")
        expanded()
        kill(member(world.stack, "tasks beat"))
        expanded()
    campaigns.act(world, "pause", NAME)
    held = now().expanded
    with world.broker_down(OUTAGE):
        assert now().expanded == held
    assert now().expanded == held
    assert not now().complete, "it was expanded before anything could go wrong"
    campaigns.act(world, "resume", NAME)
    wait_for(lambda: now().complete, sized(60, 600))

    # Sending.
    died = 0
    with watching(world):
        world.flows(10)
        died += kill_child(world, "mail.bulk")
        world.flows(10)
        died += kill_parent(world, "mail.bulk")
        kill(member(world.stack, "tasks beat"))
        world.flows(10)
    paused = campaigns.act(world, "pause", NAME)
    campaigns.quiet(world)
    mails = now().submission or ""
    late = sum(taken.time > paused for taken in campaigns.of(world, mails))
    assert late <= BULK * BATCH
    with world.broker_down(OUTAGE):
        pass
    left = len(meant) - sum(1 for _ in campaigns.of(world, mails))
    assert left > 100, "it was sent before anything could go wrong"
    campaigns.act(world, "resume", NAME)
    shown = campaigns.stands(world, NAME, "finished", sized(120, 3600))

    # The sums.
    sums = shown["sums"]
    assert sums["rows"] == ROWS == sums["kept"] + sums["bad"] + sums["doubled"]
    assert sums["kept"] == sums["filtered"] + sums["expanded"]
    assert (sums["filtered"], sums["expanded"]) == (fewer, len(meant))
    assert sums["expanded"] == sums["accepted"] == sum(sums["states"].values())
    suppressed = {each for each in meant.values() if each in facts.suppressed}
    assert sums["states"] == {"sent": len(meant) - len(suppressed), "suppressed": len(suppressed)}
    assert (shown["faults"], shown["waiting"]) == ([], 0)
    numbers = Counter(
        reference.n
        for row in producer.ledger.find(Selector(ids=(shown["submission"],)))
        if (reference := ids.parse(row.message_id))
    )
    assert numbers == Counter(meant.keys())  # each row is a message, once
    got = {to for taken in campaigns.of(world, shown["submission"]) for to in taken.rcpt_to}
    assert got == {*meant.values()} - suppressed
    world.submitted += len(meant)
    world.settle()
    proof = world.prove(in_doubt_events=died * CONNECTIONS, doubled=died * CONNECTIONS)
    record_property("died", died)
    record_property("late", late)
    record_property("in_doubt", proof["in_doubt_events"])
    record_property("doubled", proof["doubled"])
