"""What ``doctor`` says about the broker, what waits on it, and the workers that it reaches."""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from dispatcher.cli.doctor.clock import clock
from dispatcher.cli.doctor.finding import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from dispatcher.adapters.redis import Broker
    from dispatcher.broker import BrokerAddress
    from dispatcher.settings import Settings

_MANY_WAITING = 10_000


def broker(settings: "Settings") -> Iterator[Finding]:
    """All about it."""
    from dispatcher.adapters.redis import Broker  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.runtime import broker_address  # noqa: PLC0415 - as above

    address = broker_address(settings)
    if address is None:
        advice = "start `dispatcher up`, or set DISPATCHER_BROKER_URL"
        yield Finding("broker", WARN, "no stack runs on this data folder", advice)
        return
    found = Broker(address)
    try:
        if (fault := found.fault()) is not None:
            yield Finding("broker", FAIL, str(fault), "correct the setting" if fault.refused else "start it, or wait")
            return
        yield from _server(found)
        yield _stream(found)
    finally:
        found.close()
    yield _workers(address)


@cache  # they take most of a second to answer
def _serving(address: "BrokerAddress") -> dict[str, tuple[str, ...]]:
    from dispatcher.adapters.workers import serving  # noqa: PLC0415 - --help needs none of it

    return serving(address) or {}


def hosts(settings: "Settings") -> int:
    """On how many hosts workers answer."""
    from dispatcher.adapters.runtime import broker_address  # noqa: PLC0415 - --help needs none of it

    address = broker_address(settings)
    return len({name.partition("@")[2] for name in _serving(address)}) if address else 0


def _server(broker: "Broker") -> Iterator[Finding]:
    from dispatcher.adapters.redis_health import hazards  # noqa: PLC0415 - --help needs none of it

    info: dict[str, Any] = broker.info() or {}
    name, version = info.get("server_name", "redis"), info.get("valkey_version") or info.get("redis_version", "")
    yield Finding("broker", OK, f"{broker.address.display} answers: {name} {version}".rstrip())
    found = {hazard.what: hazard for hazard in hazards(info)}
    well = {"eviction": "noeviction", "persistence": f"append-only file, fsync {info.get('appendfsync', 'unknown')}"}
    for what, hazard in found.items():
        yield Finding(what, FAIL if hazard.failure else WARN, hazard.found, hazard.advice)
    yield from (Finding(what, OK, how) for what, how in well.items() if info and what not in found)
    if "skew" in info:
        yield clock("the broker's", info["skew"])


def _stream(broker: "Broker") -> Finding:
    from dispatcher.adapters.stream import waiting  # noqa: PLC0415 - --help needs none of it

    entries = waiting(broker) or 0
    if entries > _MANY_WAITING:
        advice = "see that a worker serves mail.intake, and that it keeps up"
        return Finding("stream", WARN, f"{entries:,} entries wait to be accepted", advice)
    return Finding("stream", OK, f"{entries:,} entries wait to be accepted")


def _workers(address: "BrokerAddress") -> Finding:
    from dispatcher.adapters.celery import QUEUES  # noqa: PLC0415 - --help needs none of it

    served = {queue for queues in _serving(address).values() for queue in queues}
    if missing := [queue for queue in QUEUES if queue not in served]:
        return Finding("workers", WARN, f"nobody serves {', '.join(missing)}", "start `dispatcher up`, or such workers")
    return Finding("workers", OK, "every lane is served")
