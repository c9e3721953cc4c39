"""The use case that everything else serves: accept a mail, deliver it, answer for it. Read this first.

door -> submit: check, ledger.add (one transaction), ring the lane's bell -> accepted
bell -> deliver: lease -> compose -> Transport.send (journal: begin, reply) -> settle
a settler thread in each process -> replay: what the dead had in hand
beat -> sweep: end leases of lost hosts, ring for what is due
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from types import TracebackType
from typing import Any, Self

from dispatcher import intake
from dispatcher.advance import Advance
from dispatcher.automations import Automations
from dispatcher.bells import Bells
from dispatcher.campaign_report import CampaignReport
from dispatcher.campaigns import Campaigns
from dispatcher.compose import Sources, fingerprint
from dispatcher.delivery import Lane, Selector
from dispatcher.distribution import Distribution
from dispatcher.emitted import Event, EventReceipt
from dispatcher.errors import SubmissionError, TemplateError
from dispatcher.events import unfailing
from dispatcher.handed import EVENT_DOOR, TASK_DOOR, Handed
from dispatcher.head import Context
from dispatcher.interfaces import (
    Blobs,
    Clock,
    EventSink,
    FileSource,
    Journals,
    Ledger,
    ManifestSource,
    Queue,
    RateLimiter,
    Renderers,
    Transport,
)
from dispatcher.mail import Accepted, Receipt, Submission
from dispatcher.making import Making
from dispatcher.pacing import Pacing
from dispatcher.policy import UPKEEP_SECONDS, Policy
from dispatcher.recurring_report import RecurringReports
from dispatcher.render import Template, compiled
from dispatcher.replay import Replay
from dispatcher.report_check import Accept, Stored
from dispatcher.report_ending import ReportEnding
from dispatcher.reports import Reports
from dispatcher.rubbish import uncollected
from dispatcher.schedules import Schedules
from dispatcher.settler import Settler
from dispatcher.sweeper import Sweeper
from dispatcher.template import TemplateVersion
from dispatcher.throttle import Throttle
from dispatcher.upkeep import Removed, Upkeep
from dispatcher.worker import Worker

CHUNK = 500  # submissions in one transaction of submit_many
EXPAND_SECONDS = 2.0  # after which schedules and campaigns that nobody moves on are taken up again
_PUBLISHED_SECONDS = 1.0


class SystemClock:
    """The clocks of this machine."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The transports by name, in the order of their priority, after settings were read again; which changed, and those
    that are not used any more, to be closed."""

    transports: Mapping[str, Transport]
    changed: tuple[str, ...]
    dropped: tuple[Transport, ...] = ()


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
        journals: Journals,
        limiter: RateLimiter,
        files: FileSource,
        renderers: Renderers,
        manifests: ManifestSource,
        refreshed: Callable[[], Refreshed | None] = lambda: None,
        policy: Policy | None = None,
        clock: Clock | None = None,
        sink: EventSink = lambda _: None,
    ) -> None:
        self.ledger, self.queue, self.blobs = ledger, queue, blobs
        self.suppressions = ledger.suppressions
        self.policy, self.clock = policy or Policy(), clock or SystemClock()
        sink = unfailing(sink)
        self._templates, self._attach, self._transports, self._refreshed = templates, attach, transports, refreshed
        self._limiter = limiter
        self._dropped: list[Transport] = []
        self._changed: set[str] = set()
        self._refreshing = threading.Lock()
        self._kept: set[str] = set()
        self._publications: tuple[float, dict[str, str]] = (-_PUBLISHED_SECONDS, {})
        self._journal = journal = journals.open(fingerprint())
        self._replay = Replay(ledger, journals, journal, self.policy.retry, self.clock, sink)
        self._bells = Bells(ledger, queue, self.clock, self.policy.batch_size)
        self._sweeper = Sweeper(ledger, queue, limiter, self._refresh, self._replay, self.policy, self.clock)
        self.settler = Settler(
            ledger, journal, self.clock,
            seconds=self.policy.settle_seconds, look=self._sweeper.look, back=self._replay.again, sink=sink,
        )  # fmt: skip
        throttle = Throttle(limiter, self.clock)
        self.campaigns = Campaigns(
            ledger, publish=self._publish, accept=self._accept_later, submit=self.submit,
            begun=queue.expand, clock=self.clock,
        )  # fmt: skip
        self.reports = Reports(
            ledger, accepting=self._accept_files, template=lambda name: self._publish(name)[1], files=files,
            renderers=renderers, begun=queue.expand, clock=self.clock, max_bytes=self.policy.max_bytes,
        )  # fmt: skip
        self.schedules = Schedules(
            ledger, campaigns=self.campaigns, reports=RecurringReports(self.reports, manifests),
            publish=self._publish, accept=self._accept_now,
            submit=lambda document, producer, key: self.submit(document, producer=producer, key=key),
            begun=queue.expand, clock=self.clock, sink=sink, seconds=self.policy.batch_seconds,
        )  # fmt: skip
        self.distribution = Distribution(ledger, self.policy.secret_keys, self.policy.max_bytes)
        pacing = Pacing(limiter, throttle)
        self.automations = Automations(
            ledger, self.clock, sink, accept=self._accept_kept, check=self._check_mails, ring=self._bells.ring,
            wait=pacing.turn, begun=queue.expand,
        )  # fmt: skip
        self._advance = Advance(
            ledger,
            self.clock,
            sink,
            fire=self.schedules.fire,
            people=self.automations.run,
            version=self._version,
            reports=ReportEnding(ledger, self.distribution, self.submit, sink).run,
            report=CampaignReport(ledger).document,
            submit=self.submit,
        )
        self._worker = Worker(
            ledger=ledger,
            relays=self._relays,
            throttle=throttle,
            pacing=pacing,
            sources=Sources(self._version, blobs.get, self.policy.secret_keys, Making(ledger.reports, renderers)),
            journal=journal,
            settler=self.settler,
            policy=self.policy,
            clock=self.clock,
            sink=sink,
            leasing=self._replay.leasing,
            abandon=self._replay.abandon,
            alarm=self._set_alarm,
        )

    @classmethod
    def open(cls, **overrides: Any) -> "Dispatcher":
        """A dispatcher by the settings of file and environment; ``overrides`` win. Raises ConfigurationError."""
        from dispatcher.bootstrap import build  # noqa: PLC0415 - the one place where the core asks for its own wiring

        return build(**overrides)

    def close(self) -> None:
        """Settle what is left and close every connection."""
        self.settler.close()
        for transport in (*self._transports.values(), *self._dropped):
            transport.close()
        self._journal.close()
        self._limiter.close()
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
        answer = self._commit([(submission, producer, key)])[0]
        if isinstance(answer, SubmissionError):
            raise answer
        return answer

    def submit_many(
        self, submissions: Iterable[Submission | Mapping[str, Any]], *, producer: str = "", chunk: int = CHUNK
    ) -> Iterator[Answer]:
        """Accept any number, committed in chunks; one answer each, in order: a receipt or the error that it met."""
        waiting = iter(submissions)
        while group := list(islice(waiting, chunk)):
            with uncollected():
                answers = self._commit([(submission, producer, None) for submission in group])
            yield from answers

    def emit(self, event: Event | Mapping[str, Any], *, producer: str = "", key: str | None = None) -> EventReceipt:
        """Say that something happened, which automations may listen to: committed when this returns. ``key`` stands in
        for a missing id.

        Raises SubmissionError naming the field, LedgerUnavailable when nothing was changed.
        """
        return self.automations.emit(event, producer=producer, key=key)

    def emit_many(
        self, events: Iterable[Event | Mapping[str, Any]], *, producer: str = ""
    ) -> Iterator[EventReceipt | SubmissionError]:
        """Any number of events, committed in chunks; one answer each, in order: a receipt or the error that it met."""
        return self.automations.emit_many(events, producer=producer)

    def take_in(self, document: Any, *, door: str, reference: str, producer: str = "") -> str:
        """Accept what came through a door that has nobody to answer to: the submission's id, or ``rejected``.

        What is refused is kept with its payload, field and reason. ``reference`` is the producer's own number of it
        (the Celery task id), the key of a submission that names none. Raises LedgerUnavailable, keeping nothing.
        """
        return self.take_in_many([Handed(document, reference, producer)], door=door)[0]

    def take_in_many(self, handed: Sequence[Handed], *, door: str) -> list[str]:
        """As ``take_in`` for several, of which those that hold are committed in one transaction."""
        good = [(each.document, each.producer, f"{door}:{each.reference}") for each in handed if each.error is None]
        committed = iter(self._commit(good))
        return self._answered(handed, door, [each.error or next(committed) for each in handed])

    def take_in_events(self, handed: Sequence[Handed]) -> list[str]:
        """As ``take_in_many``, of events that came as Celery tasks: their ids."""
        return self._answered(handed, EVENT_DOOR, self.automations.take_in(handed, TASK_DOOR))

    def _answered(self, handed: Sequence[Handed], door: str, answers: Sequence[Answer | EventReceipt]) -> list[str]:
        """Keep what was refused; the number of each, or ``rejected``."""
        for each, answer in zip(handed, answers, strict=True):
            if isinstance(answer, SubmissionError):
                self._keep(each, door, answer)
        return ["rejected" if isinstance(answer, SubmissionError) else answer.id for answer in answers]

    def _keep(self, handed: Handed, door: str, error: SubmissionError) -> None:
        as_it_came = handed.payload
        self.ledger.reject(
            door=door,
            reference=handed.reference,
            producer=handed.producer,
            payload=json.dumps(handed.document, ensure_ascii=False, default=str) if as_it_came is None else as_it_came,
            field=error.field,
            reason=str(error),
        )

    def _commit(self, group: Sequence[tuple[Submission | Mapping[str, Any], str, str | None]]) -> list[Answer]:
        """Check each (with its producer and its key, if it names none), commit those that hold in one transaction,
        ring each lane's bell once."""
        context = self._context()
        checked = [self._check(submission, context, producer, key) for submission, producer, key in group]
        good = [item for item in checked if isinstance(item, Accepted)]
        committed = iter(self.ledger.add(good) if good else ())
        answers: list[Answer] = [item if isinstance(item, SubmissionError) else next(committed) for item in checked]
        self._bells.ring(checked, answers)
        return answers

    def _context(self) -> Context:
        """For submissions that are accepted together: a template's files are looked at once."""
        return Context(
            now=self.clock.time(),
            template=cache(self._publish),
            store=self._attach,
            relays=tuple(self._refresh()),
            lifetimes=self.policy.lifetimes,
            sender=self.policy.sender,
            mail_from=self.policy.mail_from,
            if_in_doubt=self.policy.if_in_doubt,
            max_bytes=self.policy.max_bytes,
            unsubscribe=self.policy.unsubscribe,
        )

    def _check(
        self, submission: Submission | Mapping[str, Any], context: Context, producer: str, key: str | None
    ) -> Accepted | SubmissionError:
        document = submission.document() if isinstance(submission, Submission) else submission
        try:
            accepted = intake.accept(document, context, producer=producer, key=key)
            self._check_times(accepted, context.now)
        except SubmissionError as error:
            return error
        return accepted

    def _accept_later(self, document: Mapping[str, Any]) -> Accepted:
        """Check what the recipients of a campaign share."""
        return intake.accept(document, self._context(), later=True)

    def _accept_files(self) -> Accept:
        """For one report: checks what its recipients share, or one of them has, whose files are not stored yet."""
        context = self._context()

        def accept(document: Mapping[str, Any], stored: Stored) -> Accepted:
            name = document.get("template")
            if name is not None and context.template(name)[1].sensitive:
                raise SubmissionError("template", f"{name} takes data that is x-sensitive, which a report would keep")
            return intake.accept(document, replace(context, store=stored), later="recipients" not in document)

        return accept

    def _accept_now(self, document: Mapping[str, Any]) -> Accepted:
        """Check a submission that is to be accepted another time."""
        return intake.accept(document, self._context())

    def _accept_kept(self, document: Mapping[str, Any]) -> Accepted:
        """Check a submission whose data is kept until it is made, which what is sensitive must not be."""
        name = document.get("template")
        if name is not None and self._publish(name)[1].sensitive:
            raise SubmissionError("template", f"{name} takes data that is x-sensitive, which would be kept")
        return self._accept_now(document)

    def _check_mails(self, mails: Sequence[tuple[Mapping[str, Any], str]]) -> list[Accepted | SubmissionError]:
        """Of automations, with their keys."""
        if not mails:
            return []
        context = self._context()
        return [self._check(document, context, "automation", key) for document, key in mails]

    def _check_times(self, accepted: Accepted, now: float) -> None:
        try:
            intake.check_times(accepted, now)
        except SubmissionError:
            # A producer that repeats itself after the time has passed gets its first receipt again.
            mine = Selector(key=accepted.key, producer=accepted.producer, limit=1)
            if accepted.key is None or next(self.ledger.find(mine), None) is None:
                raise

    # -- delivering

    def deliver(self, lane: Lane, messages: Sequence[int] = (), *, stopping: Callable[[], bool] = lambda: False) -> int:
        """Answer a bell: lease these messages and whatever else is due, send them, settle; again while batches are
        full and the time allows. A bell that finds nothing ends at once. Returns how many messages were leased."""
        return self._worker.answer(lane, messages, stopping)

    def _version(self, digest: str) -> Template:
        """The template version that a message was accepted with, compiled."""
        return compiled(digest, lambda: TemplateVersion(*self.ledger.template(digest)))

    def _publish(self, name: str) -> tuple[str, Template]:
        """The version of a template that new mail is rendered with: the published one, else the one in the folder,
        which is kept in the ledger before anything refers to it."""
        published = self._published().get(name)
        try:
            if published is not None:
                return published, self._version(published)
            version = self._templates(name)
            template = compiled(version.digest, lambda: version)
        except TemplateError as error:
            raise SubmissionError("template", str(error)) from None
        if version.digest not in self._kept:
            self.ledger.put_template(version.digest, version.name, dict(version.files))
            self._kept.add(version.digest)
        return version.digest, template

    def _published(self) -> dict[str, str]:
        """Digests of the published templates by name, as they were within the last second."""
        since, found = self._publications
        if self.clock.monotonic() - since >= _PUBLISHED_SECONDS:
            found = {name: publication.digest for name, publication in self.ledger.publications().items()}
            self._publications = self.clock.monotonic(), found
        return found

    def _refresh(self) -> Mapping[str, Transport]:
        """The transports by the settings as they are now. A relay that was paused for trouble and has new settings is
        tried at once. Any thread may ask; one at a time looks."""
        if self._refreshing.acquire(blocking=False):
            try:
                refreshed = self._refreshed()
                if refreshed is not None:
                    self._transports = refreshed.transports
                    self._dropped.extend(refreshed.dropped)
                    self._changed.update(refreshed.changed)
                for name in sorted(self._changed):
                    self.ledger.reopen(name)
                    self._changed.discard(name)
            finally:
                self._refreshing.release()
        return self._transports

    def _relays(self) -> Mapping[str, Transport]:
        """As ``_refresh``, for the thread that sends: it uses none of the old ones when it asks."""
        found = self._refresh()
        while self._dropped:
            self._dropped.pop().close()
        return found

    def _set_alarm(self, lane: Lane, seconds: float) -> None:
        self._sweeper.set_alarm(lane, seconds)
        self.settler.nudge()

    # -- what comes round

    def sweep(self) -> int:
        """End leases that are past their term and ring for what is due, if nobody did just now; bells rung."""
        return self._sweeper.sweep()

    def advance(self, seconds: float, *, again: bool = False, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Fire what schedules have due and move campaigns on, for so long at most, unless somebody did just now;
        ``again``: this goes on where one ended that had more to do. Whether there is more."""
        if not self.ledger.tick("expand", 0.0 if again else EXPAND_SECONDS):
            return False
        return self._advance.run(seconds, stopping)

    def upkeep(
        self, seconds: float, *, again: bool = False, stopping: Callable[[], bool] = lambda: False
    ) -> Removed | None:
        """Remove what is over its retention, for so long at most; None when somebody did just now, unless this goes on
        ``again`` where one ended that had more to remove."""
        if not self.ledger.tick("upkeep", 0.0 if again else UPKEEP_SECONDS * 0.8):
            return None
        return Upkeep(self.ledger, self.blobs, self.policy.retention, self.clock).run(seconds, stopping)
