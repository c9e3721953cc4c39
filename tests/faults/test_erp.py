"""An ERP tells what happens, over Celery and the Python API, while workers and beat are killed: each order has its
confirmation and then its shipment notice, once, none after it was cancelled, and the confirmation comes fast."""

import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from dispatcher.enrolment import EnrolmentState
from dispatcher.servers.recording import Received, Recording
from tests.faults.world import BOTH, CONNECTIONS, KINDS, POSTGRES, World, make_world
from tests.processes import children, kill, member
from tests.sizes import FULL, sized
from tests.waiting import wait_for

RATE, SECONDS = sized((20, 15.0), (50, 300.0))
STRIKES = sized(4, 10)
P95_SECONDS = 2.0
SAMPLES = Path(__file__).parents[2] / "dispatcher" / "samples"
CONFIRMED, SHIPPED = ("is confirmed", "已确认"), ("is on its way", "已发货")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(240, 1800))]


@pytest.fixture(scope="module", params=KINDS if BOTH else POSTGRES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("erp")
    with make_world(request.param, folder, DISPATCHER_FROM="Shop <shop@example.com>") as made:
        yield made


def strike(world: World) -> str:
    """Kill the beat, a worker, or one of its children; which."""
    program = random.choice(("tasks beat", "mail.control", "mail.transactional"))
    pid = member(world.stack, program)
    below = children(pid) if program != "tasks beat" else []
    chosen = random.choice([pid, *below])
    kill(chosen)
    return f"{program}{' child' if chosen != pid else ''}"


def play(world: World) -> tuple[list[dict[str, Any]], Counter[str]]:
    """A day of the ERP's, with its strikes: what it told, and what was struck."""
    told_to = world.folder / "events.jsonl"
    options = {"--rate": RATE, "--seconds": SECONDS, "--processes": 3, "--door": "both", "--broker": world.broker_url}
    erp = [sys.executable, "-m", "examples.erp", "--record", str(told_to)]
    for name, value in options.items():
        erp += [name, str(value)]
    simulator = subprocess.Popen(erp, env=world.stack.environment, cwd=Path(__file__).parents[2])
    struck = Counter[str]()
    try:
        for _ in range(STRIKES):
            with pytest.raises(subprocess.TimeoutExpired):
                simulator.wait(SECONDS / (STRIKES + 1))
            struck[strike(world)] += 1
        assert simulator.wait(SECONDS + 120) == 0
    finally:
        simulator.kill()
        simulator.wait(30)
    return [json.loads(line) for line in told_to.read_text().splitlines()], struck


def test_each_order_has_its_mails_once_and_in_order(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    files = [str(SAMPLES / name) for name in ("events.yaml", "welcome.yaml", "order_flow.yaml")]
    loaded = world.stack.run("automations", "load", *files)
    assert loaded.returncode == 0, loaded.stderr
    told, struck = play(world)
    first = {each["id"]: each["at"] for each in reversed(told)}
    created, shipped, cancelled, registered = (
        {each["key"] for each in told if each["event"] == event}
        for event in ("order.created", "order.shipped", "order.cancelled", "customer.registered")
    )
    with world.producer() as dispatcher:
        automations, active = dispatcher.automations, EnrolmentState.ACTIVE
        inside = {
            (EnrolmentState.EXITED, None): len(created & cancelled),
            (active, "shipment"): len(created - cancelled - shipped),
            (active, "review"): len((created & shipped) - cancelled),
        }
        inside = {where: number for where, number in inside.items() if number}
        wait_for(lambda: automations.counts("order_flow") == inside, sized(120, 600))
        wait_for(lambda: automations.counts("welcome") == {(active, "first steps"): len(registered)}, sized(60, 600))
        sent = Counter((step.key, step.passed.step) for step in automations.steps("order_flow"))
        events = automations.events(limit=10 * len(told))
    assert {each.id for each in events} == first.keys()
    # they are the newest first: of several parcels, the first one stays
    came = {(each.name, each.data.get("order", {}).get("id")): each.received_at for each in events}
    assert set(sent.values()) == {1}
    world.settle()
    world.submitted = sent.total() + len(registered)
    world.prove(doubled=CONNECTIONS * struck.total())

    mails: Mapping[str, list[Received]] = defaultdict(list)
    for mail in Recording.read(world.record):
        mails[mail.rcpt_to[0]].append(mail)
    waits = list[float]()
    for order in created:
        mine = mails[f"c-{order.removeprefix('SO-')}@example.com"]
        confirmed = [mail for mail in mine if str(mail.email["Subject"]).endswith(CONFIRMED)]
        noticed = [mail for mail in mine if str(mail.email["Subject"]).endswith(SHIPPED)]
        assert len({mail.message_id for mail in confirmed}) == sent[order, "confirmation"], order
        assert len({mail.message_id for mail in noticed}) == sent[order, "shipment"], order
        assert not noticed or confirmed[0].time <= noticed[0].time, order
        if order in cancelled:
            for event, mail in (("order.created", confirmed), ("order.shipped", noticed)):
                assert not mail or came[event, order] <= came["order.cancelled", order], (
                    f"{order}: after its cancellation"
                )
            continue
        assert confirmed, f"{order} has no confirmation"
        assert bool(noticed) == (order in shipped), order
        waits.append(confirmed[0].time - first[f"{order}/created"])
    p95 = quantiles(waits, n=100)[94]
    record_property("struck", dict(struck))
    record_property("orders", len(created))
    record_property("cancelled", len(created & cancelled))
    record_property("p95", round(p95, 3))
    record_property("median", round(quantiles(waits, n=2)[0], 3))
    if FULL:
        assert p95 <= P95_SECONDS, quantiles(waits, n=20)
