"""What one process knows of a relay's limits, and has used of them: to be told where that was forgotten, and to go by
alone. Times in microseconds of the clock that all share, as far as it is known."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from dispatcher.rate import Window
from dispatcher.relay import Relay
from dispatcher.window import Slate, micros

UNKNOWN_TAKERS = 8
SHORT_SECONDS = 60.0  # windows up to this are waited out once before a share of them is used

Counts = dict[Window, Counter[int]]  # by the number of the bucket


def _counts() -> Counts:
    return defaultdict(Counter)


@dataclass
class Tally:
    """Of one relay. ``epoch`` and ``seq`` tell which state of the shared counts this process has seen last."""

    relay: Relay
    epoch: str = ""
    seq: int = 0
    takers: int = 0  # processes that shared the limits when last seen; 0: never seen
    limit: int | None = None  # of connections, the relay's own or learned
    seen: dict[Window, dict[int, int]] = field(default_factory=dict)  # everybody's, as of the last look
    own: Counts = field(default_factory=_counts)  # ours since then
    apart: Counts = field(default_factory=_counts)  # ours of our share
    back: list[tuple[int, int]] = field(default_factory=list)  # slots to be given back, with their recipients
    open: list[str] = field(default_factory=list)  # our connections
    opened: int = 0  # how many ever, to name them
    share: Slate | None = None  # what we go by while we are cut off
    alone: bool = False  # shares may have been used since the shared counts were there last

    @property
    def parts(self) -> int:
        """Among how many the limits are divided while nobody can be asked."""
        return self.takers or UNKNOWN_TAKERS

    @property
    def patience(self) -> float:
        """Seconds of being cut off before a share is used."""
        return max((w.seconds for w in self.relay.rate.windows if w.seconds <= SHORT_SECONDS), default=0.0)

    def go(self, relay: Relay) -> None:
        """Go by these settings from now on."""
        if self.relay.max_connections != relay.max_connections:
            self.limit = relay.max_connections
        if self.relay.rate != relay.rate:
            self.share = None
        self.relay = relay

    def note(self, at: int, count: int) -> None:
        """We used this slot, or (less than 0) did not."""
        log = self.own if self.share is None else self.apart
        for window in self.relay.rate.windows:
            log[window][at // micros(window.grain)] += count

    def used(self, window: Window) -> int:
        """How much of a window everybody has used, as far as is known."""
        return sum(self.seen.get(window, {}).values()) + self.own[window].total() + self.apart[window].total()

    def look(self, seen: dict[Window, dict[int, int]]) -> None:
        """Everybody's counts, ours included."""
        self.own.clear()
        self.seen = seen

    def settle(self) -> None:
        """What we used is counted as everybody's now."""
        for log in (self.own, self.apart):
            for window, counts in log.items():
                self.seen[window] = dict(Counter(self.seen.get(window, {})) + counts)
            log.clear()

    def inherit(self) -> None:
        """Be another process' from now on, which has used nothing."""
        self.own, self.apart = _counts(), _counts()
        self.back, self.open, self.share, self.alone = [], [], None, False

    def part(self, since: int) -> Slate:
        """What this process may use by itself since then. What others may have used before is as good as used: all of a
        short window, and of a longer one what was not left for us when we looked last."""
        if self.share is None:
            ours = self.relay.rate.share(self.parts)
            self.share = Slate(ours)
            for window, our in zip(self.relay.rate.windows, ours.windows, strict=True):
                left = 0 if window.seconds <= SHORT_SECONDS else (window.limit - self.used(window)) // self.parts
                self.share.fill(since, our, our.limit - max(0, min(our.limit, left)))
        return self.share
