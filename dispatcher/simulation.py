"""What would be sent when: the same automations, on a ledger in memory, by a clock that runs ahead. Nothing is sent and
nothing is kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dispatcher.automations import Line
from dispatcher.delivery import Actor, Lane
from dispatcher.dispatcher import Dispatcher
from dispatcher.emitted import Event
from dispatcher.errors import SubmissionError
from dispatcher.interfaces import Ledger
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
from dispatcher.template import TemplateVersion
from dispatcher.testing import MemoryQueue, MemoryTransport

_ACTOR = Actor("simulation", "", "")
_LANES = tuple(Lane)


class RunningClock:
    """Stands still until it is told what time it is."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Simulation:
    """It begins at a moment, in seconds since the epoch. Audiences, published templates and who is suppressed are those
    of the ``real`` ledger, which is only read."""

    def __init__(self, real: Ledger, templates: Callable[[str], TemplateVersion], policy: Policy, begin: float) -> None:
        self.clock = RunningClock(begin)
        self._ledger = MemoryLedger(self.clock)
        self._ledger.suppressions.add(real.suppressions.find())
        published = [TemplateVersion(*real.template(each.digest)) for each in real.publications().values()]
        for version in published:
            self._ledger.put_template(version.digest, version.name, dict(version.files))
        self._ledger.publish(published, _ACTOR)
        self.transport = MemoryTransport("simulation")
        blobs = MemoryBlobs()
        self._dispatcher = Dispatcher(
            ledger=_with_audiences(self._ledger, real), queue=MemoryQueue(), blobs=blobs, templates=templates,
            attach=_no_files, transports={"simulation": self.transport}, journals=MemoryJournals(),
            limiter=MemoryLimiter(self.clock.time), files=MemoryFiles(blobs), renderers=MemoryRenderers(blobs),
            manifests=MemoryManifests(), policy=policy, clock=self.clock,
        )  # fmt: skip

    def load(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """As ``Automations.load``. Raises AutomationError."""
        self._dispatcher.automations.load(documents, _ACTOR)

    def run(self, events: Iterable[tuple[float, Event]], until: float) -> list[tuple[Event, SubmissionError]]:
        """Let these happen, each at its moment, and everything else that is to be, up to a moment; the events that were
        refused, and why."""
        faults = list[tuple[Event, SubmissionError]]()
        for at, event in sorted(events, key=lambda each: each[0]):
            if at > until:
                break
            self._go_on(at)
            try:
                self._dispatcher.emit(event)
            except SubmissionError as error:
                faults.append((event, error))
            self._deliver()
        self._go_on(until)
        return faults

    def lines(self) -> list[Line]:
        """What has become of everybody's steps, in the order of time."""
        found = [
            (step.passed.planned_at, n, line)
            for n, each in enumerate(self._dispatcher.automations.listed())
            for step, line in zip(
                self._dispatcher.automations.steps(each.name),
                self._dispatcher.automations.lines(each.name),
                strict=True,
            )
        ]
        return [line for _, _, line in sorted(found, key=lambda each: each[:2])]

    def _go_on(self, until: float) -> None:
        """Up to a moment, from one that somebody waits for to the next."""
        while (following := self._ledger.automations.next_at()) is not None and following <= until:
            self.clock.now = max(self.clock.now, following)
            self._dispatcher.automations.run(lambda: False)
            self._deliver()
        self.clock.now = max(self.clock.now, until)

    def _deliver(self) -> None:
        for lane in _LANES:
            while self._dispatcher.deliver(lane):
                pass


def _with_audiences(ledger: MemoryLedger, real: Ledger) -> MemoryLedger:
    ledger.audiences = real.audiences  # type: ignore[assignment]  # only read here, and by the same interface
    return ledger


def _no_files(_: Mapping[str, Any], field: str) -> dict[str, Any]:
    raise SubmissionError(field, "an automation's mail has no attachments")
