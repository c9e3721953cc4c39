"""What people do with schedules, and what workers make of them: note what has come up, and fire what is due.

Firing twice does nothing twice: a submission has a key of its occurrence's own, a campaign a name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any

from dispatcher.campaign import Campaign, CampaignSpec, CampaignState
from dispatcher.campaigns import Campaigns
from dispatcher.cron import Time
from dispatcher.delivery import Actor, Selector
from dispatcher.errors import DispatcherError, IdempotencyConflict, LedgerUnavailable, NotFound, SubmissionError
from dispatcher.events import OccurrenceFailed
from dispatcher.interfaces import Clock, EventSink, Ledger
from dispatcher.mail import Receipt
from dispatcher.names import MAX_NAME, check_name
from dispatcher.recurring_report import RecurringReports
from dispatcher.render import Template
from dispatcher.schedule import (
    Due,
    Noted,
    Occurrence,
    OccurrenceState,
    Schedule,
    ScheduleSpec,
    come_up,
    first_after,
    job,
    job_name,
    key_of,
    verdict,
)
from dispatcher.zones import zone

PRODUCER = "schedule"
AT_ONCE = 500  # occurrences that are noted in one transaction, or looked at to be fired
HOLD_SECONDS = 10.0  # after which a campaign that nobody goes on making is taken up by another
_LONGEST = MAX_NAME - len("-2026-12-01T090000+0100")
_OWN = {"idempotency_key": "each occurrence has one of its own"}
_WHEN = dict.fromkeys(("send_at", "expires_at"), "the schedule says when")
_UNSTARTED = CampaignState.DRAFT, CampaignState.CHECKED
Ended = tuple[OccurrenceState, str]


class Schedules:
    """``publish`` answers the version of a template that new mail is rendered with, ``accept`` checks a submission
    without keeping it, ``submit`` accepts one under a key, ``begun`` is called when there is something to do for
    workers. The check of a campaign may take ``seconds``."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        campaigns: Campaigns,
        reports: RecurringReports,
        publish: Callable[[str], tuple[str, Template]],
        accept: Callable[[Mapping[str, Any]], object],
        submit: Callable[[Mapping[str, Any], str, str], Receipt],
        begun: Callable[[], object],
        clock: Clock,
        sink: EventSink,
        seconds: float,
    ) -> None:
        self._ledger, self._store = ledger, ledger.schedules
        self._campaigns, self._reports = campaigns, reports
        self._publish, self._accept, self._submit, self._begun = publish, accept, submit, begun
        self._clock, self._sink, self._seconds = clock, sink, seconds

    # -- making

    def add(self, name: str, spec: ScheduleSpec, actor: Actor) -> Schedule:
        """From now on. Raises SubmissionError naming the field, NotFound for an audience that is not there."""
        check_name(name)
        self._check(name, spec)
        return self._store.create(name, spec, actor)

    def edit(self, name: str, spec: ScheduleSpec, actor: Actor) -> Schedule:
        """Go by another spec from now on. What is due is fired as the new one says; what came up in a pause is
        skipped."""
        self._store.get(name)
        self._check(name, spec)
        while not self._store.revise(seen := self._store.get(name), spec, actor):
            if seen.ripe:
                self._store.note(seen, _before_edit(seen))
        return self._store.get(name)

    def _check(self, name: str, spec: ScheduleSpec) -> None:
        spec.check()
        now = self._clock.time()
        at = first_after(spec, now, now)
        if at is None:
            raise SubmissionError("end" if spec.end else "cron", "no time of it is still to come")
        document = job(spec, name, at)
        what = "submission" if spec.submission is not None else "campaign" if spec.campaign is not None else "report"
        try:
            if spec.submission is not None:
                _check_submission(document)
                self._accept(document)
                self._check_template(document.get("template"))
            elif spec.campaign is not None:
                _check_campaign(name, document)
                self._campaigns.check_spec(CampaignSpec.parse(document))
            else:
                _check_length(name)
                self._reports.check(document)
        except SubmissionError as error:
            raise type(error)(f"{what}.{error.field}" if error.field else what, error.reason) from None

    def _check_template(self, name: str | None) -> None:
        """A schedule's data is kept as long as it is, which what is sensitive must not be."""
        if name is not None and self._publish(name)[1].sensitive:
            raise SubmissionError("template", f"{name} takes data that is x-sensitive, which a schedule would keep")

    # -- acting and knowing

    def get(self, name: str) -> Schedule:
        """Raises NotFound."""
        return self._store.get(name)

    def listed(self) -> list[Schedule]:
        """All of them, by name."""
        return self._store.listed()

    def pause(self, name: str, actor: Actor) -> Schedule:
        """Until it is resumed nothing of it is fired, but by hand. Raises SubmissionError when it is paused."""
        return self._store.act(name, "pause", actor)

    def resume(self, name: str, actor: Actor) -> Schedule:
        """What came up meanwhile is caught up with as its ``catch_up`` says. Raises SubmissionError when it is not
        paused."""
        found = self._store.act(name, "resume", actor)
        self._begun()
        return found

    def remove(self, name: str, actor: Actor) -> None:
        """With its history; what has fired stays. Raises NotFound."""
        self._store.remove(name, actor)

    def run_now(self, name: str, actor: Actor) -> Occurrence:
        """Fire it once more, beside its times. Workers do it; what came of it is in its history."""
        made = self._store.run_now(name, actor)
        self._begun()
        return made

    def next(self, name: str, count: int = 5) -> list[Time]:
        """When it is to fire from now on, paused or not. Raises SubmissionError where that cannot be told."""
        found = self._store.get(name)
        found.spec.check()
        return list(islice(found.times(max(found.read_at, found.seen_until)), count))

    def history(self, name: str, limit: int = 20) -> list[Occurrence]:
        """What has become of it, the newest first."""
        return self._store.history(name, limit)

    # -- what comes round

    def fire(self, over: Callable[[], bool]) -> bool:
        """Note what has come up, and fire what is due, until it is ``over``; whether there is more. Any number may do
        it at once. Raises LedgerUnavailable: then what is due stays so. A report for which this machine has no room now
        keeps no other waiting."""
        while ripe := self._store.ripe(AT_ONCE):
            for seen in ripe:
                if over():
                    return True
                self._note(seen)
        waiting = self._store.due(AT_ONCE)
        held, away = set[int](), list[LedgerUnavailable]()
        for due in sorted(waiting, key=lambda due: due.schedule.spec.submission is None):  # its check may take long
            if over():
                return True
            try:
                self._end(due, held)
            except LedgerUnavailable as error:
                if due.schedule.spec.report is None:
                    raise
                away.append(error)
        if away:
            raise away[0]
        return len(waiting) == AT_ONCE

    def _note(self, seen: Schedule) -> None:
        try:
            noted = come_up(seen, AT_ONCE)
        except (SubmissionError, ValueError) as error:  # made by other code, or on a machine that knows other zones
            with suppress(SubmissionError, NotFound):  # paused or removed by somebody else just now
                self._store.act(seen.name, "pause", _ourselves(f"its times cannot be told here: {error}"))
        else:
            self._store.note(seen, noted)

    def _end(self, due: Due, held: set[int]) -> None:
        """Fire it, or end what is too late for that."""
        try:
            ended = self._ended(due, held)
        except (SubmissionError, ValueError) as error:  # as in ``_note``
            ended = OccurrenceState.FAILED, f"cannot be fired here: {error}"
        if ended is None:
            return
        state, outcome = ended
        if self._store.done(due, state, outcome) and state is OccurrenceState.FAILED:
            self._sink(OccurrenceFailed(due.schedule.name, due.at, outcome))

    def _ended(self, due: Due, held: set[int]) -> Ended | None:
        """What becomes of it; None while somebody else is at it."""
        schedule, state = due.schedule, OccurrenceState.DUE
        if not due.by_hand:
            state = verdict(schedule.spec, schedule.read_at - due.at, newest=due.newest)
        if state is not OccurrenceState.DUE:
            outcome = self._fired(due)  # by one that was killed before it said so
            return (OccurrenceState.FIRED, outcome) if outcome else (state, "")
        if schedule.spec.submission is None and not self._hold(schedule.id, held):
            return None
        return self._fire(due)

    def _fired(self, due: Due) -> str:
        """What came of it already; empty for nothing."""
        if due.schedule.spec.submission is None:
            return self._named(due) if self._is_started(due) else ""
        mine = Selector(key=key_of(due), producer=PRODUCER, limit=1)
        found = next(self._ledger.find(mine), None)
        return f"submission {found.submission}" if found else ""

    def _hold(self, number: int, held: set[int]) -> bool:
        """Whether this one is to make the campaigns of a schedule; ``held``: those that it has to make already."""
        if number not in held and not self._ledger.tick(_holding(number), HOLD_SECONDS):
            return False
        held.add(number)
        return True

    def _fire(self, due: Due) -> Ended:
        try:
            if due.schedule.spec.submission is not None:
                document = job(due.schedule.spec, due.schedule.name, due.at)
                return OccurrenceState.FIRED, f"submission {self._submit(document, PRODUCER, key_of(due)).id}"
            if due.schedule.spec.report is not None:
                return self._report(due)
            return self._start(due)
        except IdempotencyConflict as error:  # it was fired, not marked, and edited since
            return OccurrenceState.FIRED, f"submission {error.first}"
        except DispatcherError as error:
            if error.temporary:
                raise
            if due.schedule.spec.submission is None and self._is_started(due):  # by somebody else just now
                return OccurrenceState.FIRED, self._named(due)
            return OccurrenceState.FAILED, str(error)

    # -- campaigns and reports

    @staticmethod
    def _named(due: Due) -> str:
        return f"{'campaign' if due.schedule.spec.campaign is not None else 'report'} {job_name(due)}"

    def _is_started(self, due: Due) -> bool:
        name = job_name(due)
        return self._started(name) if due.schedule.spec.campaign is not None else self._reports.started(name)

    def _report(self, due: Due) -> Ended:
        """Make the occurrence's report, and let it go; one that was being taken in is taken up where it stands."""
        schedule, me = due.schedule, _ourselves(f"schedule {due.schedule.name}")
        document = job(schedule.spec, schedule.name, due.at)
        values = {"name": schedule.name, "at": datetime.fromtimestamp(due.at, zone(schedule.spec.zone)).isoformat()}
        self._reports.start(job_name(due), document, values, me, self._going_on(schedule.id))
        return OccurrenceState.FIRED, self._named(due)

    def _start(self, due: Due) -> Ended:
        """Make the occurrence's campaign, check it and let it go; one that is there is taken up where it stands."""
        name, me = job_name(due), _ourselves(f"schedule {due.schedule.name}")
        spec = CampaignSpec.parse(job(due.schedule.spec, due.schedule.name, due.at))
        found = self._found(name) or self._make(name, spec, me)
        if found.spec.document() != spec.document():
            return OccurrenceState.FAILED, f"campaign {name} is there already, and is another one"
        if found.state is CampaignState.DRAFT:
            found = self._campaigns.check(name, me, progress=self._going_on(due.schedule.id))
        if found.state is CampaignState.DRAFT:
            return OccurrenceState.FAILED, f"campaign {name}: its check has failed: {_failing(found)}"
        if found.state is CampaignState.CHECKED:
            self._campaigns.start(name, me)
        return OccurrenceState.FIRED, f"campaign {name}"

    def _found(self, name: str) -> Campaign | None:
        try:
            return self._campaigns.get(name)
        except NotFound:
            return None

    def _make(self, name: str, spec: CampaignSpec, me: Actor) -> Campaign:
        try:
            return self._campaigns.create(name, spec, me)
        except SubmissionError:
            if (found := self._found(name)) is None:  # else somebody else made it just now
                raise
            return found

    def _started(self, name: str) -> bool:
        found = self._found(name)
        return found is not None and found.state not in _UNSTARTED

    def _going_on(self, number: int) -> Callable[[int], None]:
        """While a check goes on nobody else takes it up; it must not take longer than a task may."""
        until = self._clock.monotonic() + self._seconds

        def progress(_: int) -> None:
            self._ledger.tick(_holding(number), 0.0)
            if self._clock.monotonic() >= until:
                raise SubmissionError("check", f"takes more than {self._seconds:g} s; check and start it by hand")

        return progress


def _ourselves(reason: str) -> Actor:
    return Actor("dispatcher", "schedules", reason)


def _holding(number: int) -> str:
    return f"schedule {number}"


def _failing(found: Campaign) -> str:
    findings = (found.checked or {}).get("findings", ())
    return "; ".join(f"{each['what']}: {each['text']}" for each in findings if each["level"] == "fail")


def _before_edit(seen: Schedule) -> Noted:
    """What has come up by the spec that is given up. What cannot be told any more was none."""
    try:
        noted = come_up(seen, AT_ONCE)
    except (SubmissionError, ValueError):
        return Noted(seen.read_at, (), None)
    if not seen.paused:
        return noted
    return noted._replace(found=tuple((at, OccurrenceState.SKIPPED) for at, _ in noted.found))


def _check_submission(document: Mapping[str, Any]) -> None:
    for field, why in (_OWN | _WHEN).items():
        if field in document:
            raise SubmissionError(field, f"not in a schedule: {why}")
    for at, attachment in _attachments(document):
        if isinstance(attachment, Mapping) and not {"path", "blob"}.isdisjoint(attachment):
            raise SubmissionError(at, "give its content: a file may be gone when it fires")


def _attachments(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    recipients = document.get("recipients")
    shared = recipients if isinstance(recipients, Sequence) else ()
    for where, holder in (("", document), *((f"recipients[{n}].", each) for n, each in enumerate(shared))):
        found = holder.get("attachments") if isinstance(holder, Mapping) else None
        for n, attachment in enumerate(found if isinstance(found, list | tuple) else ()):
            yield f"{where}attachments[{n}]", attachment


def _check_length(name: str) -> None:
    if len(name) > _LONGEST:
        raise SubmissionError("name", f"{name[:40]!r} is longer than {_LONGEST}: what it makes gets the date behind it")


def _check_campaign(name: str, document: Mapping[str, Any]) -> None:
    _check_length(name)
    if "start" in document:
        raise SubmissionError("start", "not in a schedule: the schedule says when")
