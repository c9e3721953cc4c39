"""What a campaign asks for beside its relay's limits: hours of the day by everybody's clock, and a rate of its own."""

from collections.abc import Sequence
from functools import lru_cache

from dispatcher.delivery import LeasedMessage
from dispatcher.hours import Hours
from dispatcher.interfaces import RateLimiter
from dispatcher.ledger import CAMPAIGN
from dispatcher.rate import Rate
from dispatcher.throttle import Throttle

OUTSIDE = "outside its send hours"


class Pacing:
    """One per process, used by the thread that sends. Mail that may not go now is given back with a time of its own, so
    that it is not leased again in vain."""

    def __init__(self, limiter: RateLimiter, throttle: Throttle) -> None:
        self._limiter, self._throttle = limiter, throttle
        self._met: set[str] = set()  # campaigns whose rate was used up

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
        name = _name(submission)
        self._limiter.pace(name, _rate(texts))
        wait = self._throttle.closed(name) or self._throttle.admit(name, recipients, lambda: True)
        if not wait:
            return 0.0, ""
        if not self._throttle.closed(name):
            self._throttle.close_for(name, wait, self._throttle.reason(name))
        self._met.add(name)
        return wait, f"its campaign's rate: {', '.join(texts)}"

    def turn(self, name: str, texts: tuple[str, ...]) -> float:
        """Seconds until one more of these may be begun, by a rate of their own; 0: now."""
        self._limiter.pace(name, _rate(texts))
        return self._throttle.closed(name) or self._throttle.admit(name, 1, lambda: True)

    def told(self, leased: LeasedMessage, seconds: float) -> None:
        """How long its transaction took."""
        if "rate" in leased.shared:
            self._throttle.told(_name(leased.submission), seconds)

    def closed(self) -> dict[str, float]:
        """Campaigns that are known to have used up their rate, as ``Ledger.lease`` avoids them, and for how many
        seconds: their mail is not leased, so that others' in the lane is."""
        found = {name: wait for name in self._met if (wait := self._throttle.closed(name))}
        self._met = set(found)
        return found


def _name(submission: str) -> str:
    return f"{CAMPAIGN}{submission}"


@lru_cache(maxsize=64)
def _hours(text: str) -> Hours:
    return Hours.parse(text)


@lru_cache(maxsize=64)
def _rate(texts: Sequence[str]) -> Rate:
    return Rate.parse(texts, "rate").at_once()
