"""Limits over all workers, kept in Redis by one script (``limits.lua``) and on its clock."""

import json
import os
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from dispatcher.adapters.redis import connect
from dispatcher.broker import BrokerAddress
from dispatcher.interfaces import Clock
from dispatcher.rate import Grant, Rate, Usage, Window
from dispatcher.relay import Relay
from dispatcher.tally import Tally
from dispatcher.window import MICRO, micros

AGAIN_SECONDS = 1.0  # when to ask again for a connection
KEEP_SECONDS = 3.0  # how often a process tells of itself
MAX_PACED = 100  # rates of campaigns that a process remembers
PROBE_SECONDS = 2.0  # how often one that goes by its own share looks for Redis
_HELD_SECONDS = 300.0  # windows up to this wait for one after a loss of data
_LONG_HOLD_SECONDS = 10.0
_SCRIPT = (Path(__file__).parent / "limits.lua").read_text(encoding="utf-8")


class RedisLimiter:
    """Implements interfaces.RateLimiter. Thread-safe; after a fork the child is a process of its own.

    While Redis is away each process goes by its share, and by nothing that others may have used already.
    """

    def __init__(self, address: BrokerAddress, clock: Clock, **options: Any) -> None:
        """``options`` are the client's. Connects with the first question."""
        self._address, self._clock = address, clock
        self._options = {"socket_timeout": 1, "socket_connect_timeout": 1, "client_name": "maildispatcher-limits"}
        self._options |= options
        self._mine: dict[str, Tally] = {}
        self._relays: frozenset[str] = frozenset()
        self._paced: dict[str, Rate] = {}  # what is no relay
        self._begin()

    def _begin(self) -> None:
        self._pid, self._lock = os.getpid(), threading.RLock()
        self._me = f"{socket.gethostname()}/{self._pid}/{secrets.token_hex(4)}"
        self._client = connect(self._address, **self._options)
        self._script = self._client.register_script(_SCRIPT)
        self._ahead = micros(self._clock.time() - self._clock.monotonic())  # of Redis' clock, as far as is known
        self._away: float | None = None  # since when, by the monotonic clock
        self._probed = self._kept = float("-inf")

    def __repr__(self) -> str:
        return f"<RedisLimiter {self._me}{' away' if self._away is not None else ''}>"

    def limits(self, relays: Mapping[str, Relay]) -> None:
        """Go by these. What was used stays counted, whatever the new limits are."""
        with self._own():
            for name, relay in relays.items():
                self._mine.setdefault(name, Tally(relay, limit=relay.max_connections)).go(relay)
            self._relays = frozenset(relays)
            for name in self._mine.keys() - relays.keys() - self._paced.keys():
                if not self._mine[name].open:
                    del self._mine[name]

    def pace(self, name: str, rate: Rate) -> None:
        with self._own():
            if self._paced.get(name) == rate:
                return
            self._paced[name] = rate
            while len(self._paced) > MAX_PACED:
                self._mine.pop(oldest := next(iter(self._paced)), None)
                del self._paced[oldest]
            like_a_relay = Relay(name, "", 0, rate=rate)
            self._mine.setdefault(name, Tally(like_a_relay)).go(like_a_relay)

    def rate(self, relay: str) -> Rate:
        mine = self._mine.get(relay)
        return mine.relay.rate if mine else Rate()

    # -- rates

    def take(self, relay: str, wanted: int, each: int = 1) -> Grant:
        if not self.rate(relay):
            return Grant((0.0,) * wanted)
        with self._own():
            mine = self._mine[relay]
            answer = self._ask(mine, "take", wanted=wanted, each=each)
            if answer is None:
                return self._take_of_share(mine, wanted, each)
            _, _, _, now, wait, full, why, *moments = answer
            for at in moments:
                mine.note(at, each)
            reason = _reason(mine.relay.rate, full, why.decode()) if wait else ""
            return Grant(tuple((at - now) / MICRO for at in moments), wait / MICRO, reason, now / MICRO)

    def give_back(self, relay: str, slots: Sequence[float], each: int = 1) -> None:
        with self._own():
            if not self.rate(relay):
                return
            mine, moments = self._mine[relay], [micros(at) for at in slots]
            for at in moments:
                mine.note(at, -each)
            if mine.share is not None:
                mine.share.give_back(moments, each)
            else:
                mine.back = sorted([*mine.back, *((at, each) for at in moments)], reverse=True)

    def _take_of_share(self, mine: Tally, wanted: int, each: int) -> Grant:
        now, since = self._now(), self._away if self._away is not None else self._clock.monotonic()
        share = mine.part(micros(since) + self._ahead)
        slots = share.take(now, wanted, min(each, mine.relay.rate.share(mine.parts).smallest))
        for at in slots.moments:
            mine.note(at, each)
        reason = f"Redis is away, and this process' share of {slots.full.text} is used up" if slots.full else ""
        wait = min(slots.wait / MICRO, PROBE_SECONDS)  # it may be back by then
        return Grant(tuple((at - now) / MICRO for at in slots.moments), wait, reason, now / MICRO)

    # -- connections

    def enter(self, relay: str) -> float:
        with self._own():
            mine = self._mine.get(relay)
            if mine is None:
                return 0.0
            mine.opened += 1
            member = f"{self._me}#{mine.opened}"
            answer = self._ask(mine, "enter", open=[*mine.open, member])
            if answer is None:
                free = mine.limit is None or len(mine.open) < mine.limit // mine.parts
            else:
                free, mine.limit = bool(answer[4]), _limit(answer[5])
            if free:
                mine.open.append(member)
            return 0.0 if free else AGAIN_SECONDS

    def leave(self, relay: str) -> None:
        with self._own():
            mine = self._mine.get(relay)
            if mine and mine.open:
                self._ask(mine, "leave", member=mine.open.pop())  # where it is not heard, it expires

    def crowded(self, relay: str) -> int:
        with self._own():
            mine = self._mine.get(relay)
            if mine is None:
                return 0
            answer = self._ask(mine, "crowded")
            if answer is None:
                return max(0, len(mine.open) - 1)
            if answer[4]:
                mine.limit = answer[4]
            return int(answer[4])

    def wanted(self, relay: str) -> bool:
        with self._own():
            mine = self._mine.get(relay)
            if mine is None or mine.limit is None:
                return False
            answer = self._ask(mine, "wanted")
            return answer is not None and answer[4] > 0

    # -- living and knowing

    def keep(self) -> None:
        with self._own():
            if self._clock.monotonic() < self._kept + KEEP_SECONDS:
                return
            self._kept = self._clock.monotonic()
            for mine in self._mine.values():
                answer = self._ask(mine, "keep", open=mine.open)
                if answer is None:
                    return
                mine.takers, mine.limit = answer[4], _limit(answer[5])
                windows = mine.relay.rate.windows
                mine.look({window: _buckets(flat) for window, flat in zip(windows, answer[7:], strict=True)})

    def usage(self) -> Mapping[str, Usage]:
        with self._own():
            return {name: self._usage(mine) for name, mine in self._mine.items() if name in self._relays}

    def _usage(self, mine: Tally) -> Usage:
        windows, answer = mine.relay.rate.windows, self._ask(mine, "look")
        if answer is None:
            used = tuple((window.text, mine.used(window)) for window in windows)
            return Usage(used, len(mine.open), mine.relay.max_connections)
        used = tuple((window.text, int(n)) for window, n in zip(windows, answer[7:], strict=True))
        return Usage(used, answer[4], _limit(answer[5]), bool(answer[6]))

    def close(self) -> None:
        """Leave what is open, and hang up."""
        with self._own():
            for mine in self._mine.values():
                while mine.open and self._away is None:
                    self._ask(mine, "leave", member=mine.open.pop())
            self._client.close()

    # -- asking

    def _own(self) -> threading.RLock:
        """The lock; a child that was forked takes nothing over but what is known."""
        if self._pid != os.getpid():
            self._begin()
            for mine in self._mine.values():
                mine.inherit()
        return self._lock

    def _ask(self, mine: Tally, act: str, **more: Any) -> list[Any] | None:
        """What the script answers; None while Redis is away."""
        if self._away is not None and self._clock.monotonic() < self._probed + PROBE_SECONDS:
            return None
        try:
            if self._away is not None:
                self._client.ping()
                self._returned()
            if mine.alone and act != "look":
                self._restore(mine)
            answer = self._call(mine, act, more)
            if answer[0] == b"lost":
                self._restore(mine)
                answer = self._call(mine, act, more)
            if answer[0] == b"lost":
                return None  # lost again meanwhile
        except RedisError:
            now = self._clock.monotonic()
            self._probed = now
            self._away = now if self._away is None else self._away
            return None
        if act != "look":
            self._learn(mine, answer)
        return answer

    def _call(self, mine: Tally, act: str, more: Mapping[str, Any]) -> list[Any]:
        windows = mine.relay.rate.windows
        said: dict[str, Any] = {
            "fresh": secrets.token_hex(8),
            "seq": mine.seq,
            "pace": max((micros(window.pace) for window in windows), default=0),
            "windows": [_told(window) for window in windows],
            **more,
        }
        if act in ("take", "keep"):
            said["back"], mine.back = mine.back, []  # once, even when the answer is lost: it must not count twice
        if mine.epoch:
            said["epoch"] = mine.epoch
        if mine.relay.max_connections is not None:
            said["max"] = mine.relay.max_connections
        key = f"dispatcher:limits:{{{mine.relay.name}}}:"
        found: list[Any] = self._script(keys=[key], args=[act, self._me, json.dumps(said)])
        return found

    def _learn(self, mine: Tally, answer: Sequence[Any]) -> None:
        mine.epoch, mine.seq = answer[1].decode(), int(answer[2])
        self._ahead = int(answer[3]) - micros(self._clock.monotonic())

    def _restore(self, mine: Tally) -> None:
        """Enter what is known to be used into a state that does not have it."""
        windows = mine.relay.rate.windows
        said: dict[str, Any] = {
            "seen": [list(mine.seen.get(window, {}).items()) for window in windows],
            "own": [_used(mine.own[window]) for window in windows],
            "apart": [_used(mine.apart[window]) for window in windows],
        }
        if mine.alone:
            said["alone"] = True
        self._learn(mine, self._call(mine, "restore", said))
        mine.alone = False
        mine.settle()

    def _returned(self) -> None:
        """Redis is back: whoever may have used a share tells what of it, and until all have nothing is granted."""
        gone, self._away = self._clock.monotonic() - (self._away or 0.0), None
        for mine in self._mine.values():
            mine.alone, mine.share = gone >= mine.patience, None

    def _now(self) -> int:
        """Redis' clock, as far as is known."""
        return micros(self._clock.monotonic()) + self._ahead


def _told(window: Window) -> dict[str, Any]:
    length = micros(window.seconds) + micros(window.margin)
    return {
        "name": f"w{window.seconds:g}",
        "limit": window.limit,
        "grain": micros(window.grain),
        "length": length,
        "hold": length if window.seconds <= _HELD_SECONDS else micros(_LONG_HOLD_SECONDS),
    }


def _used(counts: Counter[int]) -> list[tuple[int, int]]:
    return [pair for pair in counts.items() if pair[1] > 0]


def _buckets(flat: Sequence[bytes]) -> dict[int, int]:
    return {int(bucket): int(count) for bucket, count in zip(flat[::2], flat[1::2], strict=True)}


def _limit(most: int) -> int | None:
    return None if most < 0 else int(most)


def _reason(rate: Rate, full: int, why: str) -> str:
    if why == "big":
        return "a mail to many recipients goes first"
    text = rate.windows[full - 1].text
    return f"{text} is used up" if why == "full" else f"{text} may be used up: Redis has lost its counts"
