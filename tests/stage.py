"""A dispatcher on fakes, with a hand on everything."""

from collections.abc import Mapping, Sequence
from typing import Any

from dispatcher.adapters.attachments import Attachments
from dispatcher.delivery import Actor, Lane, Selector, State
from dispatcher.dispatcher import Dispatcher, Refreshed
from dispatcher.errors import LedgerUnavailable
from dispatcher.events import BatchEnded, Event
from dispatcher.mail import Receipt
from dispatcher.memory import (
    MemoryBlobs,
    MemoryFiles,
    MemoryJournals,
    MemoryLedger,
    MemoryLimiter,
    MemoryManifests,
    MemoryRenderers,
)
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


class Ahead:
    """A worker's clock that is wrong by so many seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self.ahead = clock, 0.0

    def time(self) -> float:
        return self._clock.time() + self.ahead

    def monotonic(self) -> float:
        return self._clock.monotonic()


class TornBlobs(MemoryBlobs):
    """Attachments; those that are ``torn`` cannot be read now."""

    def __init__(self) -> None:
        super().__init__()
        self.torn: set[str] = set()

    def get(self, blob: str) -> bytes:
        if blob in self.torn:
            raise LedgerUnavailable("attachments in /var/blobs: Input/output error")
        return super().get(blob)


class Stage:
    """A dispatcher on fakes. ``rates`` are the relays' limits by name."""

    def __init__(
        self,
        transports: Sequence[MemoryTransport] = (),
        rates: Mapping[str, Sequence[str]] | None = None,
        **policy: Any,
    ) -> None:
        self.files = FILES
        self.clock, self.bells, self.events = Clock(), MemoryQueue(), list[Event]()
        self.worker_clock, self.blobs = Ahead(self.clock), TornBlobs()
        self.ledger, self.limiter = MemoryLedger(self.clock), MemoryLimiter(self.clock.monotonic)
        self.transport = transports[0] if transports else MemoryTransport("main")
        self.limiter.limits(
            {
                name: Relay(name, "127.0.0.1", 25, rate=Rate.parse(texts, "rate"))
                for name, texts in (rates or {}).items()
            }
        )
        self.files_of_reports, self.renderers = MemoryFiles(self.blobs), MemoryRenderers(self.blobs)
        self.manifests = MemoryManifests()
        self._refreshed: Refreshed | None = None
        self.dispatcher = Dispatcher(
            ledger=self.ledger,
            queue=self.bells,
            blobs=self.blobs,
            templates=lambda name: TemplateVersion(name, self.files),
            attach=Attachments(self.blobs, (), 1 << 20),
            transports={t.name: t for t in transports or (self.transport,)},
            refreshed=self.refreshed,
            journals=MemoryJournals(),
            limiter=self.limiter,
            files=self.files_of_reports,
            renderers=self.renderers,
            manifests=self.manifests,
            policy=Policy(sender="shop@example.com", retry=RetryPolicy((60.0,), 0.0), **policy),
            clock=self.worker_clock,
            sink=lambda event: None if isinstance(event, BatchEnded) else self.events.append(event),
        )

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
