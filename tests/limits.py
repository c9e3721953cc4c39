"""For tests of limits: rates with short windows, and whether a record of moments kept within them."""

from bisect import bisect_right
from collections.abc import Iterable

from dispatcher.rate import Rate, Window
from dispatcher.relay import Relay


def rate(*windows: tuple[int, float]) -> Rate:
    """A rate of any windows; the settings know only a second, a minute, an hour and a day."""
    return Rate(tuple(Window(limit, seconds, f"{limit}/{seconds:g}s") for limit, seconds in windows))


def relay(name: str = "main", *windows: tuple[int, float], max_connections: int | None = None) -> Relay:
    """A relay of that name with this rate."""
    return Relay(name=name, host="127.0.0.1", port=25, tls="none", rate=rate(*windows), max_connections=max_connections)


def most(moments: Iterable[float], seconds: float) -> int:
    """How many there are at most in any span of so many seconds, both ends included."""
    ordered = sorted(moments)
    return max((bisect_right(ordered, start + seconds) - n for n, start in enumerate(ordered)), default=0)
