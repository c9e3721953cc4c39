"""One SMTP session with a relay: opened, used for one transaction after another, closed (RFC 5321)."""

import re
import time
from collections.abc import Callable, Sequence

from dispatcher.adapters.smtp_auth import authenticate
from dispatcher.adapters.smtp_wire import Silence, Wire
from dispatcher.errors import ConnectFailed, TlsFailed
from dispatcher.interfaces import Journal
from dispatcher.mail import Message
from dispatcher.relay import Capabilities, Relay
from dispatcher.reply import NoReply, Outcome, Phase, Reply, Result

_CLOSING = 421
_GO_ON = (3,)
_TOO_MANY = re.compile(r"too many|concurren|(connection|session)s?\W+(\w+\W+){0,3}(limit|exceed)", re.IGNORECASE)


class StaleSession(Exception):
    """A kept connection turned out to be closed, or to be closing, before it took anything of the message."""


class SmtpSession:
    """A greeted, secured and authenticated connection.

    ``usable`` turns False, for good, with a 421, silence or garbage, and while a transaction is open: whatever
    interrupts one leaves the session unusable. ``transactions`` counts those that were begun. ``crowd`` is told of a
    reply that may mean one connection too many; it raises what is to be raised if it does.
    """

    def __init__(
        self, relay: Relay, wire: Wire, capabilities: Capabilities, crowd: Callable[[Reply], None] = lambda _: None
    ) -> None:
        self.capabilities = capabilities
        self.usable = True
        self.transactions = 0
        self._relay, self._wire, self._crowd = relay, wire, crowd
        self._needs_reset = False

    @classmethod
    def open(cls, relay: Relay, crowd: Callable[[Reply], None] = lambda _: None) -> "SmtpSession":
        """Connect, greet, go under TLS and log in. Raises ConnectFailed, TlsFailed, AuthFailed, and what ``crowd``
        does."""
        wire = Wire.connect(relay)
        try:
            capabilities = _enter(wire, relay, crowd)
        except Silence as silence:
            wire.close(polite=False)
            raise ConnectFailed(relay.name, f"{relay.display}: {silence}") from silence
        except BaseException:
            wire.close(polite=False)
            raise
        return cls(relay, wire, capabilities, crowd)

    def send(self, message: Message, journal: Journal) -> Outcome:
        """One transaction. Raises StaleSession when a used connection is found to have ended: nothing was taken.

        A silence is the result of every recipient that was not refused before it. So is a 421: the server gave up
        the transaction with it. A message that the server's limits exclude is answered here, as the server would.
        """
        started = time.monotonic()
        refused: dict[int, Result] = {}
        rest: Result | None = self._unfit(message)
        if rest is None:
            rest = self._transact(message, journal, refused)
        outcome = Outcome(
            message=message.id,
            results=tuple((delivery, refused.get(delivery, rest)) for delivery, _ in message.rcpt_to),
            relay=self._relay.name,
            seconds=time.monotonic() - started,
        )
        journal.reply(outcome)
        return outcome

    def reset(self) -> bool:
        """RSET: drop what an earlier transaction left, and see whether anyone is there. False: of no use any more."""
        self.usable = False
        try:
            self.usable = _positive(self._wire.ask("RSET", Phase.MAIL))
        except Silence:
            return False
        self._needs_reset = False
        return self.usable

    def readable(self) -> bool:
        """Whether the server said something, or hung up, while nothing was asked of it."""
        return self._wire.readable()

    def close(self, *, polite: bool = True) -> None:
        """Close the connection, after a QUIT if ``polite``."""
        self.usable = False
        self._wire.close(polite=polite)

    def _transact(self, message: Message, journal: Journal, refused: dict[int, Result]) -> Result:
        """Run the transaction; note refusals by recipient, return the result of all others."""
        used, self.transactions = self.transactions > 0, self.transactions + 1
        if self._needs_reset and not self.reset():
            raise StaleSession
        self.usable, self._needs_reset = False, True
        try:
            rest = self._converse(message, journal, refused)
        except Silence as silence:
            if used and silence.closed and silence.phase is Phase.MAIL:
                raise StaleSession from silence
            return NoReply(silence.phase, silence.reason, silence.closed)
        if used and rest.code == _CLOSING and rest.phase is Phase.MAIL:
            raise StaleSession
        if rest.code // 100 == 4 and rest.phase is Phase.MAIL and _TOO_MANY.search(rest.text):  # noqa: PLR2004 - 4yz
            self._crowd(rest)
        self.usable = rest.code != _CLOSING
        return rest

    def _converse(self, message: Message, journal: Journal, refused: dict[int, Result]) -> Reply:
        reply = self._wire.ask(self._mail(message), Phase.MAIL)
        if not _positive(reply):
            return reply
        for delivery, address in message.rcpt_to:
            reply = self._wire.ask(f"RCPT TO:<{address}>", Phase.RCPT)
            if reply.code == _CLOSING:
                return reply
            if not _positive(reply):
                refused[delivery] = reply
        if len(refused) == len(message.rcpt_to):
            return reply
        reply = self._wire.ask("DATA", Phase.DATA, _GO_ON)
        if reply.code // 100 != 3:  # noqa: PLR2004 - RFC 5321 section 4.2.1: 3yz, go on
            return reply
        return self._deliver_body(message, journal, tuple(refused.items()))

    def _deliver_body(self, message: Message, journal: Journal, refused: Sequence[tuple[int, Result]]) -> Reply:
        journal.begin(message, refused)
        self._wire.wait(self._relay.timeout_final)
        self._wire.send_body(message.content)
        reply = self._wire.read(Phase.FINAL)
        self._wire.wait(self._relay.timeout_command)
        # The end of the mail data clears all buffers, whatever the reply to it was (RFC 5321 section 4.1.1.4): a RSET
        # before the next MAIL would only cost a round trip.
        self._needs_reset = False
        return reply

    def _mail(self, message: Message) -> str:
        command = f"MAIL FROM:<{message.mail_from}>"
        if self.capabilities.offers("SIZE"):
            command += f" SIZE={len(message.content)}"
        if not message.content.isascii() and self.capabilities.offers("8BITMIME"):
            command += " BODY=8BITMIME"
        return command + " SMTPUTF8" if _needs_utf8(message) else command

    def _unfit(self, message: Message) -> Reply | None:
        limit, size = self.capabilities.size, len(message.content)
        if limit is not None and size > limit:
            text = f"the message has {size} bytes, the server takes {limit}"
            return Reply(552, text, "5.3.4", Phase.MAIL)
        if _needs_utf8(message) and not self.capabilities.offers("SMTPUTF8"):
            return Reply(550, "an address needs SMTPUTF8, which the server does not offer", "5.6.7", Phase.MAIL)
        if any(c in address for address in _envelope(message) for c in "\r\n\0"):
            return Reply(553, "a control character in an address", "5.1.3", Phase.MAIL)
        return None


def _enter(wire: Wire, relay: Relay, crowd: Callable[[Reply], None]) -> Capabilities:
    wire.wait(relay.timeout_command)
    _welcome(relay, wire.read(Phase.CONNECT), crowd)
    _greet(wire, relay, crowd)
    if relay.tls == "starttls":
        if not wire.capabilities(None).offers("STARTTLS"):
            raise TlsFailed(relay.name, f"{relay.display}: the server offers no STARTTLS")
        reply = wire.ask("STARTTLS", Phase.TLS)
        if not _positive(reply):
            raise TlsFailed(relay.name, f"{relay.display}: STARTTLS was refused: {reply}")
        wire.secure(relay)
        wire.wait(relay.timeout_command)
        _greet(wire, relay, crowd)
    auth = authenticate(wire, relay, wire.capabilities(None))
    return wire.capabilities(auth)


def _greet(wire: Wire, relay: Relay, crowd: Callable[[Reply], None]) -> None:
    """EHLO, or HELO for a server that knows no better where neither STARTTLS nor AUTH is needed."""
    reply = wire.hello(relay.ehlo)
    if reply.code // 100 == 5 and relay.tls != "starttls" and relay.username is None:  # noqa: PLR2004 - refused for good
        reply = wire.ask(f"HELO {relay.ehlo or wire.own_name()}", Phase.EHLO)
    _welcome(relay, reply, crowd)


def _welcome(relay: Relay, reply: Reply, crowd: Callable[[Reply], None]) -> None:
    if reply.code // 100 == 4:  # noqa: PLR2004 - RFC 5321 section 4.2.1: not now
        crowd(reply)
    if not _positive(reply):
        raise ConnectFailed(relay.name, f"{relay.display}: refused at {reply.phase}: {reply}")


def _positive(reply: Reply) -> bool:
    return reply.code // 100 == 2  # noqa: PLR2004 - RFC 5321 section 4.2.1: 2yz


def _envelope(message: Message) -> tuple[str, ...]:
    return (message.mail_from, *(address for _, address in message.rcpt_to))


def _needs_utf8(message: Message) -> bool:
    return message.utf8 or not all(address.isascii() for address in _envelope(message))
