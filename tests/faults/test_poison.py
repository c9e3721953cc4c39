"""A message whose composing kills the process: it is given up after four deaths, and takes no other mail with it."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults.rig.arming import ONE_BY_ONE, PATIENT, Rig, rigged
from tests.faults.test_worker_steps import in_doubt, rows
from tests.faults.world import BOTH, KINDS, POSTGRES, World

AROUND = 20  # mails before, between and behind the poisoned ones, in the same batches
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=KINDS if BOTH else POSTGRES)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Rig]]:
    with rigged(request.param, tmp_path_factory.mktemp("poison"), **PATIENT | ONE_BY_ONE) as found:
        yield found


def test_poison_is_invalid_after_four_deaths_and_all_others_are_sent(stage: tuple[World, Rig]) -> None:
    world, rig = stage
    assert world.stack.run("pause", "transactional").returncode == 0
    for policy in ("resend", "hold"):
        world.submit(AROUND)
        world.submit(1, to=[f"poison-{policy}@example.com"], if_in_doubt=policy)
    world.submit(AROUND)
    assert world.stack.run("resume", "transactional").returncode == 0
    world.settle(120)
    deaths = Counter(rig.poisoned())
    assert len(deaths) == 2
    assert max(deaths.values()) == 4  # the other one was also in hand at deaths that were not of its making
    for row in rows(world, *deaths).values():
        assert row.state == "invalid"
        assert row.text == "ended its worker four times"
        assert in_doubt(row) == 0, row.history
    proof = world.prove(in_doubt_events=0, doubled=0)
    assert proof["states"] == {"sent": 3 * AROUND, "invalid": 2}
