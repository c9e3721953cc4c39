"""One SMTP session with a relay: opened, used for one transaction after another, closed (RFC 5321).

Where the server offers PIPELINING (RFC 2920), an envelope and its DATA are one write, and the envelope of the next
message goes along with the body of this one: one round trip for each message, in place of four.
"""

import re
import time
from collections.abc import Callable, Sequence

from dispatcher.adapters.smtp_entry import enter
from dispatcher.adapters.smtp_envelope import envelope
from dispatcher.adapters.smtp_wire import Silence, Waits, Wire
from dispatcher.interfaces import Journal
from dispatcher.mail import Message
from dispatcher.relay import Capabilities, Relay
from dispatcher.reply import NoReply, Outcome, Phase, Reply, Result

_CLOSING = 421
_GO_ON = (3,)
# Replies to so many commands fit into any buffers: nobody may be stuck in writing while the other one is, too.
_MOST_AT_ONCE = 100
_TOO_MANY = re.compile(r"too many|concurren|(connection|session)s?\W+(\w+\W+){0,3}(limit|exceed)", re.IGNORECASE)

Following = Callable[[], Message | None]


class StaleSession(Exception):
    """A kept connection turned out to be closed, or to be closing, before it took anything of the message."""


class OutOfStep(Exception):
    """Several commands at once met silence or nonsense, before any body: the server may not be up to its PIPELINING."""


class SmtpSession:
    """A greeted, secured and authenticated connection.

    ``usable`` turns False, for good, with a 421, silence or garbage, and while a transaction is open: whatever
    interrupts one leaves the session unusable. ``transactions`` counts those that were begun, ``patience`` is how many
    seconds the server may take for what it is to do now. ``crowd`` is told of a
    reply that may mean one connection too many; it raises what is to be raised if it does.
    """

    def __init__(
        self,
        relay: Relay,
        wire: Wire,
        capabilities: Capabilities,
        crowd: Callable[[Reply], None] = lambda _: None,
        *,
        pipelining: bool = False,
    ) -> None:
        self.capabilities = capabilities
        self.usable = True
        self.transactions = 0
        self.pipelining = pipelining
        self.patience = relay.timeout_command
        self._relay, self._wire, self._crowd = relay, wire, crowd
        self._needs_reset = False
        self._in_step = True
        self._following: Message | None = None
        self._ahead: Message | None = None  # its envelope is on its way already

    @classmethod
    def open(
        cls, relay: Relay, crowd: Callable[[Reply], None] = lambda _: None, *, pipelining: bool = True
    ) -> "SmtpSession":
        """Connect, greet, go under TLS and log in. Raises ConnectFailed, TlsFailed, AuthFailed, and what ``crowd``
        does. ``pipelining``: if the server offers it."""
        wire, capabilities = enter(relay, crowd)
        return cls(relay, wire, capabilities, crowd, pipelining=pipelining and capabilities.offers("PIPELINING"))

    def fileno(self) -> int:
        """For whoever waits for the server."""
        return self._wire.fileno()

    def send(self, message: Message, journal: Journal, following: Following | None = None) -> Waits[Outcome]:
        """One transaction; who runs it waits where it has to, up to ``patience`` seconds at a time.

        Raises StaleSession when a used connection is found to have ended, OutOfStep when the server cannot follow
        several commands at once: nothing was taken.

        ``following`` is asked for the message whose envelope may go along; that one, if there is one, must be the next
        to be sent here. A silence is the result of every recipient that was not refused before it. So is a 421: the
        server gave up the transaction with it. A message that the server's limits exclude is answered here.
        """
        started = time.monotonic()
        refused: dict[int, Result] = {}
        rest: Result
        commands = [] if self._ahead is message else envelope(message, self.capabilities)
        if isinstance(commands, Reply):
            rest = commands
        else:
            rest = yield from self._transact(message, commands, journal, refused, following)
        outcome = Outcome(
            message=message.id,
            results=tuple((delivery, refused.get(delivery, rest)) for delivery, _ in message.rcpt_to),
            relay=self._relay.name,
            seconds=time.monotonic() - started,
        )
        journal.reply(outcome)
        return outcome

    def expects(self, message: Message) -> bool:
        """Whether its envelope is on its way."""
        return self._ahead is message

    def distrust(self) -> None:
        """It was not used for a while. A RSET before the next transaction drops what an earlier one may have left, and
        tells whether the server is still there."""
        self._needs_reset = self.transactions > 0

    def readable(self) -> bool:
        """Whether the server said something, or hung up, while nothing was asked of it."""
        return self._wire.readable()

    def close(self, *, polite: bool = True) -> None:
        """Close the connection, after a QUIT if ``polite``."""
        self.usable = False
        self._wire.close(polite=polite)

    def _transact(
        self,
        message: Message,
        commands: Sequence[str],
        journal: Journal,
        refused: dict[int, Result],
        following: Following | None,
    ) -> Waits[Result]:
        """Run the transaction; note refusals by recipient, return the result of all others. ``commands``: its envelope,
        none if that is on its way already."""
        used, self.transactions = self.transactions > 0, self.transactions + 1
        needs_reset, self._needs_reset, self.usable = self._needs_reset, True, False
        self._wire.wait_elsewhere()
        self.patience = self._relay.timeout_command
        at_once = self.pipelining and len(message.rcpt_to) <= _MOST_AT_ONCE
        if needs_reset:
            yield from self._reset(commands if at_once else ())
        try:
            if at_once:
                rest = yield from self._propose_at_once(message, () if needs_reset else commands, refused, following)
            else:
                rest = yield from self._propose(message, commands, refused)
        except Silence as silence:
            self._ahead = None
            if used and silence.closed and silence.phase is Phase.MAIL:
                raise StaleSession from silence
            if at_once:
                raise OutOfStep(str(silence)) from silence
            return NoReply(silence.phase, silence.reason, silence.closed)
        if rest is None:
            return (yield from self._deliver_body(message, journal, tuple(refused.items())))
        if used and rest.code == _CLOSING and rest.phase is Phase.MAIL:
            raise StaleSession
        if rest.code // 100 == 4 and rest.phase is Phase.MAIL and _TOO_MANY.search(rest.text):  # noqa: PLR2004 - 4yz
            self._crowd(rest)
        self.usable = rest.code != _CLOSING and self._in_step
        return rest

    def _reset(self, commands: Sequence[str]) -> Waits[None]:
        """``commands``: an envelope that may go along."""
        try:
            yield from self._wire.say("RSET", *commands, *(("DATA",) if commands else ()))
            reply = yield from self._wire.hear(Phase.MAIL)
        except Silence as silence:
            raise StaleSession from silence
        if not reply.positive:
            raise StaleSession

    def _propose(self, message: Message, commands: Sequence[str], refused: dict[int, Result]) -> Waits[Reply | None]:
        """Name sender and recipients, one by one; the reply that ends the transaction, None to go on with the body."""
        self._following = None
        mail, *recipients = commands
        reply = yield from self._ask(mail, Phase.MAIL)
        if not reply.positive:
            return reply
        for (delivery, _address), command in zip(message.rcpt_to, recipients, strict=True):
            reply = yield from self._ask(command, Phase.RCPT)
            if reply.code == _CLOSING:
                return reply
            if not reply.positive:
                refused[delivery] = reply
        if len(refused) == len(message.rcpt_to):
            return reply
        reply = yield from self._ask("DATA", Phase.DATA, _GO_ON)
        return None if reply.intermediate else reply

    def _propose_at_once(
        self, message: Message, commands: Sequence[str], refused: dict[int, Result], following: Following | None
    ) -> Waits[Reply | None]:
        """The same in one write, and with it a look at what follows: it is composed while the server thinks."""
        wire = self._wire
        if commands:
            yield from wire.say(*commands, "DATA")
        self._ahead, self._following = None, following() if following else None
        mail = wire.heard(Phase.MAIL) or (yield from wire.hear(Phase.MAIL))
        if mail.code == _CLOSING:
            return mail
        for delivery, _ in message.rcpt_to:
            reply = wire.heard(Phase.RCPT) or (yield from wire.hear(Phase.RCPT))
            if reply.code == _CLOSING:
                return reply
            if mail.positive and not reply.positive:
                refused[delivery] = reply
        data = wire.heard(Phase.DATA, _GO_ON) or (yield from wire.hear(Phase.DATA, _GO_ON))
        if mail.positive and len(refused) < len(message.rcpt_to):
            return None if data.intermediate else data
        if data.intermediate:
            yield from self._send_nothing()
        return reply if mail.positive else mail

    def _ask(self, command: str, phase: Phase, wants: tuple[int, ...] = (2,)) -> Waits[Reply]:
        yield from self._wire.say(command)
        return (yield from self._wire.hear(phase, wants))

    def _send_nothing(self) -> Waits[None]:
        """The server wants a body for nobody: it gets an empty one, and refuses it (RFC 2920 section 3.1)."""
        try:
            reply = yield from self._ask(".", Phase.FINAL)
            self._in_step = reply.code != _CLOSING
        except Silence:
            self._in_step = False

    def _deliver_body(self, message: Message, journal: Journal, refused: Sequence[tuple[int, Result]]) -> Waits[Result]:
        journal.begin(message, refused)
        following, commands = self._following, []
        if following is not None and len(following.rcpt_to) <= _MOST_AT_ONCE:
            found = envelope(following, self.capabilities)
            commands = [] if isinstance(found, Reply) else [*found, "DATA"]
        self.patience = self._relay.timeout_final
        try:
            yield from self._wire.send_body(message.content, commands)
            reply = yield from self._wire.hear(Phase.FINAL)
        except Silence as silence:
            return NoReply(silence.phase, silence.reason, silence.closed)
        # The end of the mail data clears all buffers, whatever the reply to it was (RFC 5321 section 4.1.1.4): a RSET
        # before the next MAIL would only cost a round trip.
        self._needs_reset = False
        if reply.code != _CLOSING:
            self._ahead, self.usable = following if commands else None, not commands
        return reply
