"""Several sessions at work on one stream of messages, in one thread: while one waits for its server, another goes
on."""

import select
import time
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from dispatcher.adapters.smtp_session import OutOfStep, SmtpSession, StaleSession
from dispatcher.adapters.smtp_wire import Waits
from dispatcher.errors import TransportError
from dispatcher.interfaces import Journal
from dispatcher.mail import Message
from dispatcher.pool import Pool
from dispatcher.relay import Relay
from dispatcher.reply import NoReply, Outcome, Phase

# Of waiting for all servers, after which one more connection is worth its opening, or its use if it is open already;
# and the share of the time that the waiting makes up then: a fast server's one connection is kept busy.
_OPEN_SECONDS, _USE_SECONDS, _WAITING = 0.02, 0.001, 0.1
_HELD_BYTES = 24 << 20  # of messages in hand, beyond which no further one is taken for one more connection
_SHARE_SECONDS = 1.0  # how often it looks whether another worker waits for a connection


class Home(Protocol):
    """What a crew asks of its transport."""

    relay: Relay
    size: int
    pool: Pool[SmtpSession]

    def learn(self, session: SmtpSession, outcome: Outcome, *, stumbled: bool) -> None: ...


class Crew:
    """Sends messages, for the time of one ``run``."""

    def __init__(self, home: Home, messages: Iterator[Message], journal: Journal, halted: Callable[[], bool]) -> None:
        self.home, self.journal = home, journal
        self._messages, self._halted = messages, halted
        self._hands: list[_Hand] = []
        self._most = 1 if home.relay.rate else home.size  # where each mail has its time, one follows the other
        self._trouble: Exception | None = None
        self._kept: Message | None = None  # taken from the stream, and nobody's yet
        self._held = 0  # bytes of messages that were taken and are not answered
        self._since, self._waited = time.monotonic(), 0.0
        self._shared = self._since

    def run(self) -> Generator[Outcome, None, None]:
        """See SmtpTransport.send. What is begun is waited for, whatever happens to others meanwhile."""
        try:
            self._hands.append(_Hand(self, self._engage()))
            while self._hands:
                for hand in [hand for hand in self._hands if not hand.waits_for]:
                    yield from self._let_work(hand)
                if self._hands:
                    self._wait()
            if self._trouble is not None:
                raise self._trouble
        finally:
            for hand in self._hands:
                self.home.pool.give(hand.session)

    def next(self) -> Message | None:
        """The next message; None when there is none, or none is to be begun any more."""
        if self.stops():
            return None
        message, self._kept = self._kept, None
        if message is None and (message := next(self._messages, None)) is not None:
            self._held += len(message.content)
        return message

    def answered(self, message: Message) -> None:
        """It is in nobody's hand any more."""
        self._held -= len(message.content)

    @property
    def full(self) -> bool:
        """Whether what is in hand is as large as it may be, so that memory does not go with the size of mails."""
        return self._held >= _HELD_BYTES

    @property
    def alone(self) -> bool:
        """Whether there is only one hand, which goes on in any case."""
        return len(self._hands) < 2  # noqa: PLR2004 - as it says

    def spares(self) -> bool:
        """Whether one of several connections is to be let go, since another worker waits for one."""
        now = time.monotonic()
        if self.alone or now - self._shared < _SHARE_SECONDS:
            return False
        self._shared = now
        return self.home.pool.wanted()

    def stops(self) -> bool:
        """Whether none is to be begun any more."""
        return self._trouble is not None or self._halted()

    def _engage(self) -> SmtpSession:
        """A kept or new session."""
        session = self.home.pool.take()
        session.distrust()
        return session

    def _let_work(self, hand: "_Hand") -> Generator[Outcome, None, None]:
        """Let one go on until it has to wait, or has nothing to do any more."""
        try:
            while (outcome := hand.work()) is not None:
                yield outcome
        except Exception as error:  # noqa: BLE001 - it is raised as soon as nobody waits for an answer any more
            self._trouble = self._trouble or error
            hand.over = True
        if hand.over:
            self._hands.remove(hand)
            self.home.pool.give(hand.session)

    def _wait(self) -> None:
        """Wait until a server has answered, or is over its time; or for a moment, and engage one more hand."""
        began = time.monotonic()
        grows = len(self._hands) < self._most and not self.full and not self.stops()
        enough = _USE_SECONDS if self.home.pool.idle else _OPEN_SECONDS
        until = min(hand.until for hand in self._hands)
        poll = select.poll()
        for hand in self._hands:
            poll.register(hand.session.fileno(), hand.waits_for)
        seconds = min(enough, until - began) if grows else until - began
        ready = {number for number, _ in poll.poll(max(0.0, seconds) * 1000)}
        now = time.monotonic()
        for hand in self._hands:
            if hand.session.fileno() in ready:
                hand.waits_for = 0
            elif now >= hand.until:
                hand.waits_for, hand.late = 0, True
        self._waited += now - began
        if grows and self._waited >= max(enough, _WAITING * (now - self._since)):
            self._grow()

    def _grow(self) -> None:
        """One more hand for the next message, if there is one; else a connection for it is begun, and it is kept."""
        self._since, self._waited = time.monotonic(), 0.0
        message = self.next()
        if message is None:
            self._most = 0
            return
        if not self.home.pool.idle:
            self._kept = message
            self.home.pool.prepare()
            return
        try:
            self._hands.append(_Hand(self, self._engage(), message))
        except TransportError:  # there are some: what is not needed is not worth a word
            self._most, self._kept = 0, message


class _Hand:
    """One session and what it does. ``waits_for``: what its server has to do before it can go on (0: nothing), at most
    until the moment ``until``; ``late``: it did not. ``over``: there is nothing to do any more."""

    def __init__(self, crew: Crew, session: SmtpSession, message: Message | None = None) -> None:
        self.session = session
        self.waits_for, self.until, self.late, self.over = 0, 0.0, False, False
        self._crew, self._pool, self._relay = crew, crew.home.pool, crew.home.relay
        self._ahead = message  # taken for this session, and not begun
        self._message: Message | None = None
        self._transaction: Waits[Outcome] | None = None
        self._stumbled = False

    def work(self) -> Outcome | None:
        """Go on; the outcome of a message, or None when it has to wait, or is ``over``."""
        while True:
            if self._transaction is None and not self._take_next():
                self.over = True
                return None
            outcome = self._go_on()
            if self.waits_for:
                return None
            if outcome is not None:
                return outcome

    def _take_next(self) -> bool:
        # First the session, then the message: its time to go must not pass while a connection is opened.
        if self._relay.rate and self.session.usable and self._pool.spent(self.session):
            self.session = self._pool.replace(self.session)
        if self._ahead is None and (self._crew.spares() or (self._crew.full and not self._crew.alone)):
            return False
        self._message, self._ahead = self._ahead or self._crew.next(), None
        if self._message is None or self._crew.stops():
            return False
        if not self.session.expects(self._message) and self._pool.spent(self.session):
            self.session = self._pool.replace(self.session)
        self._stumbled = False
        self._begin()
        return True

    def _begin(self) -> None:
        assert self._message is not None  # noqa: S101 - it was taken just now
        self._transaction = self.session.send(
            self._message, self._crew.journal, self._look_ahead if self._chains() else None
        )

    def _go_on(self) -> Outcome | None:
        assert self._transaction is not None  # noqa: S101 - it was begun
        late, self.late = self.late, False
        try:
            self.waits_for = self._transaction.throw(TimeoutError()) if late else next(self._transaction)
            self.until = time.monotonic() + self.session.patience
        except StopIteration as end:
            return self._end(end.value)
        except (StaleSession, OutOfStep) as error:
            self._stumbled = self._stumbled or isinstance(error, OutOfStep)
            self.session = self._pool.replace(self.session)
            self.session.pipelining = self.session.pipelining and not self._stumbled
            self._begin()
        return None

    def _end(self, outcome: Outcome) -> Outcome:
        self._transaction = None
        if self._message is not None:
            self._crew.answered(self._message)
        self._crew.home.learn(self.session, outcome, stumbled=self._stumbled)
        if _cut_off(outcome):
            # Is it this mail, or is the relay gone? Then nobody's attempt is spent on that: this raises.
            self.session = self._pool.replace(self.session)
        return outcome

    def _look_ahead(self) -> Message | None:
        if self._ahead is None and not self._crew.full:
            self._ahead = self._crew.next()
        return self._ahead

    def _chains(self) -> bool:
        """Whether the next message may be made before this one is answered: not where each has its time to go."""
        last = self.session.transactions + 1 >= self._relay.max_messages_per_connection
        return self.session.pipelining and not last and not self._relay.rate


def _cut_off(outcome: Outcome) -> bool:
    """Whether the relay ended the connection before the final dot: nothing was accepted."""
    for _, result in outcome.results:
        if isinstance(result, NoReply) and result.closed and result.phase is not Phase.FINAL:
            return True
    return False
