"""How much a test takes on: enough to see a fault, or the whole of it with DISPATCHER_TEST_FULL=1 (``make faults``)."""

import os
from typing import TypeVar

T = TypeVar("T")
FULL = bool(os.environ.get("DISPATCHER_TEST_FULL"))


def sized(short: T, full: T) -> T:
    """The size of this run."""
    return full if FULL else short
