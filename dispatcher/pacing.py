"""What a campaign asks for beside its relay's limits: hours of the day by everybody's clock, and a rate of its own."""

from collections.abc import Sequence
from functools import lru_cache

from dispatcher.delivery import LeasedMessage
from dispatcher.hours import Hours
from dispatcher.interfaces import Clock, RateLimiter
from dispatcher.rate import Rate
from dispatcher.throttle import Throttle

OUTSIDE = "outside its send hours"
_NAME = "campaign/"


class Pacing:
    """One per process, used by the thread that sends. Mail that may not go now is given back with a time of its own, so
    that it is not leased again in vain."""

    def __init__(self, limiter: RateLimiter, throttle: Throttle, clock: Clock) -> None:
        self._limiter, self._throttle, self._clock = limiter, throttle, clock
        self._next: dict[str, float] = {}  # monotonic: when the last one that was given back comes again

    def wait(self, leased: LeasedMessage, now: float) -> tuple[float, str]:
        """Seconds until this message may go, and why; 0: now. ``now`` is the ledger's clock."""
        shared = leased.shared
        if (hours := shared.get("hours")) is not None:
            zone = leased.own.get("zone") or shared.get("zone") or "UTC"
            if wait := _hours(hours).wait(now, zone):
                return wait, OUTSIDE
        if (rate := shared.get("rate")) is not None:
            return self._paced(leased.submission, tuple(rate), len(leased.deliveries))
        return 0.0, ""

    def _paced(self, submission: str, texts: tuple[str, ...], recipients: int) -> tuple[float, str]:
        """It never waits in place: others may go meanwhile."""
        name, rate = f"{_NAME}{submission}", _rate(texts)
        self._limiter.pace(name, rate)
        wait = self._throttle.closed(name) or self._throttle.admit(name, recipients, lambda: True)
        if not wait:
            return 0.0, ""
        now = self._clock.monotonic()
        self._throttle.close_for(name, wait, self._throttle.reason(name))
        pace = max(window.seconds / window.limit for window in rate.windows)
        self._next[name] = max(now + wait, self._next.get(name, 0.0)) + pace
        return self._next[name] - now, f"its campaign's rate: {', '.join(texts)}"


@lru_cache(maxsize=64)
def _hours(text: str) -> Hours:
    return Hours.parse(text)


@lru_cache(maxsize=64)
def _rate(texts: Sequence[str]) -> Rate:
    return Rate.parse(texts, "rate")
