"""The programs of ``dispatcher up``: which processes make a stack, and with what arguments."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import dispatcher
from dispatcher.adapters.supervisor import Program
from dispatcher.adapters.valkey import Valkey
from dispatcher.delivery import Lane
from dispatcher.settings import MARGIN_SECONDS, Settings, Timeouts

WORKERS, BEAT, FLOWER, BROKER = range(4)  # the order in which they stop: what feeds goes before what carries
PAGES = BEAT
_SELF = (sys.executable, "-c", "from dispatcher.cli import main; main()")
_HEARTBEAT_SECONDS = "20"  # Flower takes a worker for offline after two minutes without


def broker(valkey: Valkey) -> Program:
    """The embedded broker."""
    return Program("broker", valkey.command, stage=BROKER)


def workers(settings: Settings) -> list[Program]:
    """One worker for each lane, and one for intake and control."""
    processes = settings.delivery.processes
    found = {
        "transactional": (Lane.TRANSACTIONAL.queue, processes.transactional),
        "bulk": (Lane.BULK.queue, processes.bulk),
        "intake": ("mail.intake,mail.control", processes.intake),
    }
    grace = _longest_phase(settings) + MARGIN_SECONDS + 5
    return [
        Program(
            name,
            _worker(name, queues, size),
            stage=WORKERS,
            grace=grace,
            frozen=settings.delivery.lease_seconds,
            environment=_surroundings(),
        )
        for name, (queues, size) in found.items()
    ]


def _worker(name: str, queues: str, size: int) -> tuple[str, ...]:
    return (
        *_lean("worker"),
        *("-n", f"{name}@%h", "-Q", queues, "-c", str(size), "--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle", "--heartbeat-interval", _HEARTBEAT_SECONDS),
    )


def beat(settings: Settings) -> Program:
    """Rings the sweep."""
    schedule = settings.data_dir.resolve() / "beat-schedule"
    command = (*_lean("beat"), "--schedule", str(schedule), "--pidfile", "", "--loglevel", "WARNING")
    return Program("beat", command, stage=BEAT, environment=_surroundings())


def flower(settings: Settings, port: int) -> Program:
    """Flower on loopback."""
    command = (
        *(sys.executable, "-m", "celery", "-A", application(), "flower"),
        *("--address=127.0.0.1", f"--port={port}", "--persistent=False", "--max_tasks=5000"),
        *("--purge_offline_workers=300", "--logging=warning"),
    )
    environment = _surroundings()
    if settings.flower_password is not None:  # by the environment: arguments can be read by every user
        environment["FLOWER_BASIC_AUTH"] = f"dispatcher:{settings.flower_password.get_secret_value()}"
    return Program("flower", command, stage=FLOWER, environment=environment)


def pages() -> Program:
    """Our pages."""
    return Program("pages", (*_SELF, "pages", "--wait"), stage=PAGES, environment=_surroundings())


def _lean(command: str) -> tuple[str, ...]:
    """Celery's command without Celery's plug-ins."""
    return sys.executable, "-m", application(), command


def application() -> str:
    """The Celery application's name: within the package when installed, beside it in a checkout."""
    return "dispatcher.tasks" if find_spec("dispatcher.tasks") is not None else "tasks"


def _surroundings() -> dict[str, str]:
    """Find the very package that this process runs, whatever folder it runs in, and no other ``tasks`` before ours.

    Celery puts the working folder first on the path unless it is on it already: hence last.
    """
    root = str(Path(dispatcher.__file__).resolve().parents[1])
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {
        "PYTHONPATH": os.pathsep.join([root, *others, str(Path.cwd())]),
        "PYTHONSAFEPATH": "1",
        "MALLOC_ARENA_MAX": "1",  # glibc's arena for each thread costs more memory than it saves time here
    }


def _longest_phase(settings: Settings) -> float:
    """Seconds that a mail in the middle of its delivery may take to end."""
    timeouts = [relay.timeouts for relay in settings.relays.values()] or [Timeouts()]
    return max(max(t.connect, t.command, t.final) for t in timeouts)
