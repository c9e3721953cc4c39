"""Campaigns: what people decide about them, and how an audience becomes messages, a piece at a time.

The cursor of a campaign moves in the transaction that adds the rows, and only from where the caller saw it: whoever
comes second, or comes back from the dead, adds nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Double, and_, bindparam, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from dispatcher.adapters.sql import accepting, acting, braking, pausing
from dispatcher.adapters.sql.database import AnyRow, Database, Transaction
from dispatcher.adapters.sql.expanding import add_rows, live
from dispatcher.adapters.sql.schema import (
    audience_versions,
    campaigns,
    deliveries,
    submissions,
)
from dispatcher.campaign import ACTS, Campaign, CampaignSpec, CampaignState, Expanded, Sums
from dispatcher.delivery import LIVE, Actor, State
from dispatcher.errors import NotFound, SubmissionError
from dispatcher.ledger import signature
from dispatcher.mail import Accepted
from dispatcher.names import unknown

_CAMPAIGN = (
    *("id", "name", "state", "spec", "version_id", "checked", "submission", "cursor", "filtered", "expanded"),
    *("complete", "sums", "reason", "start_at", "created_at", "changed_at", "started_at", "finished_at"),
    *("reported_at", "actor"),
)
_COLUMNS = tuple(campaigns.c[name] for name in _CAMPAIGN)


class SqlCampaigns:
    """``interfaces.Campaigns`` over a ledger's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, spec: CampaignSpec, actor: Actor) -> Campaign:
        values = {
            "name": name,
            "state": CampaignState.DRAFT.value,
            "spec": spec.document(),
            "cursor": 0,
            "filtered": 0,
            "expanded": 0,
            "complete": False,
            "reason": "",
            "actor": signature(actor),
        }
        try:
            with self._database.writing() as tx:
                tx.execute(insert(campaigns).values(**values, created_at=tx.now, changed_at=tx.now))
                return _named(tx, name)
        except IntegrityError:
            raise SubmissionError("name", f"there is a campaign {name!r} already") from None

    def get(self, name: str) -> Campaign:
        with self._database.reading() as tx:
            return _named(tx, name)

    def listed(self, *states: CampaignState) -> list[Campaign]:
        some = select(*_COLUMNS).order_by(campaigns.c.id.desc())
        if states:
            some = some.where(campaigns.c.state.in_([state.value for state in states]))
        with self._database.reading() as tx:
            return [_record(row) for row in tx.execute(some)]

    def revise(self, name: str, spec: CampaignSpec, actor: Actor) -> Campaign:
        with self._database.writing() as tx:
            found = _locked(tx, name)
            _must_be(found, CampaignState.DRAFT, CampaignState.CHECKED)
            _change(tx, found, CampaignState.DRAFT, actor, spec=spec.document(), checked=None, version_id=None)
            return _named(tx, name)

    def check(self, seen: Campaign, version: int, found: Mapping[str, Any], actor: Actor) -> Campaign:
        with self._database.writing() as tx:
            now = _locked(tx, seen.name)
            _must_be(now, CampaignState.DRAFT, CampaignState.CHECKED)
            if now.spec.document() != seen.spec.document():
                raise SubmissionError(seen.name, "was changed while it was checked; check it again")
            there = audience_versions.c.id == version, audience_versions.c.ready_at.is_not(None)
            if tx.execute(select(audience_versions.c.id).where(*there).with_for_update(read=True)).first() is None:
                raise SubmissionError(seen.name, "its audience was dropped while it was checked")
            good = CampaignState.CHECKED if found["ok"] else CampaignState.DRAFT
            _change(tx, now, good, actor, version_id=version, checked=dict(found))
            return _named(tx, seen.name)

    def start(self, seen: Campaign, accepted: Accepted, start_at: float | None, actor: Actor) -> Campaign:
        name = seen.name
        with self._database.writing() as tx:
            found = _locked(tx, name)
            _must_be(found, CampaignState.CHECKED)
            if (found.spec.document(), found.checked) != (seen.spec.document(), seen.checked):
                raise SubmissionError(name, "was changed while it was started; look at it again")
            number, public_id = accepting.add_empty(tx, accepted)
            later = start_at is not None and start_at > tx.now
            state = CampaignState.SCHEDULED if later else CampaignState.RUNNING
            ids_ = {"submission_id": number, "submission": public_id}
            started = None if later else tx.now
            _change(tx, found, state, actor, start_at=start_at, started_at=started, **ids_)
            acting.record(tx, actor, "start", f"campaign {name}")
            return _named(tx, name)

    def begin_due(self) -> int:
        """See interfaces.Campaigns."""
        due = update(campaigns).where(campaigns.c.state == CampaignState.SCHEDULED.value)
        with self._database.writing() as tx:
            changed = {"state": CampaignState.RUNNING.value, "started_at": tx.now, "changed_at": tx.now}
            return tx.execute(due.where(campaigns.c.start_at <= tx.now).values(**changed)).rowcount

    def expand(self, campaign: Campaign, upto: int, rows: Sequence[Expanded], *, filtered: int, complete: bool) -> bool:
        with self._database.writing() as tx:
            moved = (
                update(campaigns)
                .where(
                    campaigns.c.id == campaign.id,
                    campaigns.c.cursor == campaign.cursor,
                    campaigns.c.state == CampaignState.RUNNING.value,
                    ~campaigns.c.complete,
                )
                .values(
                    cursor=upto,
                    filtered=campaigns.c.filtered + filtered,
                    expanded=campaigns.c.expanded + len(rows),
                    complete=complete,
                )
                .returning(campaigns.c.submission_id)
            )
            number = tx.execute(moved).scalar_one_or_none()
            if number is None:
                return False
            tx.widen()
            add_rows(tx, number, rows)
            if complete:
                tx.narrow()
            return True

    def act(self, name: str, verb: str, actor: Actor) -> Campaign:
        with self._database.writing() as tx:
            if verb in ("resume", "retry"):  # before the campaign is locked, in the order in which a settle takes them
                braking.loosen(tx, _named(tx, name).id)
            found = _locked(tx, name)
            sources, state = ACTS[verb]
            _must_be(found, *sources)
            if verb == "retry":
                _must_be_whole(tx, found)
            if verb == "resume" and found.started_at is None:
                state = CampaignState.SCHEDULED
            _change(tx, found, state, actor, reason=actor.reason, finished_at=None, sums=None, reported_at=None)
            if found.submission and verb in ("pause", "cancel"):
                why = f"campaign {name}" + (f": {actor.reason}" if actor.reason else "")
                pausing.hold(tx, "submission", found.submission, why, signature(actor))
            elif found.submission:
                pausing.lift(tx, "submission", found.submission, signature(actor))
            acting.record(tx, actor, verb, f"campaign {name}", reason=actor.reason)
            return _named(tx, name)

    def finish(self, campaign: Campaign) -> bool:
        with self._database.reading() as tx:  # it counts every row: nobody is to wait for that
            found = _named(tx, campaign.name)
            sums = _sums(tx, found)
        if not _ends(found) or any(sums.states.get(state) for state in LIVE):
            return False
        with self._database.writing() as tx:
            found = _locked(tx, campaign.name)
            if not _ends(found) or _live(tx, found):
                return False
            if faults := sums.faults():
                tx.execute(_row(found.id).values(reason=f"does not balance: {faults[0]}"))
                return False
            state = found.state if found.state is CampaignState.CANCELLED else CampaignState.FINISHED
            by_state = {state.value: count for state, count in sums.states.items()}
            if found.submission:  # a cancelled one was paused
                pausing.lift(tx, "submission", found.submission, found.actor)
            tx.execute(_row(found.id).values(state=state.value, sums=by_state, finished_at=tx.now, changed_at=tx.now))
            return True

    def live(self, campaign: Campaign) -> bool:
        with self._database.reading() as tx:
            return _live(tx, campaign)

    def reported(self, campaign: Campaign) -> None:
        with self._database.writing() as tx:
            tx.execute(_row(campaign.id).values(reported_at=tx.now))

    def pending(self) -> bool:
        with self._database.reading() as tx:
            return bool(tx.execute(select(exists().where(_MOVES)), {"now": tx.now}).scalar())

    def moving(self) -> list[Campaign]:
        with self._database.reading() as tx:
            some = select(*_COLUMNS).where(_MOVES).order_by(campaigns.c.id)
            return [_record(row) for row in tx.execute(some, {"now": tx.now})]

    def sums(self, campaign: Campaign) -> Sums:
        with self._database.reading() as tx:
            return _sums(tx, _named(tx, campaign.name))


_MOVES = or_(
    campaigns.c.state == CampaignState.RUNNING.value,
    and_(campaigns.c.state == CampaignState.SCHEDULED.value, campaigns.c.start_at <= bindparam("now", type_=Double)),
    and_(
        campaigns.c.state == CampaignState.CANCELLED.value,
        campaigns.c.sums.is_(None),
        campaigns.c.submission.is_not(None),
    ),
    and_(campaigns.c.finished_at.is_not(None), campaigns.c.reported_at.is_(None)),
)


def _ends(found: Campaign) -> bool:
    """Whether nothing more is added to it, and its end was not noted yet."""
    running = found.state is CampaignState.RUNNING and found.complete
    return (running or found.state is CampaignState.CANCELLED) and found.sums is None


def _live(tx: Transaction, campaign: Campaign) -> bool:
    number = tx.execute(select(campaigns.c.submission_id).where(campaigns.c.id == campaign.id)).scalar()
    return live(tx, number)


def _must_be_whole(tx: Transaction, found: Campaign) -> None:
    """Its retention has not begun to take its mails out."""
    kept = select(submissions.c.accepted).where(submissions.c.public_id == found.submission)
    if tx.execute(kept).scalar() != found.expanded:
        raise SubmissionError(found.name, "its retention is over, and its mails are being removed; nothing was done")


def _row(number: int) -> Any:
    return update(campaigns).where(campaigns.c.id == number)


def _named(tx: Transaction, name: str) -> Campaign:
    row = tx.execute(select(*_COLUMNS).where(campaigns.c.name == name)).one_or_none()
    if row is None:
        names = tx.execute(select(campaigns.c.name)).scalars()
        raise NotFound(unknown("campaign", name, names))
    return _record(row)


def _locked(tx: Transaction, name: str) -> Campaign:
    row = tx.execute(select(*_COLUMNS).where(campaigns.c.name == name).with_for_update()).one_or_none()
    return _record(row) if row else _named(tx, name)


def _record(row: AnyRow) -> Campaign:
    values = dict(zip(_CAMPAIGN, row, strict=True))
    values["state"] = CampaignState(values["state"])
    values["spec"] = CampaignSpec.kept(values["spec"])
    values["version"] = values.pop("version_id")
    return Campaign(**values)


def _must_be(found: Campaign, *states: CampaignState) -> None:
    if found.state in states:
        return
    raise SubmissionError(found.name, f"is {found.state}, since it was changed by {found.actor}; nothing was done")


def _change(tx: Transaction, found: Campaign, state: CampaignState, actor: Actor, **values: Any) -> None:
    changed = {"state": state.value, "changed_at": tx.now, "actor": signature(actor), **values}
    tx.execute(_row(found.id).values(**changed))


def _sums(tx: Transaction, campaign: Campaign) -> Sums:
    version = tx.execute(select(audience_versions).where(audience_versions.c.id == campaign.version)).one_or_none()
    submission = select(submissions.c.id, submissions.c.accepted).where(submissions.c.public_id == campaign.submission)
    mine = tx.execute(submission).one_or_none()
    states: dict[State, int] = {}
    if campaign.sums is not None and (mine is None or mine.accepted < campaign.expanded):  # its retention is over
        states = {State(state): count for state, count in campaign.sums.items()}
    elif mine is not None:
        by_state = select(deliveries.c.state, func.count()).where(deliveries.c.submission_id == mine.id)
        states = {State(state): count for state, count in tx.execute(by_state.group_by(deliveries.c.state))}
    accepted = sum(states.values()) if mine is None or campaign.sums is not None else mine.accepted
    seen = campaign.filtered + campaign.expanded  # all that is known of an audience that was dropped
    return Sums(
        rows=version.rows if version else seen,
        bad=version.bad if version else 0,
        doubled=version.doubled if version else 0,
        kept=version.kept if version else seen,
        filtered=campaign.filtered,
        expanded=campaign.expanded,
        complete=campaign.complete,
        accepted=accepted,
        states=states,
    )
