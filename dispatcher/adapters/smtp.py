"""The transport to one relay: messages in, outcomes out, over pooled sessions."""

from collections.abc import Callable, Generator, Iterable

from dispatcher.adapters.smtp_crew import Crew
from dispatcher.adapters.smtp_session import SmtpSession
from dispatcher.errors import LimitReached
from dispatcher.interfaces import Journal, RateLimiter
from dispatcher.mail import Message
from dispatcher.pool import Pool
from dispatcher.relay import Capabilities, Relay
from dispatcher.reply import NoReply, Outcome, Reply

_AGAIN_SECONDS = 1.0
_STUMBLES = 2  # after so many in a row it is no accident


class SmtpTransport:
    """Sends through one relay over at most ``size`` connections of this process, and of all workers as many as the
    ``limiter`` lets in. Implements interfaces.Transport.

    Thread-safe: each ``send`` in progress has sessions of its own.
    """

    def __init__(
        self, relay: Relay, *, size: int = 4, wait_seconds: float = 30.0, limiter: RateLimiter | None = None
    ) -> None:
        self.name, self.size = relay.name, size
        self.relay, self._limiter = relay, limiter
        self._stumbles = 0
        self.pool = Pool(relay, self._open, size=size, wait_seconds=wait_seconds, gate=limiter)

    def send(
        self, messages: Iterable[Message], journal: Journal, halted: Callable[[], bool] = lambda: False
    ) -> Generator[Outcome, None, None]:
        """Send one message after another, over more than one session where that spares waiting; yield each outcome as
        soon as it is known. Once ``halted`` answers True, none is begun any more.

        Raises TransportError when no session can be had (any more): what was not yielded until then is unsent.
        LimitReached is the one that is no fault of the relay's.
        """
        return Crew(self, iter(messages), journal, halted).run()

    def check(self) -> Capabilities:
        """Connect, secure, log in and leave again, outside of the pool. Raises TransportError."""
        session = SmtpSession.open(self.relay)
        session.close(polite=True)
        return session.capabilities

    def tend(self) -> None:
        """Close the idle connections that are too old, or that another worker waits for."""
        self.pool.tend()

    def close(self) -> None:
        """Say QUIT on every idle connection; those in use end with their ``send``."""
        self.pool.close()

    def learn(self, session: SmtpSession, outcome: Outcome, *, stumbled: bool) -> None:
        """A server that stumbles again and again over several commands at once, and not over one, is spared them."""
        if session.pipelining:
            self._stumbles = 0
        elif stumbled and not any(isinstance(result, NoReply) for _, result in outcome.results):
            self._stumbles += 1

    def __repr__(self) -> str:
        return f"<SmtpTransport {self.relay.display} {self.pool!r}>"

    def _open(self) -> SmtpSession:
        pipelining = self.relay.pipelining and self._stumbles < _STUMBLES
        return SmtpSession.open(self.relay, self._crowd, pipelining=pipelining)

    def _crowd(self, reply: Reply) -> None:
        """Raise LimitReached for a refusal, if others of ours are open: then it is not the relay's trouble."""
        if self._limiter is not None and (others := self._limiter.crowded(self.name)):
            raise LimitReached(self.name, f"it takes no more than {others} connections: {reply}", _AGAIN_SECONDS)
