"""Taking out what is over its retention, the oldest first, in small transactions that nobody has to wait for."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Table,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    select,
    text,
    update,
)

from dispatcher.adapters.sql import using
from dispatcher.adapters.sql.database import AnyRow, Database, Transaction, chunks
from dispatcher.adapters.sql.schema import (
    acts,
    campaigns,
    deliveries,
    keys,
    messages,
    pauses,
    rejects,
    submissions,
)
from dispatcher.adapters.sql.selecting import holds, of_reports
from dispatcher.adapters.sql.spoken import among
from dispatcher.campaign import CampaignState
from dispatcher.delivery import LIVE, SETTLED
from dispatcher.ledger import ACT_SECONDS
from dispatcher.records import Retired
from dispatcher.report_job import ReportState
from dispatcher.retention import Retention

_WINDOW = 5000  # submissions that are looked at in one go
_RIPE = 500  # of these are taken out, before the rest is looked at
_FRESH_SECONDS = 30.0  # after that it is looked again
_SMALL = 10_000  # deliveries of a submission that can be looked through with every piece that goes
_LIVE, _SETTLED = sorted(LIVE), sorted(SETTLED)
_STANDING = (  # of a few submissions, each looked up by its number
    select(
        deliveries.c.submission_id,
        func.count().label("left"),
        func.max(deliveries.c.changed_at).label("changed_at"),
        func.max(case((deliveries.c.state.in_(_LIVE), 1), else_=0)).label("live"),
    )
    .where(among(deliveries.c.submission_id))
    .group_by(deliveries.c.submission_id)
)
_REVIVED = (
    select(deliveries.c.submission_id)
    .where(among(deliveries.c.submission_id))
    .where(deliveries.c.state.in_(_LIVE) | (deliveries.c.changed_at > bindparam("looked_at")))
    .distinct()
)
_WITH_DELIVERIES = select(deliveries.c.submission_id).where(among(deliveries.c.submission_id)).distinct()
_GOES_ON = exists().where(  # its campaign, or report, to which messages may still be added
    campaigns.c.submission_id == submissions.c.id,
    campaigns.c.state.not_in([CampaignState.FINISHED.value, CampaignState.CANCELLED.value]),
) | submissions.c.id.in_(of_reports(ReportState.TAKING))
_NOT_EMPTY = select(deliveries.c.message_id).where(among(deliveries.c.message_id)).distinct()


class Retiring:
    """Goes from the oldest submission to the youngest that may be over its retention, a window at a time, and then
    begins again. Where it is, it knows by itself: another process that does the same finds what this one leaves."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._after = 0  # the last submission that was looked at
        self._looked_at = 0.0  # by the ledger's clock
        self._fresh_until = 0.0  # by the process' own
        self._ripe: dict[int, int] = {}  # how many deliveries each had when it was looked at
        self._at_end = False

    def step(self, retention: Retention, limit: int) -> Retired:
        """See interfaces.Ledger.retire."""
        with self._lock:
            if using.note(self._database):
                return Retired(0, 0, more=True)
            if self._ripe and time.monotonic() > self._fresh_until:
                self._after, self._ripe = min(self._ripe) - 1, {}
            if not self._ripe and not self._at_end:
                self._look(retention)
            if self._ripe:
                return self._remove(limit)
            if self._at_end:
                with self._database.writing() as tx:
                    self._at_end = _tidy(tx, retention, limit)
                return Retired(0, 0, more=self._at_end)
            return Retired(0, 0, more=True)

    def _look(self, retention: Retention) -> None:
        """Find what may go in the next window."""
        self._fresh_until = time.monotonic() + _FRESH_SECONDS
        with self._database.reading() as tx:
            self._looked_at = tx.now
            number, at = submissions.c.id, submissions.c.accepted_at
            window = select(number, at).where(number > self._after).order_by(number).limit(_WINDOW).subquery()
            last, oldest = tx.execute(select(func.max(window.c.id), func.min(window.c.accepted_at))).one()
            if last is None or oldest > tx.now - retention.shortest:
                self._after, self._at_end = 0, True
                return
            kept = _kept(retention)
            over = select(number, kept.label("kept")).where(number > self._after, number <= last, at <= tx.now - kept)
            over = over.where(~_GOES_ON)
            rows = tx.execute(over.order_by(number).limit(_RIPE)).all()
            standing = {row.submission_id: row for row in tx.execute(_STANDING, {"among": [row.id for row in rows]})}
        self._after = rows[-1].id if len(rows) == _RIPE else last
        for row in rows:
            found = standing.get(row.id)
            if found is None:  # two took out its deliveries at the same time
                self._ripe[row.id] = 0
            elif not found.live and found.changed_at <= self._looked_at - row.kept:
                self._ripe[row.id] = found.left

    def _remove(self, limit: int) -> Retired:
        """Take out up to so many deliveries, and the submissions that have none left."""
        group, total = [], 0
        for number, count in self._ripe.items():
            group.append(number)
            total += count
            if total >= limit:
                break
        with self._database.writing() as tx:
            revived = self._revived(tx, group)
            rows = self._take(tx, [number for number in group if number not in revived], limit)
            sunk = Counter(row.submission_id for row in rows)
            gone = _sink(tx, rows, sunk, [number for number in group if sunk[number] >= self._ripe[number]])
        for number in group:
            self._ripe[number] -= sunk[number]
            if number in revived or self._ripe[number] <= 0 or len(rows) < limit:
                del self._ripe[number]
        return Retired(gone, len(rows), more=True)

    def _revived(self, tx: Transaction, group: Sequence[int]) -> set[int]:
        """Those of which something was tried again since they were looked at. A large one would be looked through for
        every piece of it: it is left to the next look."""
        small = [number for number in group if self._ripe[number] <= _SMALL]
        revived = set(tx.execute(_REVIVED, {"among": small, "looked_at": self._looked_at}).scalars())
        goes_on = select(submissions.c.id).where(among(submissions.c.id), _GOES_ON)
        return revived | set(tx.execute(goes_on, {"among": list(group)}).scalars())

    def _take(self, tx: Transaction, group: Sequence[int], limit: int) -> Sequence[AnyRow]:
        """Delete up to so many deliveries of these submissions, but for those that came to life again meanwhile."""
        query = select(deliveries.c.id, deliveries.c.message_id, deliveries.c.submission_id).where(
            deliveries.c.submission_id.in_(group),
            deliveries.c.state.in_(_SETTLED),
            deliveries.c.changed_at <= self._looked_at,
        )
        rows = tx.execute(query.limit(limit).with_for_update(skip_locked=True)).all()
        for chunk in chunks([row.id for row in rows]):
            tx.execute(delete(deliveries).where(among(deliveries.c.id)), {"among": chunk})
        return rows


def _kept(retention: Retention) -> ColumnElement[float]:
    """A submission's retention in seconds, as ``Retention.seconds`` has it: the longest of its tags goes first."""
    tags = sorted(retention.tags.items(), key=lambda item: -item[1])
    own = [(holds(submissions.c.tags, tag), literal(seconds, Double)) for tag, seconds in tags]
    lanes = [(submissions.c.lane == lane.value, literal(seconds, Double)) for lane, seconds in retention.lanes.items()]
    default = literal(retention.default, Double)
    return case(*own, *lanes, else_=default) if own or lanes else default


def _sink(tx: Transaction, rows: Sequence[AnyRow], sunk: Counter[int], expected: Sequence[int]) -> int:
    """Let the accepted counts sink by the deliveries that were deleted, and remove the submissions that are
    ``expected`` to have none left, if that is so; how many.

    Their rows are locked before it is looked at what is left: of two who take out the last deliveries at the same
    time the second sees the first.
    """
    touched = sorted({*sunk, *expected})
    query = select(submissions.c.id, submissions.c.public_id, submissions.c.key)
    query = query.where(submissions.c.id.in_(touched)).order_by(submissions.c.id).with_for_update()
    found = {row.id: row for row in tx.execute(query)}
    left = set(tx.execute(_WITH_DELIVERIES, {"among": list(expected)}).scalars())
    gone = [found[number] for number in expected if number in found and number not in left]
    numbers = {row.id for row in gone}
    for number, count in sunk.items():
        if number not in numbers:
            one = update(submissions).where(submissions.c.id == number)
            tx.execute(one.values(accepted=submissions.c.accepted - count))
    _drop_messages(tx, {row.message_id for row in rows if row.submission_id not in numbers})
    if gone:
        _drop_submissions(tx, gone)
    return len(gone)


def _drop_messages(tx: Transaction, numbers: set[int]) -> None:
    """Those of them that have no deliveries left."""
    for chunk in chunks(sorted(numbers)):
        empty = set(chunk) - set(tx.execute(_NOT_EMPTY, {"among": chunk}).scalars())
        tx.execute(delete(messages).where(among(messages.c.id)), {"among": sorted(empty)})


def _drop_submissions(tx: Transaction, gone: Sequence[AnyRow]) -> None:
    """With their pauses, and with their keys if these need not be remembered for longer."""
    names = [row.public_id for row in gone]
    tx.execute(delete(submissions).where(among(submissions.c.id)), {"among": [row.id for row in gone]})
    tx.execute(delete(pauses).where(pauses.c.kind == "submission", pauses.c.name.in_(names)))
    over = update(campaigns).where(campaigns.c.submission_id.in_([row.id for row in gone]))
    tx.execute(over.values(submission_id=None))
    used = [row.key for row in gone if row.key is not None]
    if used:
        theirs = keys.c.key.in_(used) & keys.c.submission.in_(names)
        tx.execute(delete(keys).where(theirs, keys.c.keep_until <= tx.now))
        tx.execute(update(keys).where(theirs).values(gone=True))


def _tidy(tx: Transaction, retention: Retention, limit: int) -> bool:
    """Remove old keys, rejects and acts; whether there may be more."""
    submission = exists().where(submissions.c.public_id == keys.c.submission)
    resolved = rejects.c.outcome.is_not(None) & (rejects.c.resolved_at <= tx.now - retention.default)
    counts = (
        _expire(tx, keys, text("gone") & (keys.c.keep_until <= tx.now) & ~submission, limit),
        _expire(tx, rejects, resolved, limit),
        _expire(tx, acts, acts.c.at <= tx.now - max(retention.default, ACT_SECONDS), limit),
    )
    return max(counts) == limit


def _expire(tx: Transaction, table: Table, where: ColumnElement[Any], limit: int) -> int:
    """Delete up to so many rows; how many. Locked first: whoever changed one meanwhile has saved it."""
    primary = tuple(table.primary_key)
    rows = tx.execute(select(*primary).where(where).limit(limit).with_for_update(of=table, skip_locked=True)).all()
    if rows:
        one = delete(table).where(*(column == bindparam(f"its_{column.name}") for column in primary))
        tx.execute(one, [{f"its_{name}": value for name, value in row._asdict().items()} for row in rows])
    return len(rows)
