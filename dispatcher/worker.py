"""What a worker does when a lane's bell rings: lease what may go now, send it, settle; again while there is more.

Four brakes are looked at before each lease: pauses of people (the ledger keeps to those), relays that were found in
trouble, relays that are half open, and limits that are used up.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from dispatcher.batch import Batch
from dispatcher.compose import Sources
from dispatcher.delivery import Lane, Lease
from dispatcher.errors import LedgerError
from dispatcher.events import BatchEnded, RelayPaused, RelayResumed
from dispatcher.interfaces import Clock, EventSink, Journal, Ledger, Transport
from dispatcher.pacing import Pacing
from dispatcher.policy import Policy
from dispatcher.reply import ReplyClass
from dispatcher.routing import choose
from dispatcher.settler import Settler
from dispatcher.storm import Storm
from dispatcher.throttle import Throttle

_PAUSE_SECONDS = {ReplyClass.RELAY: 5.0, ReplyClass.ACCOUNT: 30.0, ReplyClass.RATE: 60.0, ReplyClass.TRANSIENT: 60.0}
_PROBE_SECONDS = 60.0


class Worker:
    """One process' share of the sending. ``relays`` answers the transports by name, in the order of their priority;
    ``leasing`` is held while it leases, ``abandon`` is told of a lease that met a fault of ours; ``alarm`` is called
    with a lane and the seconds after which its bell should ring again."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        relays: Callable[[], Mapping[str, Transport]],
        throttle: Throttle,
        pacing: Pacing,
        sources: Sources,
        journal: Journal,
        settler: Settler,
        policy: Policy,
        clock: Clock,
        sink: EventSink,
        leasing: AbstractContextManager[object],
        abandon: Callable[[Lease], None],
        alarm: Callable[[Lane, float], None],
    ) -> None:
        self._ledger, self._relays, self._throttle = ledger, relays, throttle
        self._pacing = pacing
        self._sources, self._journal, self._settler = sources, journal, settler
        self._policy, self._clock, self._sink, self._alarm = policy, clock, sink, alarm
        self._leasing, self._abandon = leasing, abandon
        self._storm = Storm()

    def answer(self, lane: Lane, messages: Sequence[int], stopping: Callable[[], bool]) -> int:
        """Lease these messages and whatever else is due, and send them. Returns how many were leased."""
        until = self._clock.monotonic() + self._policy.batch_seconds
        total = 0

        def over() -> bool:
            return stopping() or self._clock.monotonic() >= until

        while not over():
            transports = self._relays()
            paused, tried = self._paused(lane, transports, over)
            total += tried
            avoid = self._avoid(lane, transports, paused)
            if avoid >= {*transports, None}:
                break
            size = self._size(transports, paused)
            lease = self._lease(lane, size, messages, avoid)
            if not lease.messages and not lease.more:
                break
            total += len(lease.messages)
            self._send(self._batch(lease, transports, paused, over), lease)
            if paced := self._pacing.closed():
                self._alarm(lane, min(paced.values()))
            if not self._settler.flush() or (len(lease.messages) < size and not lease.more):
                break
            messages = ()
        return total

    def _paused(
        self, lane: Lane, transports: Mapping[str, Transport], over: Callable[[], bool]
    ) -> tuple[set[str], int]:
        """The relays that are not to be used now, once a half-open one was tried; how many messages that took."""
        paused, tried = set[str](), 0
        for pause in self._ledger.pauses():
            if pause.kind != "relay" or pause.name not in transports:
                continue
            paused.add(pause.name)
            if pause.half_open and self._ledger.probe(pause.name, _PROBE_SECONDS):
                well, count = self._try(lane, pause.name, transports, over)
                tried += count
                if well:
                    paused.discard(pause.name)
        return paused, tried

    def _try(
        self, lane: Lane, relay: str, transports: Mapping[str, Transport], over: Callable[[], bool]
    ) -> tuple[bool, int]:
        """Send one message over a half-open relay, if there is one; whether the relay is well again."""
        others = {name for name in transports if name != relay}
        lease = self._lease(lane, 1, (), others)
        batch = self._batch(lease, transports, others, over, patience=1)
        self._send(batch, lease)
        self._settler.flush()
        if relay in batch.well and self._ledger.resume("relay", relay):
            self._sink(RelayResumed(relay))
            return True, len(lease.messages)
        if relay in batch.silent:
            self._pause(relay, ReplyClass.RELAY, "no reply to the message that tried it")
        elif relay not in batch.well | batch.ill:
            self._ledger.reopen(relay)  # nothing was learned: the next one may try
        return False, len(lease.messages)

    def _avoid(self, lane: Lane, transports: Mapping[str, Transport], paused: set[str]) -> set[str | None]:
        """The relays and campaigns whose mail is not to be leased now; None among them: mail that asks for no relay.

        A limit makes mail wait for its relay; only a pause sends it to the next one.
        """
        limited = {name: wait for name in transports if (wait := self._throttle.closed(name)) > 0}
        first = choose(None, tuple(transports), paused)
        if limited:
            self._alarm(lane, min(limited.values()))
        return {*paused, *limited, *self._pacing.closed(), *({None} if first is None or first in limited else ())}

    def _size(self, transports: Mapping[str, Transport], paused: set[str]) -> int:
        first = choose(None, tuple(transports), paused)
        return self._policy.batch_size if first is None else self._throttle.room(first, self._policy.batch_size)

    def _lease(self, lane: Lane, size: int, messages: Sequence[int], avoid: Collection[str | None]) -> Lease:
        seconds, owner = self._policy.lease_seconds, self._journal.owner
        with self._leasing:
            self._journal.leasing(seconds)
            try:
                lease = self._ledger.lease(
                    lane, limit=size, seconds=seconds, owner=owner, messages=messages, avoid=avoid
                )
                self._journal.leased(lease)
            except BaseException:
                self._journal.rest()
                raise
        if not lease.messages:
            self._journal.rest()
        return lease

    def _send(self, batch: Batch, lease: Lease) -> None:
        try:
            batch.send()
        except BaseException:  # a fault of ours: the journal knows how far it came
            self._abandon(lease)
            raise
        finally:
            self._journal.rest()
            self._sink(BatchEnded())

    def _batch(
        self,
        lease: Lease,
        transports: Mapping[str, Transport],
        paused: set[str],
        over: Callable[[], bool],
        **options: int,
    ) -> Batch:
        return Batch(
            lease,
            transports=transports,
            paused=paused,
            throttle=self._throttle,
            pacing=self._pacing,
            sources=self._sources,
            journal=self._journal,
            settler=self._settler,
            pause=self._pause,
            storm=self._storm,
            sink=self._sink,
            clock=self._clock,
            retry=self._policy.retry,
            stopping=over,
            **options,
        )

    def _pause(self, relay: str, kind: ReplyClass, reason: str) -> None:
        try:
            pause = self._ledger.pause("relay", relay, _PAUSE_SECONDS[kind], f"{kind}: {reason}")
        except LedgerError:
            return  # without its ledger a worker leases nothing either
        self._sink(RelayPaused(relay, pause.reason, (pause.until or 0) - pause.since))
