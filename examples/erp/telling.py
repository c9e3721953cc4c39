"""One of the ERP's processes: it tells its share of the day at its share of the rate."""

import argparse
import signal
import time
from contextlib import AbstractContextManager
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import NamedTuple

from examples.erp import doors
from examples.erp.shop import day


class Row(NamedTuple):
    """A line of the record: what was told, by which door, and when that began, in seconds since the epoch."""

    event: str
    id: str
    key: str
    door: str
    at: float


class Shared(NamedTuple):
    """What all processes see: whether the day is over, and how many events were told."""

    over: Event
    told: "Synchronized[int]"


_shared: Shared


def begin(shared: Shared) -> None:
    """In a new process, which is ended by `shared.over`, not by Ctrl-C."""
    global _shared  # noqa: PLW0603 - a pool hands such things over to its processes only in this way
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def part(n: int, given: argparse.Namespace, broker: str) -> list[Row]:
    """The nth of `given.processes`, until the day is over. Raises Refused."""
    by_celery = given.door == "celery" or (given.door == "both" and n % 2 == 0)
    door: AbstractContextManager[doors.Door] = doors.celery(broker) if by_celery else doors.python()
    name, pause, rows = "celery" if by_celery else "python", given.processes / given.rate, list[Row]()
    with door as tell:
        start = time.monotonic()
        for number, told in enumerate(day(given.seed, n, given.processes)):
            due = number * pause  # by the clock, whatever each telling takes
            if due >= given.seconds or _shared.over.wait(max(0.0, start + due - time.monotonic())):
                break
            rows.append(Row(told.event, told.id, told.key, name, time.time()))
            tell(told.document())
            with _shared.told:
                _shared.told.value += 1
    return rows
