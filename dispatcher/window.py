"""When mail may go: the slots of one relay. Pure; ``adapters/limits.lua`` says the same to Redis.

A slot is a moment at which the recipients of one message may be handed over. Each is counted in every window, in a
bucket by its time, and stays counted until the bucket's end, the window and its margin have passed: as long as the
relay answers within the margin, no span of the window's length holds more than the limit by the relay's own clock.
"""

from typing import NamedTuple

from dispatcher.rate import Rate, Window

MICRO = 1_000_000  # all times here are whole microseconds
HORIZON = 1 * MICRO  # how far ahead a slot is granted
PATIENCE = 60 * MICRO  # after which a message of many recipients goes before those of fewer
CALLBACK = 30 * MICRO  # for how long its place is kept after the moment at which it was told to come again


def micros(seconds: float) -> int:
    """In whole microseconds."""
    return round(seconds * MICRO)


class Slots(NamedTuple):
    """The moments that were granted; when these are too few, the ``wait`` until the next and the window that is full
    (None: a message of many recipients goes first)."""

    moments: list[int]
    wait: int = 0
    full: Window | None = None


class _Big(NamedTuple):
    """A message that did not fit: with how many recipients, refused since when, expected again until when."""

    each: int
    since: int
    until: int


class _Buckets:
    """What was granted in one window, by the number of its bucket."""

    def __init__(self, window: Window) -> None:
        self.window, self.grain = window, micros(window.grain)
        self._length = micros(window.seconds) + micros(window.margin)
        self.counts: dict[int, int] = {}

    def used(self, at: int) -> int:
        return sum(count for bucket, count in self.counts.items() if self._ends(bucket) > at)

    def earliest(self, at: int, each: int) -> int:
        """The first moment from ``at`` on at which so many more fit."""
        used = self.used(at)
        for bucket in sorted(self.counts):
            if used + each <= self.window.limit:
                break
            if self._ends(bucket) > at:
                at, used = self._ends(bucket), used - self.counts[bucket]
        return at

    def add(self, at: int, count: int) -> None:
        bucket = at // self.grain
        self.counts[bucket] = max(0, self.counts.get(bucket, 0) + count)

    def weed(self, now: int) -> None:
        self.counts = {bucket: count for bucket, count in self.counts.items() if self._ends(bucket) > now and count}

    def _ends(self, bucket: int) -> int:
        return (bucket + 1) * self.grain + self._length


class Slate:
    """All that was granted for one relay."""

    def __init__(self, rate: Rate) -> None:
        self._windows = [_Buckets(window) for window in rate.windows]
        self._pace = max((micros(window.pace) for window in rate.windows), default=0)
        self._next = 0  # no slot is granted before this moment
        self._big: _Big | None = None

    def take(self, now: int, wanted: int, each: int, span: int = HORIZON) -> Slots:
        """Up to ``wanted`` slots of ``each`` recipients, no more than ``span`` from the first to the last."""
        for buckets in self._windows:
            buckets.weed(now)
        big = self._big
        if big and each < big.each and big.since + PATIENCE < now < big.until:
            return Slots([], MICRO)
        found: list[int] = []
        while len(found) < wanted:
            at, full = self._find(now, each)
            if at > now + HORIZON or (found and at - found[0] > span):
                self._refused(now, at, each, found)
                return Slots(found, at - now, full)
            found.append(at)
            self._next = at + self._pace * each
            self.enter(at, each)
        self._served(each)
        return Slots(found)

    def enter(self, at: int, count: int) -> None:
        """Count what went, or may have gone, at this moment."""
        for buckets in self._windows:
            buckets.add(at, count)

    def fill(self, at: int, window: Window, count: int) -> None:
        """Count so much in one window only."""
        next(buckets for buckets in self._windows if buckets.window == window).add(at, count)

    def give_back(self, slots: list[int], each: int) -> None:
        """Count these no more; those granted last may be granted again."""
        for at in sorted(slots, reverse=True):
            self.enter(at, -each)
            if at + self._pace * each == self._next:
                self._next = at

    def used(self, now: int) -> list[int]:
        """How much is counted in each window."""
        return [buckets.used(now) for buckets in self._windows]

    def _find(self, now: int, each: int) -> tuple[int, Window]:
        at, full = max(now, self._next), self._windows[0].window
        for buckets in self._windows:
            moment = buckets.earliest(at, each)
            if moment > at:
                at, full = moment, buckets.window
        return at, full

    def _refused(self, now: int, at: int, each: int, found: list[int]) -> None:
        if found:
            self._served(each)
        elif each > 1:
            held = self._big if self._big and self._big.until > now else None
            if held is None or each >= held.each:
                self._big = _Big(each, held.since if held else now, at + CALLBACK)

    def _served(self, each: int) -> None:
        if self._big and each >= self._big.each:
            self._big = None
