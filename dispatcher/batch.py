"""One lease on its way out: route, compose, send, and say what became of every delivery in it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

from dispatcher.compose import Sources, compose, fingerprint
from dispatcher.delivery import Lease, LeasedDelivery, LeasedMessage, Settlement, State
from dispatcher.errors import AuthFailed, DispatcherError, LedgerError, LedgerUnavailable, LimitReached, TransportError
from dispatcher.events import DeliveryTried
from dispatcher.interfaces import Clock, EventSink, Journal, Transport
from dispatcher.mail import Message
from dispatcher.pacing import Pacing
from dispatcher.reply import NoReply, Outcome, Reply, ReplyClass
from dispatcher.retry import RetryPolicy
from dispatcher.routing import choose
from dispatcher.settler import Settler
from dispatcher.storm import IN_A_ROW, Storm
from dispatcher.throttle import Throttle
from dispatcher.verdict import Told, answered, verdict

_NO_RELAY_SECONDS = 60.0
_UNREAD_SECONDS = 60.0  # until a message whose parts could not be read is tried again
_UNREAD_IN_A_ROW = 3  # after so many it is not the message: the ledger itself is away
_AWAY_SECONDS = 5.0
_NO_RELAY = "its relay is paused or not configured"


class Batch:
    """Sends one lease. Every delivery in it is settled when ``send`` returns: with what the relay said, or given back.

    ``pause`` is called with a relay's name, the class of its trouble and the reason, when it must not be used now.
    ``paused`` grows by the relays that were found in trouble; mail that asks for none goes to the next one then.
    ``patience``: how many messages in a row may be deferred before that counts as trouble. After ``send``, ``well``,
    ``ill`` and ``silent`` name the relays that answered for a message, those in trouble, and those that said nothing.
    """

    def __init__(
        self,
        lease: Lease,
        *,
        transports: Mapping[str, Transport],
        paused: set[str],
        throttle: Throttle,
        pacing: Pacing,
        sources: Sources,
        journal: Journal,
        settler: Settler,
        pause: Callable[[str, ReplyClass, str], None],
        storm: Storm,
        sink: EventSink,
        clock: Clock,
        retry: RetryPolicy,
        stopping: Callable[[], bool],
        patience: int = IN_A_ROW,
    ) -> None:
        self.well, self.ill, self.silent = set[str](), set[str](), set[str]()
        self._lease, self._transports, self._paused = lease, transports, paused
        self._throttle, self._storm, self._patience = throttle, storm, patience
        self._pacing = pacing
        self._sources, self._journal, self._settler = sources, journal, settler
        self._pause, self._sink, self._clock = pause, sink, clock
        self._retry, self._stopping = retry, stopping
        self._unsent: dict[int, LeasedMessage] = {}
        self._limited, self._trouble, self._away = 0.0, "", ""
        self._ahead = lease.taken - clock.time()  # of the ledger's clock: it alone says when a lifetime is over
        self._built: dict[int, str] = {}
        self._fingerprint = fingerprint()

    def send(self) -> None:
        """Send the lease, relay by relay; what a relay in trouble leaves unsent goes to the next one, if it may."""
        waiting: Sequence[LeasedMessage] = self._lease.messages
        while waiting:
            routes: dict[str | None, list[LeasedMessage]] = {}
            for message in waiting:
                routes.setdefault(choose(message.relay, tuple(self._transports), self._paused), []).append(message)
            waiting = []
            for relay, group in routes.items():
                if relay is None:
                    self._end_without(group)
                else:
                    waiting += self._send_over(self._transports[relay], group)

    def _end_without(self, group: Sequence[LeasedMessage]) -> None:
        """No relay is left: what asks for none can go as soon as any of them can."""
        anywhere = [message for message in group if message.relay is None]
        self._end(anywhere, State.QUEUED, self._trouble or _NO_RELAY)
        bound = [message for message in group if message.relay is not None]
        self._end(bound, State.QUEUED, _NO_RELAY, due_in=_NO_RELAY_SECONDS)

    def _send_over(self, transport: Transport, group: Sequence[LeasedMessage]) -> list[LeasedMessage]:
        """Send one relay's share. What has no outcome in the end is known to be unsent; what of it may go over another
        relay is returned, and the rest goes back."""
        self._unsent = {message.id: message for message in group}
        relay, trouble, limited = transport.name, "", 0.0
        self._limited, self._away = 0.0, ""
        try:
            messages = self._compose(relay, group)
            with closing(transport.send(messages, self._journal, lambda: bool(trouble))) as outcomes:
                for outcome in outcomes:
                    trouble = self._take(outcome) or trouble
            limited = self._limited
        except LimitReached as error:
            self._throttle.close_for(relay, error.seconds, error.reason)
            limited = error.seconds
        except TransportError as error:
            trouble = error.reason
            # A login that is refused again and again may lock the account.
            refused = isinstance(error, AuthFailed)
            self._found_ill(relay, ReplyClass.ACCOUNT if refused else ReplyClass.RELAY, trouble)
        except LedgerError as error:  # our journal's: it may not be begun any more, or not yet
            self._away = str(error)
        return self._leave(relay, trouble, limited)

    def _leave(self, relay: str, trouble: str, limited: float) -> list[LeasedMessage]:
        unsent = list(self._unsent.values())
        if trouble:
            self._trouble = f"not tried: {trouble}"
            self._end([message for message in unsent if message.relay is not None], State.QUEUED, self._trouble)
            return [message for message in unsent if message.relay is None]
        if self._away:
            self._end(unsent, State.QUEUED, self._away, due_in=_AWAY_SECONDS)
            return []
        reason = f"limit of {relay}: {self._throttle.reason(relay)}" if limited else ""
        self._end(unsent, State.QUEUED, reason, due_in=limited)
        return []

    def _found_ill(self, relay: str, kind: ReplyClass, reason: str) -> None:
        self.ill.add(relay)
        self._paused.add(relay)
        self._pause(relay, kind, reason)

    def _compose(self, relay: str, group: Sequence[LeasedMessage]) -> Iterator[Message]:
        """Compose one message at a time, as the transport asks for them and the relay's limits allow; one that cannot
        be composed is invalid, and one whose parts cannot be read now waits without holding up the next."""
        unread = 0
        for leased in group:
            if self._stopping():
                return
            if self._is_early(leased):
                continue
            try:
                message = compose(leased, self._sources)
            except LedgerUnavailable as error:
                self._end([self._unsent.pop(leased.id)], State.QUEUED, str(error), due_in=_UNREAD_SECONDS)
                unread += 1
                if unread == _UNREAD_IN_A_ROW:
                    self._away = str(error)
                    return
                continue
            except (DispatcherError, ValueError) as error:
                self._invalidate(self._unsent.pop(leased.id), str(error))
                continue
            unread = 0
            self._limited = self._throttle.admit(relay, len(leased.deliveries), self._stopping)
            if self._limited:
                return
            self._built[message.id] = message.sha256
            yield message

    def _is_early(self, leased: LeasedMessage) -> bool:
        """Give back what its campaign does not let go now; it costs no attempt."""
        wait, why = self._pacing.wait(leased, self._clock.time() + self._ahead)
        if wait:
            self._end([self._unsent.pop(leased.id)], State.QUEUED, why, due_in=wait)
        return wait > 0

    def _take(self, outcome: Outcome) -> str:
        """Hand one message's results to the settler; the reason to stop using the relay, if there is one."""
        leased, sha256 = self._unsent.pop(outcome.message), self._built.pop(outcome.message)
        now, results, relay = self._clock.time(), dict(outcome.results), outcome.relay
        self._throttle.told(relay, outcome.seconds)
        self._pacing.told(leased, outcome.seconds)
        told = Told(relay, outcome.seconds, now, sha256, self._fingerprint)
        settlements, trouble, silent = [], "", True
        for delivery in leased.deliveries:
            result = results[delivery.id]
            silent = silent and isinstance(result, NoReply)
            decision = verdict(leased, delivery, result, now=now + self._ahead, policy=self._retry)
            text = str(result)
            if decision.trouble is not None and not trouble:
                trouble = text
                self._found_ill(relay, decision.trouble, trouble)
            settlements.append(answered(delivery.id, leased.id, result, decision, told))
            dsn = result.enhanced if isinstance(result, Reply) else None
            self._tell(leased, delivery, decision.state, relay, text, dsn, now)
        self._settler.add(self._lease.token, settlements)
        if not trouble and (trouble := self._storm.note(outcome, limit=self._patience)):
            self._found_ill(relay, ReplyClass.TRANSIENT, trouble)
        if not trouble:
            (self.silent if silent else self.well).add(relay)
        return trouble

    def _tell(
        self,
        leased: LeasedMessage,
        delivery: LeasedDelivery,
        state: State,
        relay: str,
        reply: str,
        dsn: str | None,
        now: float,
    ) -> None:
        ids, delay = (leased.public_id, leased.submission), now - leased.dated
        self._sink(
            DeliveryTried(*ids, leased.lane, delivery.rcpt, relay, state, reply, dsn, delay, delivery.attempts + 1)
        )

    def _invalidate(self, leased: LeasedMessage, reason: str) -> None:
        self._end([leased], State.INVALID, reason)
        for delivery in leased.deliveries:
            self._tell(leased, delivery, State.INVALID, "none", reason, None, self._clock.time())

    def _end(self, group: Iterable[LeasedMessage], state: State, text: str, *, due_in: float = 0.0) -> None:
        """Settle without an attempt."""
        settlements = [
            Settlement(delivery.id, leased.id, state, attempted=False, due_in=due_in, text=text)
            for leased in group
            for delivery in leased.deliveries
        ]
        if settlements:
            self._settler.add(self._lease.token, settlements)
