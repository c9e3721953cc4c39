"""What the machine is, and what processes on it use: read from /proc, so Linux only."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PACKAGES = ("celery", "kombu", "redis", "jinja2", "sqlalchemy", "django", "django-post-office")


def describe() -> dict[str, str]:
    """The machine and the versions, for the head of a result."""
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    memory = int(_lines("/proc/meminfo")[0].split()[1]) / 1024**2
    return {
        "machine": f"{os.cpu_count()} x {model or platform.machine()}, {memory:.0f} GiB",
        "system": f"Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def family(*roots: int) -> set[int]:
    """These processes and all that descend from them."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        if (fields := _stat(path)) is not None:
            parents[int(path.parent.name)] = int(fields[1])
    found = {pid for pid in roots if pid in parents}
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found


def cpu(*roots: int) -> float:
    """Seconds of CPU, user and system, that these processes and their descendants have used, ended ones too."""
    stats = (_stat(Path(f"/proc/{pid}/stat")) for pid in family(*roots))
    return sum(sum(map(int, fields[11:15])) for fields in stats if fields is not None) / _TICKS


def resident(*roots: int) -> dict[int, float]:
    """MiB of resident memory of each of these processes and their descendants."""
    found = {}
    for pid in family(*roots):
        try:
            found[pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1024**2
        except OSError:
            continue
    return found


def _stat(path: Path) -> list[str] | None:
    """The fields behind the name, from the state on; None when the process is gone."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
