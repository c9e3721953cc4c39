"""Campaigns of the ledger in memory."""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from dispatcher.brake import Brake, fed
from dispatcher.campaign import ACTS, Campaign, CampaignSpec, CampaignState, Expanded, Sums
from dispatcher.delivery import LIVE, Actor, Settlement, State
from dispatcher.errors import NotFound, SubmissionError
from dispatcher.ledger import BRAKE, signature
from dispatcher.mail import Accepted
from dispatcher.memory.brakes import Brakes
from dispatcher.memory.expanding import add_rows
from dispatcher.memory.store import Store
from dispatcher.names import unknown
from dispatcher.suppression import Suppression

Record = Callable[[Actor, str, str], Any]
Held = Callable[[Sequence[str], str | None], Mapping[str, Suppression]]


class MemoryCampaigns:
    """``interfaces.Campaigns``. It shares the ledger's lock, clock, rows and brakes; ``record`` notes an act, ``held``
    answers who is suppressed, ``versions`` the sums of audiences."""

    def __init__(
        self,
        lock: threading.RLock,
        now: Callable[[], float],
        store: Store,
        brakes: Brakes,
        record: Record,
        held: Held,
        version: Callable[[int], Any],
    ) -> None:
        self._lock, self._now, self._store, self._brakes = lock, now, store, brakes
        self._record, self._held, self._version = record, held, version
        self._rows: dict[str, Campaign] = {}
        self._fed: dict[int, Brake] = {}
        self._numbers = count(1)

    def create(self, name: str, spec: CampaignSpec, actor: Actor) -> Campaign:
        with self._lock:
            if name in self._rows:
                raise SubmissionError("name", f"there is a campaign {name!r} already")
            now = self._now()
            made = Campaign(
                id=next(self._numbers), name=name, state=CampaignState.DRAFT, spec=spec, version=None, checked=None,
                submission=None, cursor=0, filtered=0, expanded=0, complete=False, sums=None, reason="", start_at=None,
                created_at=now, changed_at=now, started_at=None, finished_at=None, reported_at=None,
                actor=signature(actor),
            )  # fmt: skip
            return self._keep(made)

    def get(self, name: str) -> Campaign:
        with self._lock:
            if name not in self._rows:
                raise NotFound(unknown("campaign", name, self._rows))
            return self._rows[name]

    def listed(self, *states: CampaignState) -> list[Campaign]:
        with self._lock:
            return [row for row in reversed(self._rows.values()) if not states or row.state in states]

    def revise(self, name: str, spec: CampaignSpec, actor: Actor) -> Campaign:
        with self._lock:
            found = self._must_be(name, CampaignState.DRAFT, CampaignState.CHECKED)
            return self._change(found, CampaignState.DRAFT, actor, spec=spec, checked=None, version=None)

    def check(self, seen: Campaign, version: int, found: Mapping[str, Any], actor: Actor) -> Campaign:
        with self._lock:
            now = self._must_be(seen.name, CampaignState.DRAFT, CampaignState.CHECKED)
            if now.spec.document() != seen.spec.document():
                raise SubmissionError(seen.name, "was changed while it was checked; check it again")
            if self._version(version).ready_at is None:
                raise SubmissionError(seen.name, "its audience was dropped while it was checked")
            state = CampaignState.CHECKED if found["ok"] else CampaignState.DRAFT
            return self._change(now, state, actor, version=version, checked=dict(found))

    def start(self, seen: Campaign, accepted: Accepted, start_at: float | None, actor: Actor) -> Campaign:
        with self._lock:
            name = seen.name
            found = self._must_be(name, CampaignState.CHECKED)
            if (found.spec.document(), found.checked) != (seen.spec.document(), seen.checked):
                raise SubmissionError(name, "was changed while it was started; look at it again")
            submission = self._store.insert(accepted, self._now(), lambda *_: None)
            later = start_at is not None and start_at > self._now()
            state = CampaignState.SCHEDULED if later else CampaignState.RUNNING
            started = None if later else self._now()
            self._record(actor, "start", f"campaign {name}")
            return self._change(
                found, state, actor, start_at=start_at, started_at=started, submission=submission.public_id
            )

    def begin_due(self) -> int:
        with self._lock:
            now = self._now()
            due = [row for row in self.listed(CampaignState.SCHEDULED) if (row.start_at or 0.0) <= now]
            for row in due:
                self._keep(replace(row, state=CampaignState.RUNNING, started_at=now, changed_at=now))
            return len(due)

    def expand(self, campaign: Campaign, upto: int, rows: Sequence[Expanded], *, filtered: int, complete: bool) -> bool:
        with self._lock:
            found = self._rows[campaign.name]
            if found.state is not CampaignState.RUNNING or found.complete or found.cursor != campaign.cursor:
                return False
            gone, mails = found.filtered + filtered, found.expanded + len(rows)
            self._keep(replace(found, cursor=upto, complete=complete, filtered=gone, expanded=mails))
            add_rows(self._store, self._store.submissions[found.submission or ""], rows, self._held, self._now())
            return True

    def act(self, name: str, verb: str, actor: Actor) -> Campaign:
        with self._lock:
            sources, state = ACTS[verb]
            found = self._must_be(name, *sources)
            kept = self._store.submissions.get(found.submission or "")
            if verb == "retry" and (kept is None or kept.count != found.expanded):
                raise SubmissionError(name, "its retention is over, and its mails are being removed; nothing was done")
            if verb == "resume" and found.started_at is None:
                state = CampaignState.SCHEDULED
            if found.submission and verb in ("pause", "cancel"):
                why = f"campaign {name}" + (f": {actor.reason}" if actor.reason else "")
                self._brakes.hold("submission", found.submission, why, signature(actor))
            elif found.submission:
                self._brakes.resume("submission", found.submission, actor)
                self._fed.pop(found.id, None)
            self._record(actor, verb, f"campaign {name}")
            again = {"reason": actor.reason, "finished_at": None, "sums": None, "reported_at": None}
            return self._change(found, state, actor, **again)

    def finish(self, campaign: Campaign) -> bool:
        with self._lock:
            found = self._rows[campaign.name]
            over = found.state is CampaignState.CANCELLED or (found.state is CampaignState.RUNNING and found.complete)
            sums = self.sums(found)
            if not over or found.sums is not None or any(sums.states.get(state) for state in LIVE):
                return False
            if faults := sums.faults():
                self._keep(replace(found, reason=f"does not balance: {faults[0]}"))
                return False
            state = found.state if found.state is CampaignState.CANCELLED else CampaignState.FINISHED
            by_state = {state.value: number for state, number in sums.states.items()}
            now = self._now()
            self._brakes.lift("submission", found.submission or "", found.actor)  # a cancelled one was paused
            self._keep(replace(found, state=state, sums=by_state, finished_at=now, changed_at=now))
            return True

    def live(self, campaign: Campaign) -> bool:
        with self._lock:
            row = self._store.submissions.get(campaign.submission or "")
            return any(each.state in LIVE for each in (row.deliveries if row else ()))

    def reported(self, campaign: Campaign) -> None:
        with self._lock:
            self._keep(replace(self._rows[campaign.name], reported_at=self._now()))

    def pending(self) -> bool:
        return bool(self.moving())

    def moving(self) -> list[Campaign]:
        with self._lock:
            now = self._now()
            return [
                row
                for row in self._rows.values()
                if row.state is CampaignState.RUNNING
                or (row.state is CampaignState.SCHEDULED and (row.start_at or 0.0) <= now)
                or (row.state is CampaignState.CANCELLED and row.sums is None and row.submission is not None)
                or (row.finished_at is not None and row.reported_at is None)
            ]

    def sums(self, campaign: Campaign) -> Sums:
        with self._lock:
            found = self._rows[campaign.name]
            row = self._store.submissions.get(found.submission or "")
            states: defaultdict[State, int] = defaultdict(int)
            for delivery in row.deliveries if row else ():
                states[delivery.state] += 1
            if found.sums is not None and (row is None or row.count < found.expanded):  # its retention is over
                states = defaultdict(int, {State(state): number for state, number in found.sums.items()})
            over = row is None or found.sums is not None
            version = self._version(found.version) if found.version is not None else None
            seen = found.filtered + found.expanded  # all that is known of an audience that was dropped
            return Sums(
                rows=version.rows if version else seen,
                bad=version.bad if version else 0,
                doubled=version.doubled if version else 0,
                kept=version.kept if version else seen,
                filtered=found.filtered,
                expanded=found.expanded,
                complete=found.complete,
                accepted=sum(states.values()) if over or row is None else row.count,
                states=dict(states),
            )

    # -- for the ledger

    def feed(self, told: Mapping[str, Sequence[Settlement]]) -> None:
        """What was settled, by submission; the caller locks."""
        for row in [row for row in self._rows.values() if row.submission in told]:
            if row.state is not CampaignState.RUNNING:
                continue
            self._fed[row.id], reason = fed(self._fed.get(row.id, Brake()), told[row.submission or ""])
            if reason:
                now = self._now()
                paused = replace(row, state=CampaignState.PAUSED, reason=reason, changed_at=now, actor=BRAKE)
                self._keep(paused)
                self._brakes.hold("submission", row.submission or "", f"campaign {row.name}: {reason}", BRAKE)

    def owns(self, submission: str) -> bool:
        """Whether it is a campaign's; the caller locks."""
        return any(row.submission == submission for row in self._rows.values())

    def goes_on(self, submission: str) -> bool:
        """Whether messages may still be added to it, so that it is not over its retention; the caller locks."""
        over = CampaignState.FINISHED, CampaignState.CANCELLED
        return any(row.submission == submission and row.state not in over for row in self._rows.values())

    def refer(self, versions: Collection[int]) -> str | None:
        """A campaign that is not over and goes by one of these versions of an audience; those that are over go without
        them from now on. The caller locks."""
        over = CampaignState.FINISHED, CampaignState.CANCELLED
        using = [row for row in self._rows.values() if row.version in versions]
        if busy := [row for row in using if row.state not in over]:
            return f"campaign {busy[0].name} is {busy[0].state} and goes by it: cancel that first"
        for row in using:
            self._keep(replace(row, version=None))
        return None

    def _must_be(self, name: str, *states: CampaignState) -> Campaign:
        found = self.get(name)
        if found.state not in states:
            raise SubmissionError(name, f"is {found.state}, since it was changed by {found.actor}; nothing was done")
        return found

    def _change(self, found: Campaign, state: CampaignState, actor: Actor, **values: Any) -> Campaign:
        return self._keep(replace(found, state=state, changed_at=self._now(), actor=signature(actor), **values))

    def _keep(self, made: Campaign) -> Campaign:
        self._rows[made.name] = made
        return made
