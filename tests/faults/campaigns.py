"""Campaigns on a world, made and held by the commands that a person would type."""

import csv
import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dispatcher import ids
from dispatcher.servers.recording import Received, Recording
from tests.audiences import TYPES, Facts
from tests.faults.world import World
from tests.waiting import wait_for

DATA = {"title": "Autumn", "intro": "the first frost is here.", "mark": "AD"}
_TYPES = [word for name, kind in TYPES.items() for word in ("--type", f"{name}={kind}")]


def write_people(path: Path, addresses: Iterable[str]) -> Path:
    """A list of addresses and nothing else."""
    path.write_text("".join(f"{line}\n" for line in ("Email", *addresses)), encoding="utf-8")
    return path


def run(world: World, *arguments: str, code: int = 0) -> str:
    """A command's stdout; ``code`` is how it must end."""
    done = world.stack.run(*arguments)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout


def imported(world: World, name: str, path: Path) -> dict[str, Any]:
    """The audience's new version; some of its rows may be bad."""
    done = _import(world, name, path)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _import(world: World, name: str, path: Path) -> "subprocess.CompletedProcess[str]":
    with path.open(encoding="utf-8") as lines:
        types = _TYPES if "Points" in lines.readline() else []
    return world.stack.run("audiences", "import", name, str(path), *types, "--yes", "--json")


def killed_import(world: World, name: str, path: Path) -> None:
    """One that is killed on its way (see the rig's ``mid_import``)."""
    assert _import(world, name, path).returncode < 0


def create(world: World, name: str, audience: str, *options: str) -> None:
    """A draft."""
    given = ("--template", "newsletter", "--audience", audience, "--list", "news", "--data", json.dumps(DATA))
    run(world, "campaigns", "create", name, *given, "--from", "Shop <shop@example.com>", *options)


def begin(world: World, name: str, audience: str, *options: str) -> None:
    """One that is checked and started."""
    create(world, name, audience, *options)
    run(world, "campaigns", "check", name)
    run(world, "campaigns", "start", name, "--yes")


def act(world: World, verb: str, name: str) -> float:
    """Pause or resume one; when that was done, by the ledger's clock."""
    return float(json.loads(run(world, "campaigns", verb, name, "--reason", "by a test", "--json"))["changed_at"])


def shown(world: World, name: str, code: int = 0) -> dict[str, Any]:
    """What ``campaigns show --json`` says."""
    found: dict[str, Any] = json.loads(run(world, "campaigns", "show", name, "--json", code=code))
    return found


def stands(world: World, name: str, state: str, seconds: float) -> dict[str, Any]:
    """Wait until it is in this state."""
    return wait_for(lambda: (found := shown(world, name))["state"] == state and found, seconds, every=0.5)


def of(world: World, submission: str) -> Iterator[Received]:
    """What the sink has taken of a campaign's mails."""
    for received in Recording.read(world.record) if world.record.exists() else ():
        reference = ids.parse(received.message_id)
        if reference is not None and reference.submission == submission:
            yield received


def quiet(world: World, seconds: float = 1.5) -> int:
    """Wait until the sink takes nothing for so long; how many it has then."""
    while True:
        before = world.taken()
        time.sleep(seconds)
        if world.taken() == before:
            return before


def meant(path: Path, facts: Facts, points: int) -> tuple[dict[int, str], int]:
    """Read anew, by the rules that the list was made by: the address of each row with so many points or more, and how
    many of those kept have fewer."""
    gone = {*facts.bad_rows, *facts.doubled_rows}
    found, fewer = dict[int, str](), 0
    with path.open(encoding="utf-8", newline="") as file:
        for n, row in enumerate(csv.DictReader(file), 2):
            if n in gone:
                continue
            if int(row["Points"]) >= points:
                found[n] = row["Email"]
            else:
                fewer += 1
    return found, fewer
