"""What comes round: leases of lost hosts end, lanes ring for what is due, limits that have room again are used at once,
journals of dead processes are replayed.

Beat rings for it; where no beat does, the settler's thread of some worker process notices.
"""

import threading
from collections.abc import Callable, Mapping

from dispatcher.delivery import Lane
from dispatcher.errors import LedgerError
from dispatcher.interfaces import Clock, Ledger, Queue, RateLimiter, Transport
from dispatcher.policy import Policy
from dispatcher.replay import Replay
from dispatcher.settler import LOOK_SECONDS

WATERMARK = 20  # bells that may wait in a lane; the backlog itself stays in the ledger


class Sweeper:
    """``transports`` answers those of this process by relay."""

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        limiter: RateLimiter,
        transports: Callable[[], Mapping[str, Transport]],
        replay: Replay,
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._ledger, self._queue, self._limiter, self._transports = ledger, queue, limiter, transports
        self._replay, self._policy, self._clock = replay, policy, clock
        self._alarms: dict[Lane, float] = {}
        self._lock = threading.Lock()  # the sending thread sets alarms, the settler's rings them

    def sweep(self) -> int:
        """At beat's bell: sweep, if nobody did just now; bells rung."""
        self._ledger.tick("beat", 0.0)
        if not self._ledger.tick("sweep", self._policy.sweep_seconds * 0.8):
            return 0
        return self._sweep()

    def look(self) -> float:
        """In a worker process, about every second: keep what is shared alive, sweep if nobody does, ring what is at its
        time. The seconds after which to look again."""
        self._limiter.keep()
        try:
            self._replay.look()
        finally:  # whatever it met, mail goes on
            self._sweep_if_nobody_does()
            after = self._ring_alarms()
        for transport in tuple(self._transports().values()):
            transport.tend()
        return after

    def set_alarm(self, lane: Lane, seconds: float) -> None:
        """Ring this lane after so long, or before: a limit has room again then, and a sweep would come too late to use
        it up."""
        at = self._clock.monotonic() + seconds
        with self._lock:
            self._alarms[lane] = min(at, self._alarms.get(lane, at))

    def _ring_alarms(self) -> float:
        now = self._clock.monotonic()
        with self._lock:
            over = [lane for lane, at in self._alarms.items() if at <= now]
            for lane in over:
                del self._alarms[lane]
            after = min((at - now for at in self._alarms.values()), default=LOOK_SECONDS)
        for lane in over:
            self._queue.ring(lane, (), "limit")
        return min(after, LOOK_SECONDS)

    def _sweep_if_nobody_does(self) -> None:
        try:
            if self._ledger.tick("sweep", self._policy.sweep_seconds * 3):
                self._sweep()
        except LedgerError:
            return  # the next look is a second away

    def _sweep(self) -> int:
        self._ledger.reclaim(self._replay.owners(), self._policy.host_grace)
        ledger = self._ledger
        if any(each.pending() for each in (ledger.schedules, ledger.campaigns, ledger.automations, ledger.reports)):
            self._queue.expand()
        held = {pause.name for pause in self._ledger.pauses() if pause.kind == "relay" and not pause.half_open}
        avoid: set[str | None] = {*held, *({None} if held >= set(self._transports()) else ())}
        return sum(self._ring_due(lane, avoid) for lane in Lane)

    def _ring_due(self, lane: Lane, avoid: set[str | None]) -> int:
        """Ring once for each batch that is due, up to the watermark, when the lane is nearly empty."""
        depth = self._queue.depth(lane)
        if depth is None or depth >= WATERMARK // 2:
            return 0
        size = self._policy.batch_size
        batches = -(-self._ledger.due(lane, WATERMARK * size, avoid) // size)
        return sum(self._queue.ring(lane, (), "due") for _ in range(min(batches, WATERMARK) - depth))
