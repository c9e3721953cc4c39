"""Keeps one process within the limits that all workers share: whether a message may go now, and when else.

Slots are taken in blocks of as many as can be used in time, so that most messages cost no call.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from dispatcher.interfaces import Clock, RateLimiter
from dispatcher.rate import Grant, Rate

IN_PLACE_SECONDS = 1.0  # a wait up to this is waited for; more goes back to the ledger
ROOM_SECONDS = 2.0  # messages for so long are leased at a paced relay
MAX_BLOCK = 200
_LOOK_SECONDS = 0.05  # how often a wait looks whether it is to end
_SOON_SECONDS = 0.05  # when to try again if slots came too late to be used
_FIRST_GUESS_SECONDS = 0.05  # for a transaction, before there was one


class _Slot(NamedTuple):
    """A message may go from ``start`` to ``end`` by our clock; ``at`` is the limiter's name for it."""

    start: float
    end: float
    at: float


@dataclass
class _Known:
    """What this process knows of one relay."""

    slots: deque[_Slot] = field(default_factory=deque)
    each: int = 1  # recipients of each slot
    usual: float | None = None  # seconds of a transaction, of late
    trip: float = 1.0  # seconds of a question to the limiter, at its best of late
    admitted: int = 0  # recipients of the message admitted last
    owed: int = 0  # recipients that were answered so late that they count in a later window than their slots
    closed_until: float = float("-inf")
    reason: str = ""
    # Messages that went before the rate was used up last; None: it was not of late. A limit of connections says nothing
    # of how many go over one, once it is to be had.
    fits: int | None = None
    went: int = 0  # since the last look at ``room``


class Throttle:
    """One per process, used by one thread. ``sleep`` takes seconds."""

    def __init__(self, limiter: RateLimiter, clock: Clock, sleep: Callable[[float], None] = time.sleep) -> None:
        self._limiter, self._clock, self._sleep = limiter, clock, sleep
        self._relays: dict[str, _Known] = {}

    def admit(self, relay: str, recipients: int, stopping: Callable[[], bool]) -> float:
        """0 when this message may go now, else the seconds until it may be tried. Waits in place for a slot that is
        near, unless ``stopping``. More recipients than a window allows count as all that it does."""
        rate = self._limiter.rate(relay)
        if not rate:
            return 0.0
        known, each = self._known(relay), min(recipients, rate.smallest)
        until = self._now() + IN_PLACE_SECONDS
        wait = self.closed(relay)
        while not wait:
            if self._use(relay, known, each):
                known.admitted = recipients
                return 0.0
            wait = self._next(relay, rate, known, each)
            if not wait:
                continue
            if self._now() + wait > until:
                if wait > IN_PLACE_SECONDS:
                    self.close_for(relay, wait, known.reason)
                    known.fits = max(1, known.went)
                break
            if not self._rest(wait, stopping):
                break
            wait = 0.0
        return wait

    def told(self, relay: str, seconds: float) -> None:
        """How long the last transaction took."""
        rate = self._limiter.rate(relay)
        if not rate:
            return
        known = self._known(relay)
        known.went += 1
        if known.usual is None:
            known.usual = seconds
            return
        if seconds > known.usual + 2 * rate.tolerance:
            known.owed += known.admitted
        known.usual += (seconds - known.usual) / 4

    def closed(self, relay: str) -> float:
        """Seconds for which it is known that nothing may go; 0: not known."""
        known = self._relays.get(relay)
        return max(0.0, known.closed_until - self._now()) if known else 0.0

    def reason(self, relay: str) -> str:
        """Why nothing may go, such as ``500/min is used up``."""
        known = self._relays.get(relay)
        return known.reason if known else ""

    def close_for(self, relay: str, seconds: float, reason: str) -> None:
        """Let nothing go for so long: the caller has met a limit elsewhere."""
        known = self._known(relay)
        known.closed_until, known.reason = self._now() + seconds, reason

    def room(self, relay: str, wanted: int) -> int:
        """How many messages are worth leasing, at least 1."""
        windows = self._limiter.rate(relay).windows
        most = [ROOM_SECONDS / window.pace if window.pace else window.limit for window in windows]
        return max(1, int(min([wanted, *most, self._fitting(relay, wanted)])))

    def _fitting(self, relay: str, wanted: int) -> int:
        """Twice of what went last time, after a limit was met: what is leased in vain has to be written back."""
        known = self._relays.get(relay)
        if known is None or known.fits is None:
            return wanted
        known.fits, known.went = max(known.fits, known.went), 0
        if known.fits >= wanted:
            known.fits = None
            return wanted
        return 2 * known.fits

    def _use(self, relay: str, known: _Known, each: int) -> bool:
        """Use what is at hand and may go now; what is over is given back."""
        count = 1 if known.each == each else self._together(relay, known, each)
        now = self._now()
        late = []
        while known.slots and now > known.slots[0].end:
            late.append(known.slots.popleft().at)
        if late:
            self._limiter.give_back(relay, late, known.each)
        if count == 0 or len(known.slots) < count or known.slots[count - 1].start > now:
            return False
        for _ in range(count):
            known.slots.popleft()
        return True

    def _together(self, relay: str, known: _Known, each: int) -> int:
        """How many slots make one for so many recipients; 0 when these cannot: paced ones may not go at one time."""
        paced = any(window.pace for window in self._limiter.rate(relay).windows)
        if known.each == 1 and not paced and len(known.slots) >= each:
            return each
        self._limiter.give_back(relay, [slot.at for slot in known.slots], known.each)
        known.slots.clear()
        known.each = each
        return 0

    def _next(self, relay: str, rate: Rate, known: _Known, each: int) -> float:
        """Seconds until the next slot may be used, taking a block if none is at hand; 0: now."""
        if not known.slots:
            grant = self._take(relay, rate, known, each)
            if not grant.slots:
                known.reason = grant.reason
                return max(grant.wait, 0.001)
        if not known.slots or known.slots[0].end < self._now():
            return _SOON_SECONDS
        last = 1 if known.each == each else min(each, len(known.slots))
        return max(0.0, known.slots[last - 1].start - self._now())

    def _take(self, relay: str, rate: Rate, known: _Known, each: int) -> Grant:
        if known.owed:
            known.owed -= len(self._limiter.take(relay, min(known.owed, MAX_BLOCK)).slots)  # used already
        usual = max(known.usual if known.usual is not None else _FIRST_GUESS_SECONDS, 0.0001)
        wanted = min(MAX_BLOCK, max(1, int(rate.tolerance / usual)))
        asked = self._now()
        grant = self._limiter.take(relay, wanted, each)
        answered = self._now()
        known.trip = min(answered - asked, known.trip * 1.1)
        slack = known.trip + rate.tolerance
        known.each = each
        known.slots = deque(_Slot(answered + wait, asked + wait + slack, grant.now + wait) for wait in grant.slots)
        return grant

    def _rest(self, seconds: float, stopping: Callable[[], bool]) -> bool:
        """Sleep; False when it had to end before its time."""
        until = self._now() + seconds
        while (left := until - self._now()) > 0:
            if stopping():
                return False
            self._sleep(min(left, _LOOK_SECONDS))
        return True

    def _known(self, relay: str) -> _Known:
        return self._relays.setdefault(relay, _Known())

    def _now(self) -> float:
        return self._clock.monotonic()
