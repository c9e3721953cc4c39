"""How much a relay may be given: windows as the settings have them, and what a limiter answers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from dispatcher.errors import ConfigurationError

_UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "day": 86400.0, "d": 86400.0}
_WORTH_LEAVING = 10
_WINDOW = re.compile(r"\s*(\d+)\s*/\s*(s|min|m|h|day|d)\s*")


class Window(NamedTuple):
    """At most ``limit`` recipients in any ``seconds``; ``text`` as the settings have it, such as ``500/min``.
    ``at_once``: even a short one may be used up in a burst."""

    limit: int
    seconds: float
    text: str
    at_once: bool = False

    @property
    def margin(self) -> float:
        """Seconds that may pass between the moment at which a mail may go and the relay's answer to it."""
        return min(1.0, max(0.1, self.seconds / 100))

    @property
    def grain(self) -> float:
        """Seconds over which mails are counted together."""
        return self.seconds / 200

    @property
    def pace(self) -> float:
        """Seconds between two mails. 0 for a window of more than a second: it may be used up at once."""
        return 0.0 if self.at_once or self.seconds > 1 else (self.seconds + self.margin + self.grain) / self.limit

    def share(self, takers: int) -> "Window":
        """What one of so many may use."""
        if self.limit >= takers:
            return self._replace(limit=self.limit // takers)
        return self._replace(limit=1, seconds=self.seconds * takers / self.limit)


@dataclass(frozen=True, slots=True)
class Rate:
    """All windows hold at once. Shortest first."""

    windows: tuple[Window, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.windows)

    @property
    def smallest(self) -> int:
        """The recipients that may go at once at the most."""
        return min(window.limit for window in self.windows)

    @property
    def tolerance(self) -> float:
        """Seconds by which a mail may go later than it might have: a third of the margin, the rest is the relay's."""
        return min(window.margin for window in self.windows) / 3

    def at_once(self) -> "Rate":
        """The same, with nothing between two mails: for who would rather come again than wait in place."""
        return Rate(tuple(window._replace(at_once=True) for window in self.windows))

    def share(self, takers: int) -> "Rate":
        """What one of so many may use."""
        return Rate(tuple(window.share(takers) for window in self.windows))

    def behind(self) -> "Rate":
        """What bulk mail may use up: one in a hundred of a longer window, at least one, are left to what is urgent.
        Windows of a second are paced, so that nobody has to wait long for those."""
        return Rate(
            tuple(
                window._replace(limit=window.limit - max(1, window.limit // 100))
                if window.seconds > 1 and window.limit >= _WORTH_LEAVING
                else window
                for window in self.windows
            )
        )

    @classmethod
    def parse(cls, texts: Sequence[str], setting: str) -> "Rate":
        """Read ``["14/s", "2000/h", "50000/day"]``. Raises ConfigurationError for none, or a contradiction."""
        windows = sorted((_window(text, setting) for text in texts), key=lambda window: window.seconds)
        for short, long in pairwise(windows):
            if short.seconds == long.seconds:
                raise ConfigurationError(setting, f"contradicts itself: {short.text} and {long.text} for the same time")
            if short.limit > long.limit:
                raise ConfigurationError(
                    setting, f"contradicts itself: {short.text} can never be, since {long.text} is less"
                )
        return cls(tuple(windows))


def _window(text: str, setting: str) -> Window:
    found = _WINDOW.fullmatch(text)
    if not found or not int(found[1]):
        raise ConfigurationError(setting, f"{text!r} is no rate: write 14/s, 500/min, 2000/h or 50000/day")
    return Window(int(found[1]), _UNITS[found[2]], f"{found[1]}/{found[2]}")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a limiter allows: for each message the seconds from now at which it may go (0: at once), in order.

    When these are fewer than were asked for, ``wait`` is the seconds until the next one may be had, and ``reason``
    names the window that is full. ``now`` is the limiter's own clock: a slot is given back as ``now`` plus its seconds.
    """

    slots: tuple[float, ...]
    wait: float = 0.0
    reason: str = ""
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a relay's limits is used now, over all workers: each window's text and count, and connections.

    ``max_connections`` is the setting's, or fewer while the relay refuses more (``learned``); None: no limit.
    """

    windows: tuple[tuple[str, int], ...] = ()
    connections: int = 0
    max_connections: int | None = None
    learned: bool = False
