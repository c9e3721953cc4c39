"""Limits that hold among the threads of one process, and among the limiters that are made ``beside`` one another."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from dispatcher.rate import Grant, Rate, Usage
from dispatcher.relay import Relay
from dispatcher.window import MICRO, Slate, micros

PLACE_SECONDS = 6.0  # for how long the place of a waiting process is kept after it asked last
AGAIN_SECONDS = 1.0  # when it should ask again
LEARNED_SECONDS = 300.0

Clock = Callable[[], float]


class _Place(NamedTuple):
    """In the line for a connection: until when it is kept, and how many may be open for that one to be."""

    until: float
    limit: int


@dataclass
class _Open:
    """The connections of one relay: how many each process has, who waits since when, and what the relay put up with."""

    held: dict[int, int] = field(default_factory=dict)
    waiting: dict[int, _Place] = field(default_factory=dict)  # first come first
    learned: tuple[int, float] | None = None  # how many, until when

    @property
    def total(self) -> int:
        return sum(self.held.values())

    def taken(self, me: int) -> int:
        """How many are open, with those that who came before may open now; see ``limits.lua``."""
        total = self.total
        for taker, place in self.waiting.items():
            if taker == me:
                break
            total += total < place.limit
        return total


class _Shared:
    """What the processes of a real installation share through their Redis."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.lock = clock, threading.RLock()
        self.relays: dict[str, Relay] = {}
        self.paced: dict[str, Relay] = {}  # what is no relay, but has a rate as if it were
        self.slates: dict[str, Slate] = {}
        self.open: dict[str, _Open] = {}
        self.takers = count()


class MemoryLimiter:
    """Implements interfaces.RateLimiter without a server. Thread-safe."""

    def __init__(self, clock: Clock = time.monotonic, *, _shared: _Shared | None = None) -> None:
        self._shared = _shared or _Shared(clock)
        self._me = next(self._shared.takers)
        self._most: dict[str, int | None] = {}  # connections, by relay, that may be open for ours to be

    def beside(self) -> "MemoryLimiter":
        """The limiter of another process under the same limits."""
        other = MemoryLimiter(_shared=self._shared)
        other._most = dict(self._most)
        return other

    def limits(self, relays: Mapping[str, Relay]) -> None:
        """Go by these; a rate that has changed begins anew."""
        with self._shared.lock:
            for name, relay in relays.items():
                if name not in self._shared.relays or self._shared.relays[name].rate != relay.rate:
                    self._shared.slates[name] = Slate(relay.rate)
                self._shared.open.setdefault(name, _Open())
            self._shared.relays = {**self._shared.paced, **relays}
            self._most = {name: relay.max_connections for name, relay in relays.items()}

    def pace(self, name: str, rate: Rate) -> None:
        with self._shared.lock:
            if name not in self._shared.paced or self._shared.paced[name].rate != rate:
                self._shared.paced[name] = self._shared.relays[name] = Relay(name, "", 0, rate=rate)
                self._shared.slates[name] = Slate(rate)

    def rate(self, relay: str) -> Rate:
        found = self._shared.relays.get(relay)
        return found.rate if found else Rate()

    def take(self, relay: str, wanted: int, each: int = 1) -> Grant:
        if not self.rate(relay):
            return Grant((0.0,) * wanted)
        with self._shared.lock:
            now = micros(self._shared.clock())
            slots = self._shared.slates[relay].take(now, wanted, each)
        reason = f"{slots.full.text} is used up" if slots.full else "a mail to many recipients goes first"
        return Grant(
            slots=tuple((at - now) / MICRO for at in slots.moments),
            wait=slots.wait / MICRO,
            reason=reason if slots.wait else "",
            now=now / MICRO,
        )

    def give_back(self, relay: str, slots: Sequence[float], each: int = 1) -> None:
        if self.rate(relay):
            with self._shared.lock:
                self._shared.slates[relay].give_back([micros(at) for at in slots], each)

    def enter(self, relay: str) -> float:
        with self._shared.lock:
            now, found = self._shared.clock(), self._found(relay)
            limit = self._limit(relay)
            if limit is not None and found.taken(self._me) >= limit:
                found.waiting[self._me] = _Place(now + PLACE_SECONDS, limit)
                return AGAIN_SECONDS
            found.waiting.pop(self._me, None)
            found.held[self._me] = found.held.get(self._me, 0) + 1
            return 0.0

    def leave(self, relay: str) -> None:
        with self._shared.lock:
            held = self._found(relay).held
            held[self._me] = max(0, held.get(self._me, 0) - 1)

    def crowded(self, relay: str) -> int:
        with self._shared.lock:
            found = self._found(relay)
            others = max(0, found.total - 1)  # one is the place of the connection that was refused
            if others:
                found.learned = others, self._shared.clock() + LEARNED_SECONDS
            return others

    def wanted(self, relay: str) -> bool:
        with self._shared.lock:
            return any(taker != self._me for taker in self._found(relay).waiting)

    def keep(self) -> None:
        """Nothing expires here while the process lives."""

    def usage(self) -> Mapping[str, Usage]:
        with self._shared.lock:
            relays = {name: relay for name, relay in self._shared.relays.items() if name not in self._shared.paced}
            return {name: self._usage(name, relay) for name, relay in relays.items()}

    def close(self) -> None:
        """Leave all connections."""
        with self._shared.lock:
            for found in self._shared.open.values():
                found.held.pop(self._me, None)
                found.waiting.pop(self._me, None)

    def _usage(self, name: str, relay: Relay) -> Usage:
        used = self._shared.slates[name].used(micros(self._shared.clock()))
        found = self._found(name)
        return Usage(
            windows=tuple((window.text, n) for window, n in zip(relay.rate.windows, used, strict=True)),
            connections=found.total,
            max_connections=self._limit(name),
            learned=found.learned is not None,
        )

    def _found(self, relay: str) -> _Open:
        """The connections of a relay, without what is over."""
        found, now = self._shared.open.setdefault(relay, _Open()), self._shared.clock()
        found.waiting = {taker: place for taker, place in found.waiting.items() if place.until > now}
        if found.learned and found.learned[1] <= now:
            found.learned = None
        return found

    def _limit(self, relay: str) -> int | None:
        learned = self._found(relay).learned
        limits = [self._most.get(relay), learned[0] if learned else None]
        return min((limit for limit in limits if limit is not None), default=None)
