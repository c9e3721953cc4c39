"""The test's side of the rig: a step of a delivery is armed, and the process that reaches it first is struck there."""

import json
import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.world import World, make_world
from tests.processes import children, command, member
from tests.waiting import wait_for

KNOWN = ("after_lease", "after_250", "before_commit", "after_commit")  # the journal or the ledger knows what was sent
UNKNOWN = ("after_begin", "mid_data", "after_dot", "heard")  # begun, and the answer is not written down
STEPS = (*KNOWN, *UNKNOWN)
PATIENT = {  # a lock tells at once that a process has died, so that its lease may be long: a slow machine is no fault
    "DISPATCHER_DELIVERY__LEASE_SECONDS": "90",
    "DISPATCHER_DELIVERY__TASK_SECONDS": "60",
    "DISPATCHER_DELIVERY__BATCH_SECONDS": "15",
    **{f"DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__{phase}": "20" for phase in ("CONNECT", "COMMAND", "FINAL")},
}
ONE_BY_ONE = {"DISPATCHER_DELIVERY__CONNECTIONS": "1"}  # so that a step is one mail's


@dataclass(frozen=True, slots=True)
class Struck:
    """The process that was struck, and the public ids of the messages that it had in hand at that step."""

    pid: int
    mails: tuple[str, ...]


class Rig:
    """``environment`` belongs into that of a stack; the steps are those of ``STEPS``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        outer = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(Path(__file__).parent), *([outer] if outer else [])])
        self.environment = {"RIG": str(folder), "PYTHONPATH": path}

    def arm(
        self, step: str, how: signal.Signals = signal.SIGKILL, *, if_in_doubt: str = "", sparing: bool = True
    ) -> None:
        """Strike the next process that is there with a message of this policy; if ``sparing``, not with one that was in
        hand at an earlier strike."""
        (self.folder / f"struck-{step}").unlink(missing_ok=True)
        order = self.folder / "order"
        order.write_text(json.dumps({"how": how, "if_in_doubt": if_in_doubt, "sparing": sparing}))
        order.rename(self.folder / f"armed-{step}")

    def struck(self, step: str, seconds: float = 120) -> Struck:
        """Wait until somebody was."""
        path = self.folder / f"struck-{step}"
        wait_for(path.exists, seconds)
        found = json.loads(path.read_text())
        return Struck(found["pid"], tuple(found["mails"]))

    @contextmanager
    def one_task_each(self) -> Iterator[None]:
        """Of the workers that start in this block, a child does one task, and is replaced."""
        path = self.folder / "one-task"
        path.touch()
        yield
        path.unlink()

    def set_clocks(self, now: float) -> float:
        """Let it be so late (seconds since the epoch) for all processes and for the ledger, from the next start of the
        stack on, or where it was set before it; by how many seconds they are ahead."""
        clock, ahead = self.folder / "clock", now - time.time()
        clock.touch()
        with clock.open("r+b") as file:
            file.write(struct.pack("d", ahead))
        self.environment["RIG_CLOCK"] = str(clock)
        return ahead

    def poisoned(self) -> list[str]:
        """The public ids of the messages to ``poison...``, once for each process that died of composing it."""
        path = self.folder / "poisoned"
        return path.read_text().split() if path.exists() else []


@contextmanager
def rigged(
    kind: str, folder: Path, *, final_seconds: float = 0.0, now: float | None = None, **environment: str
) -> Iterator[tuple[World, Rig]]:
    """A world (see ``make_world``) whose processes can be struck; ``now``: see ``Rig.set_clocks``."""
    rig = Rig(folder / "rig")
    if now is not None:
        rig.set_clocks(now)
    with make_world(kind, folder, final_seconds=final_seconds, **{**rig.environment, **environment}) as world:
        yield world, rig


def sender(world: World) -> int:
    """The pid of the transactional lane's worker, once it has a child."""

    def forked() -> int:
        pid = member(world.stack, "mail.transactional")
        return pid if children(pid) else 0

    return wait_for(forked, 120)


def ended(pid: int, seconds: float = 120) -> float:
    """Wait until a process is gone; how long that took."""
    began = time.monotonic()
    wait_for(lambda: not command(pid), seconds, every=0.01)
    return time.monotonic() - began
