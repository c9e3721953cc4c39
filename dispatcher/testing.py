"""Stand-ins that ship, for the tests of whoever uses the dispatcher; the contract suites prove them.

``Sink``, ``Script`` and ``Rule`` are had from here, too: an SMTP server on loopback that records what it takes, and
does wrong as it is told (docs/fault-sink.md).
"""

import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace

from dispatcher.delivery import Lane
from dispatcher.errors import TransportError
from dispatcher.interfaces import Journal
from dispatcher.mail import Message
from dispatcher.reply import NoReply, Outcome, Phase, Reply, Result
from dispatcher.servers.sink import Rule, Script, Sink

__all__ = ["MemoryQueue", "MemoryTransport", "Rule", "Script", "Sink"]

_SENT = Reply(250, "Ok", "2.0.0", Phase.FINAL)
_BEFORE_BODY = frozenset({Phase.MAIL, Phase.RCPT, Phase.DATA})


class MemoryTransport:
    """Sends nowhere and remembers it. Implements interfaces.Transport. Thread-safe.

    ``results`` scripts what an address is answered: one result for always, or a sequence that is used up, after which
    mail to it is sent. ``down``, while set, is raised instead of taking the next message. ``sent`` has every message
    that was taken, with the recipients that were not refused.
    """

    def __init__(self, name: str = "memory", results: Mapping[str, Result | Sequence[Result]] | None = None) -> None:
        self.name = name
        self.down: TransportError | None = None
        self.sent: list[Message] = []
        self.closed = False
        self._always = {to: given for to, given in (results or {}).items() if isinstance(given, Reply | NoReply)}
        self._once = {
            to: list(given) for to, given in (results or {}).items() if not isinstance(given, Reply | NoReply)
        }
        self._lock = threading.Lock()

    def send(
        self, messages: Iterable[Message], journal: Journal, halted: Callable[[], bool] = lambda: False
    ) -> Generator[Outcome, None, None]:
        """Answer each message as scripted, in order. Raises ``down`` when it is set."""
        for message in messages:
            if self.down is not None:
                raise self.down
            yield self._take(message, journal)
            if halted():
                return

    def tend(self) -> None:
        """There are no connections."""

    def close(self) -> None:
        self.closed = True

    def _take(self, message: Message, journal: Journal) -> Outcome:
        results = {delivery: self._answer(address) for delivery, address in message.rcpt_to}
        refused = tuple((delivery, result) for delivery, result in results.items() if result.phase in _BEFORE_BODY)
        if len(refused) < len(results):
            journal.begin(message, refused)
        outcome = Outcome(message.id, tuple(results.items()), self.name)
        sent = {d for d, result in results.items() if isinstance(result, Reply) and result.code == _SENT.code}
        if sent:
            with self._lock:
                self.sent.append(replace(message, rcpt_to=tuple(pair for pair in message.rcpt_to if pair[0] in sent)))
        journal.reply(outcome)
        return outcome

    def _answer(self, address: str) -> Result:
        with self._lock:
            if address in self._always:
                return self._always[address]
            return self._once[address].pop(0) if self._once.get(address) else _SENT

    def __repr__(self) -> str:
        return f"<MemoryTransport {self.name} sent={len(self.sent)}>"


class MemoryQueue:
    """Bells that ring nowhere. Implements interfaces.Queue; ``rung`` has those of the lanes, ``expansions`` counts
    those for campaigns, ``down`` makes it deaf."""

    def __init__(self) -> None:
        self.expansions = 0
        self.rung: list[tuple[Lane, tuple[int, ...], str]] = []
        self.down = False

    def ring(self, lane: Lane, messages: Sequence[int], label: str = "") -> bool:
        """Remember the bell."""
        if not self.down:
            self.rung.append((lane, tuple(messages), label))
        return not self.down

    def expand(self) -> bool:
        """Remember that campaigns were rung for."""
        self.expansions += not self.down
        return not self.down

    def depth(self, lane: Lane) -> int | None:
        """How many were rung for the lane: nobody answers them."""
        return None if self.down else sum(rung is lane for rung, _, _ in self.rung)
