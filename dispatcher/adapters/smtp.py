"""The transport to one relay: messages in, outcomes out, over pooled sessions."""

from collections.abc import Generator, Iterable

from dispatcher.adapters.smtp_session import SmtpSession, StaleSession
from dispatcher.interfaces import Journal
from dispatcher.mail import Message
from dispatcher.pool import Pool
from dispatcher.relay import Capabilities, Relay
from dispatcher.reply import Outcome


class SmtpTransport:
    """Sends through one relay over at most ``size`` connections of this process. Implements interfaces.Transport.

    Thread-safe: each ``send`` in progress has a session of its own.
    """

    def __init__(self, relay: Relay, *, size: int = 4, wait_seconds: float = 30.0) -> None:
        self.name = relay.name
        self._relay = relay
        self._pool = Pool(relay, lambda: SmtpSession.open(relay), size=size, wait_seconds=wait_seconds)

    def send(self, messages: Iterable[Message], journal: Journal) -> Generator[Outcome, None, None]:
        """Send one message after another; yield each outcome as soon as it is known.

        Raises TransportError when no session can be had (any more): what was not yielded until then is unsent.
        """
        session: SmtpSession | None = None
        try:
            for message in messages:
                if session is None:
                    session = self._pool.take()
                    # Another may have left a transaction open, or the server may have gone: RSET tells, at no cost.
                    sound = session.transactions == 0 or session.reset()
                else:
                    sound = not self._pool.spent(session)
                if not sound:
                    session = self._pool.replace(session)
                try:
                    outcome = session.send(message, journal)
                except StaleSession:
                    session = self._pool.replace(session)
                    outcome = session.send(message, journal)
                yield outcome
        finally:
            if session is not None:
                self._pool.give(session)

    def check(self) -> Capabilities:
        """Connect, secure, log in and leave again, outside of the pool. Raises TransportError."""
        session = SmtpSession.open(self._relay)
        session.close(polite=True)
        return session.capabilities

    def close(self) -> None:
        """Say QUIT on every idle connection; those in use end with their ``send``."""
        self._pool.close()

    def __repr__(self) -> str:
        return f"<SmtpTransport {self._relay.display} {self._pool!r}>"
