"""Send hours by everybody's own clock, over real workers, in a night on which clocks are changed: the processes and the
ledger live just before 01:00 UTC on the last Sunday of March, when London's go from 00:59 to 02:00, Berlin's from 01:59
to 03:00."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from dispatcher.delivery import Selector
from dispatcher.hours import Hours
from dispatcher.zones import wall
from tests.audiences import ZONES
from tests.faults import campaigns
from tests.faults.rig.arming import Rig, rigged
from tests.faults.world import BOTH, KINDS, SQLITE, World
from tests.sizes import sized
from tests.waiting import wait_for

SWITCH = datetime(2027, 3, 28, 1, tzinfo=UTC).timestamp()
BEFORE = 6.0  # seconds from which on it is lived through
EACH = sized(12, 500)  # people of each zone
HOURS = Hours.parse("02:00-04:00; 08:30-22:00")
SWITCHING = {"Europe/London", "Europe/Lisbon", "Europe/Berlin"}
LATE = 5.0  # seconds that a mail may be under way
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=KINDS if BOTH else SQLITE)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Rig]]:
    with rigged(request.param, tmp_path_factory.mktemp("hours"), now=SWITCH - 3600) as found:
        yield found


def open_at(moment: float) -> set[str]:
    """Where mail may go then."""
    return {zone for zone in ZONES if not HOURS.wait(moment, zone)}


def test_an_hour_that_clocks_skip_holds_up_nobody_and_nobody_gets_it_at_night(
    stage: tuple[World, Rig], record_property: Callable[[str, object], None]
) -> None:
    world, rig = stage
    people = {f"{zone.lower().replace('/', '-')}-{n}@example.com": zone for zone in ZONES for n in range(EACH)}
    path = world.folder / "people.csv"
    path.write_text("Email,Time zone\n" + "".join(f"{to},{zone}\n" for to, zone in people.items()), encoding="utf-8")
    campaigns.imported(world, "people", path)
    campaigns.begin(world, "night", "people", "--hours", HOURS.text)
    early, late = open_at(SWITCH - 3600), open_at(SWITCH + 1)
    assert early
    assert late - open_at(SWITCH - 1) >= SWITCHING
    wait_for(lambda: world.taken() >= EACH * len(early), 60)

    ahead = rig.set_clocks(SWITCH - BEFORE)
    wait_for(lambda: time.time() + ahead > SWITCH, 30)
    wait_for(lambda: world.taken() >= EACH * len(early | late), 60)
    world.settle(60)
    shown = campaigns.shown(world, "night")
    assert (shown["state"], shown["faults"]) == ("running", [])
    moments = defaultdict[str, list[float]](list)
    for taken in campaigns.of(world, shown["submission"]):
        moments[people[taken.rcpt_to[0]]].append(taken.time + ahead)
    assert {zone: len(found) for zone, found in moments.items()} == dict.fromkeys(early | late, EACH)
    for zone in late - early:
        for moment in moments[zone]:
            assert 0.0 in (HOURS.wait(moment, zone), HOURS.wait(moment - LATE, zone)), (zone, wall(moment, zone))
    at = [moment - SWITCH for zone in SWITCHING for moment in moments[zone]]
    record_property("after the switch", (min(at), max(at)))
    assert min(at) >= 0
    with world.producer() as producer:
        found = list(producer.ledger.find(Selector(ids=(shown["submission"],))))
    rest = [row for row in found if people[row.rcpt] not in moments]
    assert {(row.state, row.attempts, row.due_at > SWITCH + 60) for row in rest} == {("queued", 0, True)}
    assert {(row.state, row.attempts) for row in found if people[row.rcpt] in moments} == {("sent", 1)}
    world.submitted += len(people)
    world.prove(doubled=0, in_doubt_events=0)
