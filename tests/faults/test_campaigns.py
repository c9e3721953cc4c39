"""A campaign whose import, check, start, expansion and sending are killed wherever it hurts: everybody of its list is
accounted for, and nobody gets it twice but whose mail was in doubt."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dispatcher import ids
from dispatcher.campaign import Campaign, CampaignState
from dispatcher.delivery import Actor, Selector
from dispatcher.dispatcher import Dispatcher
from dispatcher.suppression import MARKETING, Reason, Suppression
from tests.audiences import Facts, write_csv
from tests.faults import campaigns
from tests.faults.rig.arming import PATIENT, Rig, rigged
from tests.faults.world import BOTH, CONNECTIONS, KINDS, OUTAGE, SQLITE, World
from tests.processes import children, kill, member
from tests.sizes import FULL, sized
from tests.waiting import wait_for
from tests.zygote import zygote

ROWS = sized(1600, 100_000)
POINTS = 500  # that a row needs to be meant: one in ten has fewer
BULK = 2  # processes
BATCH = sized(25, 100)
NAME, AUDIENCE = "autumn", "customers"
_SLOW = """
[[rule]]
phase = "final"
hold = "400ms"
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(300, 5400))]


@pytest.fixture(scope="module", params=KINDS if BOTH else SQLITE)
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


@dataclass(frozen=True)
class People:
    """The list, and by row the addresses of those who are meant; ``fewer``: members who are not."""

    path: Path
    facts: Facts
    meant: dict[int, str]
    fewer: int

    @property
    def suppressed(self) -> set[str]:
        """Of those who are meant."""
        return {*self.meant.values()} & {*self.facts.suppressed}


def listed(world: World, producer: Dispatcher) -> People:
    """Made, and those suppressed who do not want it."""
    path = world.folder / "customers.csv"
    facts = write_csv(path, ROWS, seed=6)
    optouts = [Suppression(each.lower(), MARKETING, Reason.HAND) for each in facts.suppressed]
    producer.suppressions.add(optouts, Actor("anna", "desk"))
    return People(path, facts, *campaigns.meant(path, facts, POINTS))


def imported(world: World, rig: Rig, people: People) -> None:
    """Killed on its way: half a list is none. Then whole."""
    rig.arm("mid_import")
    campaigns.killed_import(world, AUDIENCE, people.path)
    assert world.stack.run("audiences", "show", AUDIENCE).returncode != 0
    version, facts = campaigns.imported(world, AUDIENCE, people.path), people.facts
    assert [version[name] for name in ("rows", "bad", "doubled")] == [ROWS, facts.bad, facts.doubled]
    assert version["kept"] == ROWS - facts.bad - facts.doubled


def started(world: World, rig: Rig, producer: Dispatcher) -> None:
    """Killed while it is checked, before the start is committed, and after it, so that nobody is told that it runs."""
    own = ("--where", f"points>={POINTS}", "--at", "2026-01-02T09:00", "--hours", "00:00-24:00")
    campaigns.create(world, NAME, AUDIENCE, *own)
    rig.arm("before_check")
    assert world.stack.run("campaigns", "check", NAME).returncode < 0
    campaigns.run(world, "campaigns", "check", NAME)
    rig.arm("before_start")
    assert world.stack.run("campaigns", "start", NAME, "--yes").returncode < 0
    assert producer.campaigns.get(NAME).state is CampaignState.CHECKED
    rig.arm("after_start")
    assert world.stack.run("campaigns", "start", NAME, "--yes").returncode < 0


def expanded(world: World, rig: Rig, producer: Dispatcher) -> None:
    """Its worker is killed before and after a commit, and whole; beat, the command that looks on, and while it is
    paused the broker."""

    def now() -> Campaign:
        return producer.campaigns.get(NAME)

    def goes_on() -> None:
        before = now().expanded
        wait_for(lambda: now().expanded > before, sized(60, 300))

    with watching(world):
        rig.struck("mid_expand")
        goes_on()
        rig.arm("after_expand")
        rig.struck("after_expand")
        kill_parent(world, "mail.control")
        goes_on()
        kill(member(world.stack, "tasks beat"))
        goes_on()
    campaigns.act(world, "pause", NAME)
    held = now().expanded
    with world.broker_down(OUTAGE):
        assert now().expanded == held
    assert now().expanded == held
    assert not now().complete, "it was expanded before anything could go wrong"
    campaigns.act(world, "resume", NAME)
    wait_for(lambda: now().complete, sized(60, 600))


def sent(world: World, mails: str, wanted: int) -> tuple[int, int]:
    """The same while it is sent. How many processes that may have been sending died; how many mails went after it was
    paused."""
    died = 0
    with watching(world):
        world.flows(10)
        died += kill_child(world, "mail.bulk")
        world.flows(10)
        died += kill_parent(world, "mail.bulk")
        kill(member(world.stack, "tasks beat"))
        world.flows(10)
    paused = campaigns.act(world, "pause", NAME)
    taken = campaigns.quiet(world)
    late = sum(received.time > paused for received in campaigns.of(world, mails))
    assert late <= BULK * BATCH
    with world.broker_down(OUTAGE):
        pass
    assert world.taken() == taken
    assert wanted - taken > 50, "it was sent before anything could go wrong"
    campaigns.act(world, "resume", NAME)
    return died, late


def balance(world: World, producer: Dispatcher, people: People, shown: Mapping[str, Any]) -> None:
    """The sums of the list, of the rows and of the sink."""
    sums, suppressed = shown["sums"], people.suppressed
    assert sums["rows"] == ROWS == sums["kept"] + sums["bad"] + sums["doubled"]
    assert sums["kept"] == sums["filtered"] + sums["expanded"]
    assert (sums["filtered"], sums["expanded"]) == (people.fewer, len(people.meant))
    assert sums["expanded"] == sums["accepted"] == sum(sums["states"].values())
    assert sums["states"] == {"sent": len(people.meant) - len(suppressed), "suppressed": len(suppressed)}
    assert (shown["faults"], shown["waiting"]) == ([], 0)
    rows = producer.ledger.find(Selector(ids=(shown["submission"],)))
    numbers = Counter(reference.n for row in rows if (reference := ids.parse(row.message_id)))
    assert numbers == Counter(people.meant.keys())  # each row is a message, once
    got = {to for received in campaigns.of(world, shown["submission"]) for to in received.rcpt_to}
    assert got == {*people.meant.values()} - suppressed


def test_whoever_is_killed_everybody_of_the_list_is_accounted_for(
    stage: tuple[World, Rig], producer: Dispatcher, record_property: Callable[[str, object], None]
) -> None:
    world, rig = stage
    people = listed(world, producer)
    imported(world, rig, people)
    rig.arm("mid_expand")
    world.sink.follow(_SLOW)  # so that most of them are left to be sent
    started(world, rig, producer)
    expanded(world, rig, producer)
    world.sink.follow("")
    died, late = sent(world, producer.campaigns.get(NAME).submission or "", len(people.meant))
    balance(world, producer, people, campaigns.stands(world, NAME, "finished", sized(120, 3600)))
    world.submitted += len(people.meant)
    world.settle()
    proof = world.prove(in_doubt_events=died * CONNECTIONS, doubled=died * CONNECTIONS)
    for name, value in (("died", died), ("late", late), ("doubled", proof["doubled"])):
        record_property(name, value)
