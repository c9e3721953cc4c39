"""Moves schedules, automations and campaigns on, a piece at a time: fires what is due, begins campaigns whose time has
come, makes messages of their audiences, ends what is over, and tells the owner. Whatever is killed in between, the next
one goes on where it stands."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dispatcher.campaign import Campaign, CampaignState
from dispatcher.delivery import WAITING, Actor, Selector, State
from dispatcher.errors import AudienceError, NotFound, SubmissionError, TemplateError
from dispatcher.events import CampaignEnded
from dispatcher.expansion import Plan
from dispatcher.interfaces import Clock, EventSink, Ledger
from dispatcher.render import Template

CHUNK = 1000  # rows of an audience in one transaction
_CANCELLED_AT_ONCE = 2_000
_SHARE = 0.6  # of the time is over when campaigns get theirs
_OURSELVES = Actor("dispatcher", "campaigns", "its campaign was cancelled")


class Advance:
    """``fire`` fires what schedules have due, ``people`` moves those on who are in automations, ``reports`` ends those
    whose mails are all settled, ``version`` answers a
    template by its digest, ``report`` the submission that tells an owner."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        sink: EventSink,
        *,
        fire: Callable[[Callable[[], bool]], bool],
        people: Callable[[Callable[[], bool]], bool],
        reports: Callable[[Callable[[], bool]], None],
        version: Callable[[str], Template],
        report: Callable[[Campaign], Mapping[str, Any] | None],
        submit: Callable[[Mapping[str, Any]], object],
    ) -> None:
        self._ledger, self._store, self._clock, self._sink = ledger, ledger.campaigns, clock, sink
        self._people, self._fire, self._reports = people, fire, reports
        self._version, self._report, self._submit = version, report, submit

    def run(self, seconds: float, stopping: Callable[[], bool]) -> bool:
        """For so long at most; whether there is more to do at once."""
        begin = self._clock.monotonic()

        def over(share: float = 1.0) -> bool:
            return stopping() or self._clock.monotonic() >= begin + seconds * share

        due = inside = True
        try:
            due = self._fire(over)
        finally:  # whatever one meets, the others go on
            try:
                inside = self._people(lambda: over(_SHARE))
            finally:
                try:
                    self._reports(over)
                finally:
                    more = self._move(over)
        return due or inside or more

    def _move(self, over: Callable[[], bool]) -> bool:
        """Whether there are rows left to be made messages of."""
        self._store.begin_due()
        moving = self._store.moving()
        for campaign in moving:
            if over():
                break
            if campaign.finished_at is not None:
                self._tell_owner(campaign)
            elif campaign.state is CampaignState.CANCELLED:
                self._end_cancelled(campaign)
            elif campaign.complete:
                self._finish(campaign)
        return self._expand_all(
            [row for row in moving if row.state is CampaignState.RUNNING and not row.complete], over
        )

    def _expand_all(self, waiting: Sequence[Campaign], over: Callable[[], bool]) -> bool:
        """In turns, so that a small one does not wait behind a large one; whether there is more."""
        plans = {campaign.name: plan for campaign in waiting if (plan := self._plan(campaign)) is not None}
        names = list(plans)
        while names and not over():
            names = [name for name in names if self._expand(plans[name], name)]
        return bool(names)

    def _expand(self, plan: Plan, name: str) -> bool:
        """Make messages of the next rows; whether there are more of this one."""
        campaign = self._store.get(name)
        if campaign.state is not CampaignState.RUNNING or campaign.complete:
            return False
        rows = self._ledger.audiences.members(campaign.version or 0, campaign.cursor, CHUNK)
        people = plan.people(rows)
        made = [plan.expanded(person, campaign.expanded + n) for n, person in enumerate(people)]
        last, complete = rows[-1][0] if rows else campaign.cursor, len(rows) < CHUNK
        self._store.expand(campaign, last, made, filtered=len(rows) - len(made), complete=complete)
        return not complete

    def _plan(self, campaign: Campaign) -> Plan | None:
        """None: it cannot be gone by here, and is paused with the reason, so that the others go on."""
        try:
            template = self._version((campaign.checked or {})["template"])
            columns = self._ledger.audiences.by_id(campaign.version or 0).columns
            plan = Plan(campaign.spec, template, columns, campaign.started_at or self._clock.time())
            plan.due_at(campaign.spec.zone, 0)
        except (SubmissionError, AudienceError, TemplateError, NotFound, ValueError) as error:
            self._store.act(campaign.name, "pause", Actor("dispatcher", "campaigns", str(error)))
            return None
        return plan

    def _end_cancelled(self, campaign: Campaign) -> None:
        """Whoever cancelled it may have been stopped before all of its mails were."""
        some = Selector(ids=(campaign.submission or "",), states=tuple(WAITING), limit=_CANCELLED_AT_ONCE)
        if not self._finish(campaign):
            self._ledger.change(some, State.CANCELLED, _OURSELVES)

    def _finish(self, campaign: Campaign) -> bool:
        """Whether no mail of it is live."""
        if self._store.live(campaign):
            return False
        if self._store.finish(campaign):
            self._tell_owner(self._store.get(campaign.name))
        return True

    def _tell_owner(self, campaign: Campaign) -> None:
        fault = ""
        try:
            if document := self._report(campaign):
                self._submit(document)
        except SubmissionError as error:  # told below; another try would meet the same
            fault = str(error)
        self._store.reported(campaign)
        self._sink(CampaignEnded(campaign.name, campaign.state.value, dict(campaign.sums or {}), fault))
