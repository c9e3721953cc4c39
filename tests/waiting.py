"""Waiting for a condition, with a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float = 30.0, every: float = 0.05) -> T:
    """What ``condition`` answers as soon as it is true; AssertionError when it is not in time."""
    until = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < until, f"not within {seconds:g} s: {condition}"
        time.sleep(every)
    return answer
