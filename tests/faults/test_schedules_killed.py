"""Two beats ring for schedules while they, and the workers that note and fire, are killed again and again: each
occurrence stands in the history once, has fired, and its mail has arrived once."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from dispatcher.dispatcher import Dispatcher
from dispatcher.schedule import Occurrence, OccurrenceState
from tests.faults.world import BOTH, KINDS, SQLITE, World, make_world
from tests.processes import children, kill, member
from tests.sizes import sized
from tests.waiting import wait_for

SECONDS = sized(10.0, 300.0)
MAIL = {"to": ["li@example.com"], "subject": "Tick", "text": "It is time.", "from": "clock@example.com"}
NEWS = {
    "template": "newsletter",
    "audience": "people",
    "list": "news",
    "from": "shop@example.com",
    "data": {
        "mark": "AD",
        "title": "Autumn",
        "intro": "the first frost is here.",
        "sections": [{"heading": "Chairs", "text": "Forty.", "url": "https://shop.example/chair"}],
        "company": {"name": "Harbor", "url": "https://shop.example"},
    },
}
PEOPLE = "email,first name\nada@example.com,Ada\nbo@example.com,Bo\nli@example.com,Li\n"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(180, 1800))]


@pytest.fixture(scope="module", params=KINDS if BOTH else SQLITE)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(request.param, tmp_path_factory.mktemp("schedules")) as made:
        yield made


@contextmanager
def beat(world: World) -> Iterator[None]:
    """Another one."""
    command = [sys.executable, "-m", "tasks", "beat", "--schedule", str(world.folder / "second"), "--pidfile", ""]
    quiet = subprocess.DEVNULL
    second = subprocess.Popen(command, env=world.stack.environment, stdout=quiet, stderr=quiet)
    try:
        yield
        assert second.poll() is None
    finally:
        second.kill()
        second.wait(30)


def strike(world: World) -> None:
    """One of those who note and fire, all of them, or the beat."""
    worker = member(world.stack, "mail.control")
    chosen = random.choice(("child", "parent", "beat"))
    if chosen == "beat":
        kill(member(world.stack, "tasks beat"))
    elif chosen == "parent" or not children(worker):
        kill(worker)
    else:
        kill(random.choice(children(worker)))


def history(dispatcher: Dispatcher, name: str) -> list[Occurrence]:
    """The oldest first; all that have ended."""
    found = dispatcher.schedules.history(name, 10_000)[::-1]
    return found if all(each.state is not OccurrenceState.DUE for each in found) else []


def test_whoever_is_killed_each_occurrence_fires_once(world: World) -> None:
    (world.folder / "people.csv").write_text(PEOPLE, encoding="utf-8")
    add = ("schedules", "add", "--catch-up", "all")
    for arguments in (
        ("audiences", "import", "people", str(world.folder / "people.csv")),
        (*add, "tick", "--every", "1s", "--submission", json.dumps(MAIL)),
        (*add, "news", "--every", "4s", "--campaign", json.dumps(NEWS)),
    ):
        done = world.stack.run(*arguments)
        assert done.returncode == 0, done.stderr
    with beat(world), world.producer() as dispatcher:
        until, strikes = time.monotonic() + SECONDS, 0
        while time.monotonic() < until:
            time.sleep(random.uniform(0.5, 2.0))
            strike(world)
            strikes += 1
        for name in ("tick", "news"):
            done = world.stack.run("schedules", "edit", name, "--every", "365d", "--reason", "enough")
            assert done.returncode == 0, done.stderr
        ticks, news = (wait_for(lambda name=name: history(dispatcher, name), 60) for name in ("tick", "news"))  # type: ignore[misc]  # mypy knows no defaults
        campaigns = dispatcher.campaigns.listed()
        wait_for(lambda: all(each.finished_at for each in dispatcher.campaigns.listed()), 60)
        keys = Counter(dispatcher.ledger.submission(each.outcome.split()[1]).key for each in ticks)
    assert strikes >= 5
    for found, step in ((ticks, 1.0), (news, 4.0)):
        assert {each.state for each in found} == {OccurrenceState.FIRED}
        assert {after.at - before.at for before, after in pairwise(found)} == {step}
        assert len(found) >= int(SECONDS / step) - 1
    assert set(keys.values()) == {1}
    assert len({each.outcome for each in news}) == len(news) == len(campaigns)
    world.submitted += len(ticks) + 3 * len(campaigns)
    world.settle()
    world.prove(doubled=0, in_doubt_events=0)
