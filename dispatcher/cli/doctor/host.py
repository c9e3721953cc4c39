"""What ``doctor`` says about this host: the files of the settings, and the data folder."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dispatcher.cli.doctor.finding import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from dispatcher.settings import Settings

_FREE_BYTES = 500 * 1024 * 1024
_STUCK_SECONDS = 10.0
_SECRET = re.compile(r"://[^/\s\"']*:[^/\s\"'@]+@|^\s*\w*(password|secret)\w*\s*=", re.MULTILINE)


def settings(settings: "Settings") -> Iterator[Finding]:
    """Whether they are complete, and whose eyes can read the secrets among them."""
    from dispatcher.sources import stamp  # noqa: PLC0415 - --help needs none of it

    if settings.sender is None:
        advice = "set DISPATCHER_FROM, or every submission has to name its own"
        yield Finding("settings", WARN, "readable; no sender is set", advice)
    else:
        yield Finding("settings", OK, "readable")
    for name, *_ in stamp():
        path = Path(name)
        if path.stat().st_mode & stat.S_IROTH and (path.suffix != ".toml" or _SECRET.search(path.read_text("utf-8"))):
            yield Finding("secrets", WARN, f"{path} can be read by every user of this host", f"chmod o-rwx {path}")


def data_folder(settings: "Settings") -> Iterator[Finding]:
    """It holds the embedded broker, the ledger and the attachments unless these are elsewhere, and what a worker notes
    while it sends: so it must be this host's own, private, and have room."""
    from dispatcher.adapters.mounts import network  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.runtime import writable  # noqa: PLC0415 - as above

    writable(settings)
    folder = settings.data_dir.resolve()
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    amiss = False
    if folder.stat().st_mode & 0o077:
        amiss = True
        yield Finding("data folder", WARN, f"{folder} can be entered by others", f"chmod 700 {folder}")
    if free < _FREE_BYTES:
        amiss = True
        advice = "make room before the disk is full"
        yield Finding("data folder", WARN, f"{folder} has {free / 1e6:,.0f} MB left", advice)
    if kind := network(folder):
        amiss = True
        advice = "name a folder on a local disk in DISPATCHER_DATA_DIR, one for each host: workers do not start here"
        yield Finding("data folder", FAIL, f"{folder} is on a network file system ({kind})", advice)
    if not amiss:
        yield Finding("data folder", OK, f"{folder}, {free / 1e9:,.0f} GB free")


def journals(settings: "Settings") -> Iterator[Finding]:
    """The journals of this host's workers: those that live, and those whose work waits to be taken up."""
    from dispatcher.adapters.journals import FileJournals  # noqa: PLC0415 - as above

    found = FileJournals.of(settings.data_dir)
    living, stuck = found.living(), [each for each in found.overdue(_STUCK_SECONDS) if each.holding]
    missing = _expected(settings) - len(living)
    with found.dead() as dead:
        left = sum(not each.closed for each in dead)
    text = f"{len(living)} of processes that run" + (f", {left} of ones that were killed" if left else "")
    if stuck:
        advice = "end them: kill -9 " + " ".join(str(each.pid) for each in stuck)
        yield Finding("journals", FAIL, f"{text}; {len(stuck)} with a lease that is over", advice)
    elif missing > 0:
        advice = "start this host's workers again: what such a process has in hand when it dies waits for host_grace"
        yield Finding(
            "journals", WARN, f"{text}; {missing} of this stack's have none: just started, or removed?", advice
        )
    elif left and not living:
        advice = "start a worker on this host: it settles what they had in hand"
        yield Finding("journals", WARN, text, advice)
    else:
        yield Finding("journals", OK, text)


def _expected(settings: "Settings") -> int:
    """How many processes of the stack that runs here have a journal; 0 when none does, or it is only starting."""
    from dispatcher.adapters.runtime import read  # noqa: PLC0415 - --help needs none of it

    stack = read(settings.data_dir)
    return int(stack.get("journals", 0)) if stack and stack.get("ready") else 0
