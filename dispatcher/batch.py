"""One lease on its way out: route, compose, send, and say what became of every delivery in it."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

from dispatcher.compose import Sources, compose, fingerprint
from dispatcher.delivery import Lease, LeasedDelivery, LeasedMessage, Settlement, State
from dispatcher.errors import DispatcherError, LedgerError, TransportError
from dispatcher.events import DeliveryTried
from dispatcher.interfaces import Clock, EventSink, Journal, Transport
from dispatcher.mail import Message
from dispatcher.reply import NoReply, Outcome, Reply, ReplyClass, Result
from dispatcher.retry import Decision, RetryPolicy, decide
from dispatcher.routing import choose
from dispatcher.settler import Settler

_NO_RELAY_SECONDS = 60.0


class Batch:
    """Sends one lease. Every delivery in it is settled when ``send`` returns: with what the relay said, or given back.

    ``pause`` is called with a relay's name, the class of its trouble and the reason, when it must not be used now.
    """

    def __init__(
        self,
        lease: Lease,
        *,
        transports: Mapping[str, Transport],
        paused: set[str],
        sources: Sources,
        journal: Journal,
        settler: Settler,
        pause: Callable[[str, ReplyClass, str], None],
        sink: EventSink,
        clock: Clock,
        retry: RetryPolicy,
        stopping: Callable[[], bool],
    ) -> None:
        self._lease, self._transports, self._paused = lease, transports, paused
        self._sources, self._journal, self._settler = sources, journal, settler
        self._pause, self._sink, self._clock = pause, sink, clock
        self._retry, self._stopping = retry, stopping
        self._unsent: dict[int, LeasedMessage] = {}
        self._built: dict[int, str] = {}

    def send(self) -> None:
        """Send the lease, relay by relay."""
        routes: dict[str | None, list[LeasedMessage]] = {}
        for message in self._lease.messages:
            routes.setdefault(choose(message.relay, tuple(self._transports), self._paused), []).append(message)
        for relay, group in routes.items():
            if relay is None:
                self._end(group, State.QUEUED, "its relay is paused or not configured", due_in=_NO_RELAY_SECONDS)
            else:
                self._send_over(self._transports[relay], group)

    def _send_over(self, transport: Transport, group: Sequence[LeasedMessage]) -> None:
        """Send one relay's share; what has no outcome in the end is known to be unsent and goes back."""
        self._unsent = {message.id: message for message in group}
        trouble = ""
        try:
            with closing(transport.send(self._compose(group), self._journal)) as outcomes:
                for outcome in outcomes:
                    trouble = self._take(outcome)
                    if trouble:
                        break
        except TransportError as error:
            trouble = error.reason
            self._pause(transport.name, ReplyClass.RELAY, trouble)
        self._end(self._unsent.values(), State.QUEUED, f"not tried: {trouble}" if trouble else "")

    def _compose(self, group: Sequence[LeasedMessage]) -> Iterator[Message]:
        """Compose one message at a time, as the transport asks for them; one that cannot be composed is invalid."""
        for leased in group:
            if self._stopping():
                return
            try:
                message = compose(leased, self._sources)
            except (DispatcherError, ValueError) as error:
                if isinstance(error, LedgerError) and error.temporary:
                    return
                self._invalidate(self._unsent.pop(leased.id), str(error))
            else:
                self._built[message.id] = message.sha256
                yield message

    def _take(self, outcome: Outcome) -> str:
        """Hand one message's results to the settler; the reason to stop using the relay, if there is one."""
        leased, sha256 = self._unsent.pop(outcome.message), self._built.pop(outcome.message)
        now, results, trouble = self._clock.time(), dict(outcome.results), ""
        settlements = []
        for delivery in leased.deliveries:
            result = results[delivery.id]
            decision = self._decide(leased, delivery, result, now)
            if decision.trouble is not None and not trouble:
                trouble = str(result)
                self._pause(outcome.relay, decision.trouble, trouble)
            settlements.append(_settlement(leased, delivery, result, decision, outcome, sha256, now))
            self._tell(leased, delivery, decision.state, outcome.relay, result, now)
        self._settler.add(self._lease.token, settlements)
        return trouble

    def _decide(self, leased: LeasedMessage, delivery: LeasedDelivery, result: Result, now: float) -> Decision:
        # Recipients of one message share their luck, so that they stay due together.
        luck = random.Random(leased.id).random()  # noqa: S311 - spreads load, guards nothing
        return decide(
            result,
            attempts=delivery.attempts,
            remaining=delivery.expires_at - now,
            policy=self._retry,
            if_in_doubt=leased.if_in_doubt,
            luck=luck,
        )

    def _tell(
        self,
        leased: LeasedMessage,
        delivery: LeasedDelivery,
        state: State,
        relay: str,
        result: Result | str,
        now: float,
    ) -> None:
        self._sink(
            DeliveryTried(
                id=leased.public_id,
                submission=leased.submission,
                lane=leased.lane,
                to=delivery.rcpt,
                relay=relay,
                state=state,
                reply=str(result),
                dsn=result.enhanced if isinstance(result, Reply) else None,
                delay=now - leased.dated,
                attempt=delivery.attempts + 1,
            )
        )

    def _invalidate(self, leased: LeasedMessage, reason: str) -> None:
        self._end([leased], State.INVALID, reason)
        for delivery in leased.deliveries:
            self._tell(leased, delivery, State.INVALID, "none", reason, self._clock.time())

    def _end(self, group: Iterable[LeasedMessage], state: State, text: str, *, due_in: float = 0.0) -> None:
        """Settle without an attempt."""
        settlements = [
            Settlement(delivery.id, leased.id, state, attempted=False, due_in=due_in, text=text)
            for leased in group
            for delivery in leased.deliveries
        ]
        if settlements:
            self._settler.add(self._lease.token, settlements)


def _settlement(
    leased: LeasedMessage,
    delivery: LeasedDelivery,
    result: Result,
    decision: Decision,
    outcome: Outcome,
    sha256: str,
    now: float,
) -> Settlement:
    code, enhanced, text = (
        (None, None, result.reason) if isinstance(result, NoReply) else (result.code, result.enhanced, result.text)
    )
    return Settlement(
        delivery=delivery.id,
        message=leased.id,
        state=decision.state,
        attempted=decision.attempted,
        due_in=decision.due_in,
        code=code,
        enhanced=enhanced,
        text=text,
        relay=outcome.relay,
        phase=result.phase,
        seconds=outcome.seconds,
        at=now,
        sha256=sha256,
        build=fingerprint(),
    )
