"""A worker's process is killed at every step of a delivery: what its journal knows is never sent again, what nobody can
know is in doubt, one message for each death, and follows its submission's policy."""

from collections import Counter
from collections.abc import Iterator

import pytest

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.delivery import Selector, State
from dispatcher.records import DeliveryRecord
from tests import orders
from tests.faults.rig.arming import KNOWN, ONE_BY_ONE, PATIENT, STEPS, UNKNOWN, Rig, rigged
from tests.faults.world import BOTH, KINDS, SQLITE, World

BATCH = 20
FAR = ("after_dot", "heard")  # from here on the relay may have it
SETTLING = ("before_commit", "after_commit")  # by the settler's thread: the sending one may have begun another mail
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=KINDS if BOTH else SQLITE)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Rig]]:
    settings = PATIENT | ONE_BY_ONE | {"DISPATCHER_DELIVERY__BATCH_SIZE": str(BATCH)}
    with rigged(request.param, tmp_path_factory.mktemp("steps"), **settings) as found:
        yield found


def rows(world: World, *mails: str) -> dict[str, DeliveryRecord]:
    """The deliveries of these messages, of one recipient each, with their timelines."""
    ledger = SqlLedger(world.ledger_url)
    found = {row.id.rpartition(".")[0]: row for row in ledger.find(Selector(ids=mails))}
    ledger.close()
    return found


def in_doubt(row: DeliveryRecord) -> int:
    """How often nobody knew whether it was sent."""
    return sum(step.state is State.IN_DOUBT for step in row.history)


def copies(world: World) -> Counter[str]:
    """What the sink has of each message."""
    return Counter(mail.message_id.strip("<>").partition("@")[0] for mail in orders.read(world.record))


def kill_at(steps: tuple[str, ...], world: World, rig: Rig, policy: str) -> dict[str, tuple[str, ...]]:
    """A death at each of these among mails of this policy, until nothing is under way; the messages in hand at each."""
    for step in steps:
        rig.arm(step, if_in_doubt=policy)
    world.submit(BATCH * (len(steps) + 4), if_in_doubt=policy)
    struck = {step: rig.struck(step).mails for step in steps}
    world.settle(120)
    return struck


def check_known(world: World, struck: dict[str, tuple[str, ...]]) -> None:
    """Where it is known what was sent, each message went out once, and nobody was in doubt."""
    known = [step for step in struck if step in KNOWN]
    found, sunk = rows(world, *(mail for step in known for mail in struck[step])), copies(world)
    for step in known:
        for mail in struck[step]:
            assert (found[mail].state, in_doubt(found[mail]), sunk[mail]) == ("sent", 0, 1), (step, found[mail])


def test_resend_sends_again_only_what_nobody_can_know(stage: tuple[World, Rig]) -> None:
    world, rig = stage
    struck = kill_at(STEPS, world, rig, "resend")
    check_known(world, struck)
    proof = world.prove(doubled=len(FAR + SETTLING), in_doubt_events=len(UNKNOWN + SETTLING))
    assert proof["held"] == 0
    found, sunk = rows(world, *(struck[step][0] for step in UNKNOWN)), copies(world)
    for step in UNKNOWN:
        row = found[struck[step][0]]
        assert (row.state, in_doubt(row)) == ("sent", 1), (step, row)
        assert 1 <= sunk[struck[step][0]] <= (2 if step in FAR else 1), step
    twice = struck["heard"][0]
    assert sunk[twice] == 2
    assert len({mail.sha256 for mail in orders.read(world.record) if twice in mail.message_id}) == 1


def test_hold_keeps_what_nobody_can_know_for_a_person(stage: tuple[World, Rig]) -> None:
    world, rig = stage
    struck = kill_at((*UNKNOWN, "after_250"), world, rig, "hold")
    check_known(world, struck)
    proof = world.prove(doubled=0, in_doubt_events=len(UNKNOWN))
    assert proof["held"] == len(UNKNOWN)
    found, sunk = rows(world, *(struck[step][0] for step in UNKNOWN)), copies(world)
    for step in UNKNOWN:
        row = found[struck[step][0]]
        assert (row.state, in_doubt(row)) == ("in_doubt", 1), (step, row)
        assert sunk[struck[step][0]] <= (1 if step in FAR else 0), step
    for outcome, meant in (("sent", True), ("resend", False)):  # as a person would who looks into the relay's log
        mails = [mail for mail in found if (sunk[mail] > 0) is meant]
        done = world.stack.run("messages", "resolve", f"--{outcome}", "--reason", "looked it up", "--yes", *mails)
        assert done.returncode == 0, done.stderr
    world.settle(120)
    assert world.prove(doubled=0)["held"] == 0
