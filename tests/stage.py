"""A dispatcher on fakes, with a hand on everything."""

from collections.abc import Mapping, Sequence
from typing import Any

from dispatcher.adapters.journal import MemoryJournal
from dispatcher.delivery import Actor, Lane, Selector, State
from dispatcher.dispatcher import Dispatcher, Refreshed
from dispatcher.errors import SubmissionError
from dispatcher.events import Event
from dispatcher.mail import Receipt
from dispatcher.memory import MemoryBlobs, MemoryLedger, MemoryLimiter
from dispatcher.policy import Policy
from dispatcher.rate import Rate
from dispatcher.relay import Relay
from dispatcher.retry import RetryPolicy
from dispatcher.template import TemplateVersion
from dispatcher.testing import MemoryQueue, MemoryTransport

META = 'description = "x"\n[schema]\ntype = "object"\nrequired = ["name"]\n[sample]\nname = "Ada"\n'
FILES = {"meta.toml": META, "subject.txt": "Hi {{ name }}", "body.txt": "Hi {{ name }}, half is {{ 2 / half }}"}
MAIL = {"to": ["ada@example.com"], "subject": "Hi", "text": "Hello"}
ANNA = Actor("anna", "desk")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Stage:
    """A dispatcher on fakes. ``rates`` are the relays' limits by name."""

    def __init__(
        self,
        transports: Sequence[MemoryTransport] = (),
        rates: Mapping[str, Sequence[str]] | None = None,
        **policy: Any,
    ) -> None:
        self.clock, self.bells, self.events = Clock(), MemoryQueue(), list[Event]()
        self.ledger, self.limiter = MemoryLedger(self.clock), MemoryLimiter(self.clock.monotonic)
        self.transport = transports[0] if transports else MemoryTransport("main")
        self.limiter.limits(
            {
                name: Relay(name, "127.0.0.1", 25, rate=Rate.parse(texts, "rate"))
                for name, texts in (rates or {}).items()
            }
        )
        self._refreshed: Refreshed | None = None
        self.dispatcher = Dispatcher(
            ledger=self.ledger,
            queue=self.bells,
            blobs=MemoryBlobs(),
            templates=lambda name: TemplateVersion(name, FILES),
            attach=self.attach,
            transports={t.name: t for t in transports or (self.transport,)},
            refreshed=self.refreshed,
            journal=MemoryJournal(),
            limiter=self.limiter,
            policy=Policy(sender="shop@example.com", retry=RetryPolicy((60.0,), 0.0), **policy),
            clock=self.clock,
            sink=self.events.append,
        )

    def attach(self, given: Mapping[str, Any], at: str) -> dict[str, Any]:
        raise SubmissionError(at, "none here")

    def replace(self, transport: MemoryTransport) -> None:
        """New settings for a relay."""
        self._refreshed = Refreshed({transport.name: transport}, (transport.name,))

    def refreshed(self) -> Refreshed | None:
        found, self._refreshed = self._refreshed, None
        return found

    def publish(self, name: str, subject: str) -> None:
        self.ledger.publish([TemplateVersion(name, {**FILES, "subject.txt": subject})], ANNA)

    def submit(self, **changes: Any) -> Receipt:
        return self.dispatcher.submit({**MAIL, **changes})

    def deliver(self, lane: Lane = Lane.TRANSACTIONAL) -> int:
        return self.dispatcher.deliver(lane)

    def states(self) -> list[State]:
        return [d.state for d in sorted(self.ledger.find(Selector()), key=lambda d: d.id)]
