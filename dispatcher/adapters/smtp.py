"""The transport to one relay: messages in, outcomes out, over pooled sessions."""

from collections.abc import Generator, Iterable

from dispatcher.adapters.smtp_session import SmtpSession, StaleSession
from dispatcher.errors import LimitReached
from dispatcher.interfaces import Journal, RateLimiter
from dispatcher.mail import Message
from dispatcher.pool import Pool
from dispatcher.relay import Capabilities, Relay
from dispatcher.reply import NoReply, Outcome, Phase, Reply

_AGAIN_SECONDS = 1.0


class SmtpTransport:
    """Sends through one relay over at most ``size`` connections of this process, and of all workers as many as the
    ``limiter`` lets in. Implements interfaces.Transport.

    Thread-safe: each ``send`` in progress has a session of its own.
    """

    def __init__(
        self, relay: Relay, *, size: int = 4, wait_seconds: float = 30.0, limiter: RateLimiter | None = None
    ) -> None:
        self.name = relay.name
        self._relay, self._limiter = relay, limiter
        self._pool = Pool(relay, self._open, size=size, wait_seconds=wait_seconds, gate=limiter)

    def send(self, messages: Iterable[Message], journal: Journal) -> Generator[Outcome, None, None]:
        """Send one message after another; yield each outcome as soon as it is known.

        Raises TransportError when no session can be had (any more): what was not yielded until then is unsent.
        LimitReached is the one that is no fault of the relay's.
        """
        session: SmtpSession | None = None
        waiting = iter(messages)
        try:
            while True:
                # First the session, then the message: its time to go must not pass while a connection is opened.
                session = self._ready(session)
                message = next(waiting, None)
                if message is None:
                    return
                if self._pool.spent(session):
                    session = self._pool.replace(session)
                try:
                    outcome = session.send(message, journal)
                except StaleSession:
                    session = self._pool.replace(session)
                    outcome = session.send(message, journal)
                if _cut_off(outcome):
                    # Is it this mail, or is the relay gone? Then nobody's attempt is spent on that: this raises.
                    session = self._pool.replace(session)
                yield outcome
        finally:
            if session is not None:
                self._pool.give(session)

    def check(self) -> Capabilities:
        """Connect, secure, log in and leave again, outside of the pool. Raises TransportError."""
        session = SmtpSession.open(self._relay)
        session.close(polite=True)
        return session.capabilities

    def tend(self) -> None:
        """Close the idle connections that are too old, or that another worker waits for."""
        self._pool.tend()

    def close(self) -> None:
        """Say QUIT on every idle connection; those in use end with their ``send``."""
        self._pool.close()

    def __repr__(self) -> str:
        return f"<SmtpTransport {self._relay.display} {self._pool!r}>"

    def _ready(self, session: SmtpSession | None) -> SmtpSession:
        """This session, or a kept or new one. Where mails have their times, also in place of one that is worn out."""
        if session is not None:
            worn = self._relay.rate and session.usable and self._pool.spent(session)
            return self._pool.replace(session) if worn else session
        session = self._pool.take()
        # Another may have left a transaction open, or the server may have gone: RSET tells, at no cost.
        sound = session.transactions == 0 or session.reset()
        return session if sound else self._pool.replace(session)

    def _open(self) -> SmtpSession:
        return SmtpSession.open(self._relay, self._crowd)

    def _crowd(self, reply: Reply) -> None:
        """Raise LimitReached for a refusal, if others of ours are open: then it is not the relay's trouble."""
        if self._limiter is not None and (others := self._limiter.crowded(self.name)):
            raise LimitReached(self.name, f"it takes no more than {others} connections: {reply}", _AGAIN_SECONDS)


def _cut_off(outcome: Outcome) -> bool:
    """Whether the relay ended the connection before the final dot: nothing was accepted."""
    return any(
        isinstance(result, NoReply) and result.closed and result.phase is not Phase.FINAL
        for _, result in outcome.results
    )
