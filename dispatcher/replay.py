"""What is left of leases whose process has ended, by its journal: what was answered is settled, what was not begun goes
back at once, and only what was begun and not answered is in doubt. Nothing is taken over from a process that lives."""

import threading
from collections.abc import Mapping, Sequence

from dispatcher.compose import fingerprint
from dispatcher.delivery import Lease, LeasedDelivery, LeasedMessage, Settlement, State
from dispatcher.errors import LedgerUnavailable
from dispatcher.events import DeliveryTried, Replayed, ReplayFailed, StuckEnded
from dispatcher.interfaces import Clock, EventSink, Journal, Journals, Ledger
from dispatcher.journal import DeadJournal, Entry
from dispatcher.reply import NoReply, Reply, ReplyClass, classify
from dispatcher.retry import Decision, RetryPolicy
from dispatcher.verdict import Told, answered, unbegun, unheard, verdict

LOOK_SECONDS = 2.0
STUCK_SECONDS = 1.0  # after the end of its lease; its task's time limit is shorter, if its parent lives to see it
STRAY_SECONDS = 10.0
"""How often a process looks for leases of its own that it knows nothing of: their answer was lost, or a ledger that
failed over has forgotten that they were settled."""


class Replay:
    """Looks after the journals of this process' folder. ``leasing`` is held while this process leases, so that a lease
    on its way here is not taken for a stray."""

    def __init__(
        self,
        ledger: Ledger,
        journals: Journals,
        journal: Journal,
        retry: RetryPolicy,
        clock: Clock,
        sink: EventSink = lambda _: None,
    ) -> None:
        self.leasing = threading.Lock()
        self._ledger, self._journals, self._journal = ledger, journals, journal
        self._retry, self._clock, self._sink = retry, clock, sink
        self._abandoned = set[str]()
        self._retold: set[str] | None = None  # since the ledger was away; None: it never was
        self._look_at = self._strays_at = clock.monotonic()

    def owners(self) -> set[str]:
        """Those whose leases this host sees to itself."""
        return self._journals.owners()

    def abandon(self, lease: Lease) -> None:
        """A fault of ours ended its batch: what of it is not settled ends like that of a process which died of it."""
        self._abandoned.add(lease.token)
        self._journal.abandon(lease)
        self._strays_at = self._clock.monotonic()

    def look(self) -> None:
        """Replay what is new among the dead, and end our own strays, if it is time to. Raises LedgerUnavailable."""
        now = self._clock.monotonic()
        try:
            if now >= self._look_at:
                self._look_at = now + LOOK_SECONDS
                for pid in self._journals.end_stuck(STUCK_SECONDS):
                    self._sink(StuckEnded(pid))
                self.replay()
        finally:
            if now >= self._strays_at:
                self._strays_at = now + STRAY_SECONDS
                self.end_strays()

    def again(self) -> None:
        """The ledger was away, and may have forgotten what it was told: look at everything anew."""
        self._retold = set()
        self._look_at = self._strays_at = self._clock.monotonic()

    def replay(self) -> int:
        """Settle what the dead left, and remove those that are not needed any more; how many deliveries changed."""
        count = 0
        with self._journals.dead() as found:
            for dead in found:
                try:
                    count += self._take_up(dead)
                except LedgerUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - those behind it must not wait for ever
                    self._sink(ReplayFailed(dead.owner, f"{type(error).__name__}: {error}"))
        return count

    def _take_up(self, dead: DeadJournal) -> int:
        held, count = self._ledger.held(dead.owner), 0
        untold = not dead.told or (self._retold is not None and dead.owner not in self._retold)
        if held or untold:
            count = self._settle(dead, held, late=untold and not dead.closed)
            self._journals.note_told(dead.owner)
            if self._retold is not None:
                self._retold.add(dead.owner)
        # A lease that the process asked for in its last moment may still come into being.
        if dead.over and not self._ledger.held(dead.owner):
            self._journals.remove(dead.owner)
        return count

    def end_strays(self) -> int:
        """Settle leases in our name that this process does not hold; how many deliveries changed."""
        with self.leasing:
            # In this order: what is settled in between is no stray.
            active, held = self._journal.tokens(), self._ledger.held(self._journal.owner)
        count = 0
        for lease in held:
            if lease.token not in active:
                closed = lease.token not in self._abandoned
                own = DeadJournal(self._journal.owner, self._journal.entries, closed=closed, build=fingerprint())
                count += self._settle(own, [lease], late=False)
                self._abandoned.discard(lease.token)
        return count

    def _settle(self, dead: DeadJournal, held: Sequence[Lease], *, late: bool) -> int:
        entries, count = dict(dead.entries()), 0
        for lease in held:
            ahead = lease.taken - self._clock.time()  # of the ledger's clock
            settlements = [
                self._of_delivery(dead, message, delivery, entry, ahead)
                for message in lease.messages
                for entry in [entries.pop((lease.token, message.id), None)]
                for delivery in message.deliveries
            ]
            count += self._ledger.settle(lease.token, settlements)
            if dead.owner != self._journal.owner:
                self._say(dead, settlements)
        return count + (self._settle_late(dead, entries) if late else 0)

    def _of_delivery(
        self, dead: DeadJournal, message: LeasedMessage, delivery: LeasedDelivery, entry: Entry | None, ahead: float
    ) -> Settlement:
        if entry is None and not dead.rebooted:
            return unbegun(delivery.id, message.id, crashed=not dead.closed)
        result = entry.result(delivery.id) if entry else None
        if dead.rebooted and isinstance(result, NoReply):
            result = None  # it may have been begun again, over another relay, in the part that is missing
        if entry is None or result is None:
            sha256 = entry.sha256 if entry else None
            settlement = unheard(
                delivery.id, message.id, message.if_in_doubt,
                attempted=entry is not None, sha256=sha256, build=dead.build,
            )  # fmt: skip
            self._tell(message, delivery, State.IN_DOUBT, "unknown", settlement.text, None)
            return settlement
        now = self._clock.time()
        decision = verdict(message, delivery, result, now=now + ahead, policy=self._retry)
        dsn = result.enhanced if isinstance(result, Reply) else None
        self._tell(message, delivery, decision.state, entry.relay, str(result), dsn)
        return answered(delivery.id, message.id, result, decision, _told(dead, entry, now))

    def _settle_late(self, dead: DeadJournal, entries: Mapping[tuple[str, int], Entry]) -> int:
        """Tell the ledger what is known of leases that it has ended already: what was sent must not be sent again."""
        late: dict[str, list[Settlement]] = {}
        for (token, message), entry in entries.items():
            for delivery in entry.deliveries:
                result = entry.result(delivery)
                if isinstance(result, Reply) and classify(result) is ReplyClass.SUCCESS:
                    decision, told = Decision(State.SENT, attempted=True), _told(dead, entry, entry.at)
                    settlement = answered(delivery, message, result, decision, told)
                    late.setdefault(token, []).append(settlement)
        return sum(self._ledger.settle(token, settlements) for token, settlements in late.items())

    def _say(self, dead: DeadJournal, settlements: Sequence[Settlement]) -> None:
        in_doubt = sum(each.in_doubt for each in settlements)
        back = sum(each.phase is None and not each.in_doubt for each in settlements)
        self._sink(Replayed(dead.owner, len(settlements) - in_doubt - back, in_doubt, back))

    def _tell(
        self, message: LeasedMessage, delivery: LeasedDelivery, state: State, relay: str, reply: str, dsn: str | None
    ) -> None:
        self._sink(
            DeliveryTried(
                id=message.public_id,
                submission=message.submission,
                lane=message.lane,
                to=delivery.rcpt,
                relay=relay,
                state=state,
                reply=reply,
                dsn=dsn,
                delay=self._clock.time() - message.dated,
                attempt=delivery.attempts + 1,
            )
        )


def _told(dead: DeadJournal, entry: Entry, now: float) -> Told:
    return Told(entry.relay, entry.seconds, entry.at or now, entry.sha256, dead.build)
