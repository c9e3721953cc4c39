"""An ERP tells what happens, over Celery and the Python API, while workers and beat are killed: each order has its
confirmation and then its shipment notice, once, and the confirmation comes fast."""

import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import quantiles

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


def test_each_order_has_its_mails_once_and_in_order(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    files = [str(SAMPLES / name) for name in ("events.yaml", "welcome.yaml", "order_flow.yaml")]
    loaded = world.stack.run("automations", "load", *files)
    assert loaded.returncode == 0, loaded.stderr
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

    told = [json.loads(line) for line in told_to.read_text().splitlines()]
    first = {each["id"]: each["at"] for each in reversed(told)}
    created = {each["key"] for each in told if each["event"] == "order.created"}
    shipped = {each["key"] for each in told if each["event"] == "order.shipped"}
    registered = {each["key"] for each in told if each["event"] == "customer.registered"}
    with world.producer() as dispatcher:
        inside = {
            (EnrolmentState.ACTIVE, step): number
            for step, number in (("shipment", len(created - shipped)), ("review", len(created & shipped)))
            if number
        }
        wait_for(lambda: dispatcher.automations.counts("order_flow") == inside, sized(120, 600))
        wait_for(lambda: sum(dispatcher.automations.counts("welcome").values()) == len(registered), sized(60, 600))
    world.settle()
    world.submitted = len(created) + len(created & shipped) + len(registered)
    world.prove(doubled=CONNECTIONS * struck.total())

    mails: Mapping[str, list[Received]] = defaultdict(list)
    for mail in Recording.read(world.record):
        mails[mail.rcpt_to[0]].append(mail)
    waits = list[float]()
    for order in created:
        mine = mails[f"c-{order.removeprefix('SO-')}@example.com"]
        confirmed = [mail for mail in mine if str(mail.email["Subject"]).endswith(CONFIRMED)]
        noticed = [mail for mail in mine if str(mail.email["Subject"]).endswith(SHIPPED)]
        assert confirmed, f"{order} has no confirmation"
        assert bool(noticed) == (order in shipped), order
        assert not noticed or confirmed[0].time <= noticed[0].time, order
        waits.append(confirmed[0].time - first[f"{order}/created"])
    p95 = quantiles(waits, n=100)[94]
    record_property("struck", dict(struck))
    record_property("orders", len(created))
    record_property("p95", round(p95, 3))
    record_property("median", round(quantiles(waits, n=2)[0], 3))
    if FULL:
        assert p95 <= P95_SECONDS, quantiles(waits, n=20)
