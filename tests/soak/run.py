"""The soak: a stack under load, a fault every few seconds, and the sums in the end."""

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine, text

from dispatcher.ledger import LEASE_ENDED
from tests.faults.world import World, make_world
from tests.soak.deaths import Deaths
from tests.soak.faults import FAULTS, Fault, Scene
from tests.soak.load import Load
from tests.soak.report import Report

KINDS = {"sqlite": "sqlite+valkey", "postgres": "postgres+redis"}
LEASE = 6.0
EVERY = 5.0  # seconds between two faults, on average
HOLD = 0.3  # seconds that the relay takes over a final dot, at most
_SCRIPT = f"""
[[rule]]
phase = "final"
hold = [0.0, {HOLD}]
"""
_PATIENCE = 15.0  # seconds after which the next fault strikes what stands still, too
_FLOWING = 50  # mails that are to be taken before the first fault
_LOOK_SECONDS = 0.05
_SETTLE_SECONDS = 300.0
_SETTINGS = {
    "DISPATCHER_DELIVERY__LEASE_SECONDS": f"{LEASE:g}",
    "DISPATCHER_DELIVERY__TASK_SECONDS": "5.5",
    "DISPATCHER_DELIVERY__BATCH_SECONDS": "1",
    "DISPATCHER_DELIVERY__SWEEP_SECONDS": "0.3",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__CONNECT": "3",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__COMMAND": "3",
    "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__FINAL": "3",
    "DISPATCHER_RETRY__SCHEDULE": '["2s"]',
}
_DOUBTS = """
    SELECT message_id, last_at AS at FROM deliveries WHERE last_state = 'in_doubt' AND text = :ended
    UNION ALL
    SELECT message_id, at FROM attempts JOIN deliveries ON deliveries.id = delivery_id
    WHERE attempts.state = 'in_doubt' AND attempts.text = :ended
"""


def soak(
    folder: Path, *, kind: str, minutes: float, seed: int, processes: int = 12, say: Callable[[str], None] = print
) -> Report:
    """Run it in an empty folder. ``say`` takes a line for each thing that happens."""
    began = time.monotonic()
    more = {"DISPATCHER_DELIVERY__PROCESSES__TRANSACTIONAL": str(processes)}
    with make_world(KINDS[kind], folder, **_SETTINGS, **more) as world:
        world.sink.follow(_SCRIPT)
        port = int(world.sink.url.partition("?")[0].rpartition(":")[2])
        deaths = Deaths(world.stack.folder / "journal", port, time.time)
        scene = Scene(world, deaths, random.Random(seed), LEASE)
        load = Load(world.stack, folder, world.taken, waiting=100 * processes)
        load.start()
        world.flows(_FLOWING, 120)
        with deaths.watched():
            struck = Mixture(scene, say).run(60 * minutes, lambda: not load.trouble)
            load.stop()
            say(f"no more faults after {sum(struck.values())}; waiting until all is settled")
            idle = world.stack.run("wait", "--idle", "--timeout", f"{_SETTLE_SECONDS:g}", timeout=_SETTLE_SECONDS + 60)
        unexplained = _explain(world, deaths)
        return Report(
            kind=kind,
            seed=seed,
            seconds=time.monotonic() - began,
            accepted=load.accepted,
            again=load.again,
            trouble=load.trouble or (f"wait --idle: {idle.stderr.strip()}" if idle.returncode else ""),
            struck=dict(struck),
            deaths=deaths.all,
            unexplained=unexplained,
            proof=world.stack.json("verify", "--sink", str(world.record)),
            printed=world.stack.run("verify", "--sink", str(world.record)).stdout,
        )


class Mixture:
    """Strikes at random moments, and does what has to follow at its time.

    It waits for mail to flow after the fault before: what stands still already cannot show anything.
    """

    def __init__(self, scene: Scene, say: Callable[[str], None]) -> None:
        self._scene, self._say = scene, say
        self._began = time.monotonic()
        self._later: list[tuple[float, str, Callable[[], object]]] = []
        self._struck: Counter[str] = Counter()
        self._taken = 0

    def run(self, seconds: float, well: Callable[[], bool]) -> Counter[str]:
        """Strike for so long, or while it is ``well``; by fault, how often. What was frozen goes on in the end."""
        end, strike_at = self._began + seconds, self._began
        while (now := time.monotonic()) < end and well():
            if now >= strike_at and (self._flows() or now >= strike_at + _PATIENCE):
                strike_at = max(strike_at, now - EVERY) + self._scene.luck.expovariate(1 / EVERY)
                self._strike()
            self._do_what_is_due()
            time.sleep(_LOOK_SECONDS)
        while self._later:
            self._do_what_is_due()
            time.sleep(_LOOK_SECONDS)
        return self._struck

    def _flows(self) -> bool:
        return self._scene.world.taken() > self._taken

    def _strike(self) -> None:
        """One fault whose turn it may be; where there is nobody to strike, another one."""
        busy = {what for _, what, _ in self._later if what}
        free = [fault for fault in FAULTS if fault.what not in busy]
        while free:
            fault = self._scene.luck.choices(free, [fault.weight for fault in free])[0]
            if self._did(fault):
                return
            free.remove(fault)

    def _did(self, fault: Fault) -> bool:
        now = time.monotonic()
        later = fault.strike(self._scene)
        if later is None:
            return False
        self._struck[fault.name] += 1
        self._taken = self._scene.world.taken()
        self._later += [(now + seconds, fault.what, act) for seconds, act in later]
        self._say(f"{now - self._began:7.1f} s  {fault.name}  ({self._taken:,} mails taken)")
        return True

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        due = [each for each in self._later if each[0] <= now]
        self._later = [each for each in self._later if each[0] > now]
        for _, _, act in due:
            act()


def _explain(world: World, deaths: Deaths) -> int:
    """Lay each doubt that a worker's end left to the death that explains it; how many none explains."""
    engine = create_engine(world.ledger_url)
    with engine.connect() as connection:
        found = connection.execute(text(_DOUBTS), {"ended": LEASE_ENDED}).all()
    engine.dispose()
    return sum(not deaths.blame(row.message_id, row.at) for row in found)
