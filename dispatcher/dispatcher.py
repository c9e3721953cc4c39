"""The use case that everything else serves: accept a mail, deliver it, answer for it. Read this first.

door -> submit: check, ledger.add (one transaction), ring the lane's bell -> accepted
bell -> deliver: lease -> compose -> Transport.send (journal: begin, reply) -> settle
beat -> sweep: end dead leases, ring for what is due
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self

from dispatcher import intake
from dispatcher.batch import Batch
from dispatcher.compose import Sources
from dispatcher.delivery import Lane, Lease, Selector
from dispatcher.errors import LedgerError, SubmissionError, TemplateError
from dispatcher.events import RelayPaused
from dispatcher.interfaces import Blobs, Clock, EventSink, Journal, Ledger, Queue, Transport
from dispatcher.mail import Accepted, Receipt, Submission
from dispatcher.policy import Policy
from dispatcher.render import Template, compiled
from dispatcher.reply import ReplyClass
from dispatcher.routing import choose
from dispatcher.settler import Settler
from dispatcher.template import TemplateVersion

CHUNK = 500  # submissions in one transaction of submit_many
WATERMARK = 20  # bells that may wait in a lane; the backlog itself stays in the ledger
_PAUSE_SECONDS = {ReplyClass.RELAY: 5.0, ReplyClass.ACCOUNT: 30.0, ReplyClass.RATE: 60.0}


class SystemClock:
    """The clocks of this machine."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


Answer = Receipt | SubmissionError


class Dispatcher:
    """Accepts, delivers and answers. ``bootstrap.build`` makes it from the settings; ``open`` does that for you."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        queue: Queue,
        blobs: Blobs,
        templates: Callable[[str], TemplateVersion],
        attach: Callable[[Mapping[str, Any], str], dict[str, Any]],
        transports: Mapping[str, Transport],
        journal: Journal,
        policy: Policy | None = None,
        clock: Clock | None = None,
        sink: EventSink = lambda _: None,
        owner: str = "",
    ) -> None:
        self.ledger, self.queue, self.blobs = ledger, queue, blobs
        self.policy, self.clock = policy or Policy(), clock or SystemClock()
        self._templates, self._attach, self._transports = templates, attach, transports
        self._journal, self._sink, self._owner = journal, sink, owner
        self._published: set[str] = set()
        self._sources = Sources(template=self._version, blob=blobs.get)
        self.settler = Settler(
            ledger, journal, self.clock, seconds=self.policy.settle_seconds, idle=self._sweep_if_nobody_does, sink=sink
        )

    @classmethod
    def open(cls, **overrides: Any) -> "Dispatcher":
        """A dispatcher by the settings of file and environment; ``overrides`` win. Raises ConfigurationError."""
        from dispatcher.bootstrap import build  # noqa: PLC0415 - the one place where the core asks for its own wiring

        return build(**overrides)

    def close(self) -> None:
        """Settle what is left and close every connection."""
        self.settler.close()
        for transport in self._transports.values():
            transport.close()
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- accepting

    def submit(
        self, submission: Submission | Mapping[str, Any], *, producer: str = "", key: str | None = None
    ) -> Receipt:
        """Accept one submission: committed when this returns. ``key`` stands in for a missing idempotency key.

        Raises SubmissionError naming the field, LedgerUnavailable when nothing was changed.
        """
        answer = self._commit([(submission, key)], producer)[0]
        if isinstance(answer, SubmissionError):
            raise answer
        return answer

    def submit_many(
        self, submissions: Iterable[Submission | Mapping[str, Any]], *, producer: str = "", chunk: int = CHUNK
    ) -> Iterator[Answer]:
        """Accept any number, committed in chunks; one answer each, in order: a receipt or the error that it met."""
        waiting = iter(submissions)
        while group := list(islice(waiting, chunk)):
            yield from self._commit([(submission, None) for submission in group], producer)

    def take_in(self, document: Any, *, door: str, reference: str, producer: str = "") -> str:
        """Accept what came through a door that has nobody to answer to: the submission's id, or ``rejected``.

        What is refused is kept with its payload, field and reason. ``reference`` is the producer's own number of it
        (the Celery task id), the key of a submission that names none. Raises LedgerUnavailable, keeping nothing.
        """
        try:
            return self.submit(document, producer=producer, key=f"{door}:{reference}").id
        except SubmissionError as error:
            self.keep_reject(document, door=door, reference=reference, producer=producer, error=error)
            return "rejected"

    def keep_reject(self, document: Any, *, door: str, reference: str, producer: str, error: SubmissionError) -> None:
        """Keep a submission that was refused, for a person to look at."""
        self.ledger.reject(
            door=door,
            reference=reference,
            producer=producer,
            payload=json.dumps(document, ensure_ascii=False, default=str),
            field=error.field,
            reason=str(error),
        )

    def _commit(
        self, group: Sequence[tuple[Submission | Mapping[str, Any], str | None]], producer: str
    ) -> list[Answer]:
        """Check each, commit those that hold in one transaction, ring each lane's bell once."""
        checked = [self._check(submission, producer, key) for submission, key in group]
        good = [item for item in checked if isinstance(item, Accepted)]
        committed = iter(self.ledger.add(good) if good else ())
        answers: list[Answer] = [item if isinstance(item, SubmissionError) else next(committed) for item in checked]
        self._ring(checked, answers)
        return answers

    def _check(
        self, submission: Submission | Mapping[str, Any], producer: str, key: str | None
    ) -> Accepted | SubmissionError:
        document = submission.document() if isinstance(submission, Submission) else submission
        context = intake.Context(
            now=self.clock.time(),
            template=self._publish,
            store=self._attach,
            relays=tuple(self._transports),
            lifetimes=self.policy.lifetimes,
            sender=self.policy.sender,
            mail_from=self.policy.mail_from,
            if_in_doubt=self.policy.if_in_doubt,
            max_bytes=self.policy.max_bytes,
        )
        try:
            accepted = intake.accept(document, context, producer=producer, key=key)
            self._check_times(accepted, context.now)
        except SubmissionError as error:
            return error
        return accepted

    def _check_times(self, accepted: Accepted, now: float) -> None:
        try:
            intake.check_times(accepted, now)
        except SubmissionError:
            # A producer that repeats itself after the time has passed gets its first receipt again.
            if accepted.key is None or next(self.ledger.find(Selector(key=accepted.key, limit=1)), None) is None:
                raise

    def _ring(self, checked: Sequence[Accepted | SubmissionError], answers: Sequence[Answer]) -> None:
        now = self.clock.time()
        bells: dict[Lane, list[int]] = {}
        labels: dict[Lane, str] = {}
        for accepted, answer in zip(checked, answers, strict=True):
            if isinstance(answer, SubmissionError) or not isinstance(accepted, Accepted) or answer.duplicate:
                continue
            if (accepted.send_at or 0) <= now:
                lane = Lane(accepted.lane)
                bells.setdefault(lane, []).extend(answer.message_ids)
                labels[lane] = ", ".join(accepted.tags) or accepted.template_name or ""
        for lane, messages in bells.items():
            self._ring_lane(lane, messages, labels[lane])

    def _ring_lane(self, lane: Lane, messages: Sequence[int], label: str) -> None:
        """One bell for each batch, as long as the lane is under its watermark; the sweep rings for the rest."""
        size = self.policy.batch_size
        room = WATERMARK - (self.queue.depth(lane) or 0) if len(messages) > 1 else 1
        for start in range(0, min(len(messages), max(room, 0) * size), size):
            if not self.queue.ring(lane, messages[start : start + size], label):
                return

    # -- delivering

    def deliver(self, lane: Lane, messages: Sequence[int] = (), *, stopping: Callable[[], bool] = lambda: False) -> int:
        """Answer a bell: lease these messages and whatever else is due, send them, settle; again while batches are
        full and the time allows. A bell that finds nothing ends at once. Returns how many messages were leased."""
        until = self.clock.monotonic() + self.policy.batch_seconds
        total = 0
        while not stopping() and self.clock.monotonic() < until:
            paused = {pause.name for pause in self.ledger.pauses() if pause.kind == "relay"}
            if choose(None, tuple(self._transports), paused) is None:
                break
            lease = self.ledger.lease(
                lane,
                limit=self.policy.batch_size,
                seconds=self.policy.lease_seconds,
                owner=self._owner,
                messages=messages,
            )
            if not lease.messages:
                break
            total += len(lease.messages)
            self._batch(lease, paused, lambda: stopping() or self.clock.monotonic() >= until).send()
            if not self.settler.flush() or len(lease.messages) < self.policy.batch_size:
                break
            messages = ()
        return total

    def _batch(self, lease: Lease, paused: set[str], stopping: Callable[[], bool]) -> Batch:
        return Batch(
            lease,
            transports=self._transports,
            paused=paused,
            sources=self._sources,
            journal=self._journal,
            settler=self.settler,
            pause=self._pause,
            sink=self._sink,
            clock=self.clock,
            retry=self.policy.retry,
            stopping=stopping,
        )

    def _pause(self, relay: str, kind: ReplyClass, reason: str) -> None:
        try:
            pause = self.ledger.pause("relay", relay, _PAUSE_SECONDS[kind], f"{kind}: {reason}")
        except LedgerError:
            return  # without its ledger a worker leases nothing either
        self._sink(RelayPaused(relay, pause.reason, (pause.until or 0) - pause.since))

    def _version(self, digest: str) -> Template:
        """The template version that a message was accepted with, compiled."""
        return compiled(digest, lambda: TemplateVersion(*self.ledger.template(digest)))

    def _publish(self, name: str) -> tuple[str, Template]:
        """The newest version of a template, kept in the ledger before anything refers to it."""
        try:
            version = self._templates(name)
            template = compiled(version.digest, lambda: version)
        except TemplateError as error:
            raise SubmissionError("template", str(error)) from None
        if version.digest not in self._published:
            self.ledger.put_template(version.digest, version.name, dict(version.files))
            self._published.add(version.digest)
        return version.digest, template

    # -- sweeping

    def sweep(self) -> int:
        """End leases that are past their term and ring for what is due, if nobody did just now; bells rung."""
        if not self.ledger.tick("sweep", self.policy.sweep_seconds * 0.8):
            return 0
        return self._sweep()

    def _sweep_if_nobody_does(self) -> None:
        try:
            if self.ledger.tick("sweep", self.policy.sweep_seconds * 3):
                self._sweep()
        except LedgerError:
            return  # the next look is a second away

    def _sweep(self) -> int:
        self.ledger.reclaim()
        return sum(self._ring_due(lane) for lane in Lane)

    def _ring_due(self, lane: Lane) -> int:
        """Ring once for each batch that is due, up to the watermark, when the lane is nearly empty."""
        depth = self.queue.depth(lane)
        if depth is None or depth >= WATERMARK // 2:
            return 0
        size = self.policy.batch_size
        batches = -(-self.ledger.due(lane, WATERMARK * size) // size)
        return sum(self.queue.ring(lane, (), "due") for _ in range(min(batches, WATERMARK) - depth))
