"""What endangers the queues of a Redis that answers: for ``doctor``, and for the log when a stack or worker starts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_FULL = 0.7
_OLDEST = (6, 2)


@dataclass(frozen=True, slots=True)
class Hazard:
    """``what`` part of the server, whether it is a ``failure`` or may become one, and what to do about it."""

    what: str
    failure: bool
    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.found}: {self.advice}"


def hazards(info: Mapping[str, Any]) -> Iterator[Hazard]:
    """By ``Broker.info``."""
    version = str(info.get("redis_version", ""))
    if _numbers(version) and _numbers(version) < _OLDEST:
        yield Hazard("version", True, f"the broker is Redis {version}", "6.2 is the oldest that works")
    if info.get("role") not in (None, "master"):
        advice = "name its master, or its sentinels, in DISPATCHER_BROKER_URL"
        yield Hazard("role", True, "the broker is a read-only replica", advice)
    yield from _memory(info)
    yield from _persistence(info)


def _memory(info: Mapping[str, Any]) -> Iterator[Hazard]:
    policy = info.get("maxmemory_policy", "noeviction")
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if policy != "noeviction":
        yield Hazard(
            "eviction", True, f"the broker's maxmemory-policy is {policy}",
            "set maxmemory-policy noeviction: any other deletes queues",
        )  # fmt: skip
    if limit and used >= _FULL * limit:
        yield Hazard(
            "memory", False, f"the broker uses {used / limit:.0%} of its maxmemory of {limit / 1e6:,.0f} MB",
            "raise maxmemory, or see why `mail.intake` is not emptied",
        )  # fmt: skip


def _persistence(info: Mapping[str, Any]) -> Iterator[Hazard]:
    if not int(info.get("aof_enabled", 0)):
        kept = "only snapshots" if info.get("save") else "nothing"
        yield Hazard(
            "persistence", False, f"the broker keeps {kept} on disk (appendonly is no)",
            "set appendonly yes: submissions over Celery and the stream live on it until they are accepted",
        )  # fmt: skip
    for name, what in (("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "last snapshot")):
        if info.get(name, "ok") != "ok":
            yield Hazard(
                "persistence", True, f"the broker could not write its {what}", "see its log and its disk's free space"
            )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
