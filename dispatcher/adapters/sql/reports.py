"""Reports in the ledger's database. What a report's mails are is in the tables of all mail."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import case, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from dispatcher.adapters.sql import accepting, acting, pausing, using
from dispatcher.adapters.sql.database import AnyRow, Database, Transaction
from dispatcher.adapters.sql.expanding import add_rows, live
from dispatcher.adapters.sql.schema import deliveries, messages, report_files, reports, submissions
from dispatcher.campaign import Expanded
from dispatcher.delivery import Actor, State
from dispatcher.errors import NotFound, SubmissionError
from dispatcher.ledger import signature
from dispatcher.mail import Accepted
from dispatcher.names import unknown
from dispatcher.report_job import Asked, Report, ReportFile, ReportRow, ReportState, another, ended, with_made

_REPORT = (
    *("id", "name", "state", "spec", "digest", "files", "missing", "submission", "cursor", "total", "created_at"),
    *("changed_at", "finished_at", "reported_at", "actor"),
)
_COLUMNS = tuple(reports.c[name] for name in _REPORT)
_ALL = select(*_COLUMNS)
_ROW = select(
    messages.c.n,
    messages.c.own,
    report_files.c.attachment,
    deliveries.c.rcpt,
    deliveries.c.state,
    deliveries.c.last_relay,
    deliveries.c.code,
    deliveries.c.enhanced,
    deliveries.c.text,
    deliveries.c.changed_at,
).select_from(
    messages.join(deliveries, deliveries.c.message_id == messages.c.id).outerjoin(
        report_files, report_files.c.message_id == messages.c.id
    )
)
_CANCELLABLE = ReportState.TAKING.value, ReportState.SENDING.value
_ENDING = reports.c.state.in_((ReportState.SENDING.value, ReportState.CANCELLED.value)) & reports.c.finished_at.is_(
    None
)
_MOVES = or_(_ENDING, reports.c.finished_at.is_not(None) & reports.c.reported_at.is_(None))


class SqlReports:
    """``interfaces.Reports`` over a ledger's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, asked: Asked, accepted: Accepted, actor: Actor) -> Report:
        try:
            with self._database.writing() as tx:
                if found := _found(tx, asked.name):
                    return _same(found, asked)
                number, public_id = accepting.add_empty(tx, accepted)
                tx.execute(insert(reports).values(_values(tx, asked, number, public_id, actor)))
                using.write(tx, ((number, each.sha256) for each in asked.files))
                why = f"report {asked.name} is being taken in"
                pausing.hold(tx, "submission", public_id, why, signature(actor))
                acting.record(tx, actor, "send", f"report {asked.name}", count=asked.total)
                return _named(tx, asked.name)
        except IntegrityError:  # somebody else began it just now
            return _same(self.get(asked.name), asked)

    def add(self, report: Report, rows: Sequence[Expanded], blobs: Sequence[str]) -> bool:
        upto = report.cursor + len(rows)
        state = ReportState.SENDING if upto == report.total else ReportState.TAKING
        mine = reports.c.id == report.id, reports.c.cursor == report.cursor
        moved = update(reports).where(*mine, reports.c.state == ReportState.TAKING.value)
        with self._database.writing() as tx:
            changed = {"cursor": upto, "state": state.value, "changed_at": tx.now}
            number = tx.execute(moved.values(changed).returning(reports.c.submission_id)).scalar_one_or_none()
            if number is None:
                return False
            tx.widen()
            add_rows(tx, number, rows)
            using.write(tx, ((number, blob) for blob in blobs))
            if state is ReportState.SENDING:
                pausing.lift(tx, "submission", report.submission, report.actor)
                tx.narrow()
            return True

    def cancel(self, name: str, actor: Actor) -> Report:
        with self._database.writing() as tx:
            found = _named(tx, name)
            one = update(reports).where(reports.c.id == found.id, reports.c.state.in_(_CANCELLABLE))
            if tx.execute(one.values(state=ReportState.CANCELLED.value, changed_at=tx.now)).rowcount == 0:
                raise SubmissionError(name, ended(_named(tx, name)))
            why = f"report {name} is cancelled"
            pausing.hold(tx, "submission", found.submission, why, signature(actor))
            acting.record(tx, actor, "cancel", f"report {name}", reason=actor.reason)
            return _named(tx, name)

    def get(self, name: str) -> Report:
        with self._database.reading() as tx:
            return _named(tx, name)

    def listed(self) -> list[Report]:
        with self._database.reading() as tx:
            return [_record(row) for row in tx.execute(_ALL.order_by(reports.c.id.desc()))]

    def rows(self, report: Report, after: int, limit: int) -> list[ReportRow]:
        mine = select(submissions.c.id).where(submissions.c.public_id == report.submission).scalar_subquery()
        some = _ROW.where(messages.c.submission_id == mine, messages.c.n > after).order_by(messages.c.n).limit(limit)
        with self._database.reading() as tx:
            return [_row(row) for row in tx.execute(some)]

    def sums(self, report: Report) -> dict[State, int]:
        with self._database.reading() as tx:
            kept = tx.execute(select(reports.c.sums).where(reports.c.id == report.id)).scalar_one()
            found = _counted(tx, report)
        if kept is not None and sum(found.values()) < report.cursor:  # its retention takes them out
            return {State(state): count for state, count in kept.items()}
        return found

    def made(self, message: int) -> Mapping[str, Any] | None:
        with self._database.reading() as tx:
            return _made(tx, message)

    def keep_made(self, message: int, made: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._database.writing() as tx:
            new = tx.insert(report_files).values(message_id=message, attachment=dict(made))
            tx.execute(new.on_conflict_do_nothing())
            kept = _made(tx, message) or made
            of = tx.execute(select(messages.c.submission_id).where(messages.c.id == message)).scalar_one()
            using.write(tx, [(of, kept["blob"])])
            return kept

    def pending(self) -> bool:
        with self._database.reading() as tx:
            return bool(tx.execute(select(exists().where(_MOVES))).scalar())

    def moving(self) -> list[Report]:
        with self._database.reading() as tx:
            return [_record(row) for row in tx.execute(_ALL.where(_MOVES).order_by(reports.c.id))]

    def finish(self, report: Report) -> bool:
        mine = reports.c.id == report.id, _ENDING
        with self._database.reading() as tx:
            number = tx.execute(select(reports.c.submission_id).where(*mine)).scalar_one_or_none()
            if number is None or live(tx, number):
                return False
            sums = {state.value: count for state, count in _counted(tx, report).items()}
        with self._database.writing() as tx:
            if live(tx, number):  # somebody has tried some of them again just now
                return False
            cancelled = reports.c.state == ReportState.CANCELLED.value
            becomes = case((cancelled, reports.c.state), else_=ReportState.FINISHED.value)
            ends = {"state": becomes, "sums": sums, "finished_at": tx.now, "changed_at": tx.now}
            state = tx.execute(
                update(reports).where(*mine).values(ends).returning(reports.c.state)
            ).scalar_one_or_none()
            if state == ReportState.CANCELLED.value:  # perhaps since it was read; it was held
                pausing.lift(tx, "submission", report.submission, report.actor)
            return state is not None

    def reported(self, report: Report) -> None:
        with self._database.writing() as tx:
            tx.execute(update(reports).where(reports.c.id == report.id).values(reported_at=tx.now))


def _values(tx: Transaction, asked: Asked, number: int, public_id: str, actor: Actor) -> dict[str, Any]:
    return {
        "name": asked.name,
        "state": ReportState.TAKING.value,
        "spec": dict(asked.spec),
        "digest": asked.digest,
        "files": [list(each) for each in asked.files],
        "missing": list(asked.missing),
        "submission_id": number,
        "submission": public_id,
        "cursor": 0,
        "total": asked.total,
        "created_at": tx.now,
        "changed_at": tx.now,
        "actor": signature(actor),
    }


def _same(found: Report, asked: Asked) -> Report:
    if found.digest != asked.digest:
        raise SubmissionError("name", another(found))
    return found


def _found(tx: Transaction, name: str) -> Report | None:
    row = tx.execute(_ALL.where(reports.c.name == name)).one_or_none()
    return None if row is None else _record(row)


def _named(tx: Transaction, name: str) -> Report:
    found = _found(tx, name)
    if found is None:
        raise NotFound(unknown("report", name, tx.execute(select(reports.c.name)).scalars()))
    return found


def _record(row: AnyRow) -> Report:
    values = dict(zip(_REPORT, row, strict=True))
    values["state"] = ReportState(values["state"])
    values["files"] = tuple(ReportFile(*each) for each in values["files"])
    values["missing"] = tuple(values["missing"])
    return Report(**values)


def _row(row: AnyRow) -> ReportRow:
    state, own = State(row.state), with_made(row.own, row.attachment)
    known = row.last_relay, row.code, row.enhanced, row.text or ""
    return ReportRow(row.n, row.rcpt, own, state, *known, row.changed_at)


def _made(tx: Transaction, message: int) -> Mapping[str, Any] | None:
    found = select(report_files.c.attachment).where(report_files.c.message_id == message)
    kept: Mapping[str, Any] | None = tx.execute(found).scalar_one_or_none()
    return kept


def _counted(tx: Transaction, report: Report) -> dict[State, int]:
    mine = select(submissions.c.id).where(submissions.c.public_id == report.submission).scalar_subquery()
    by_state = select(deliveries.c.state, func.count()).where(deliveries.c.submission_id == mine)
    return {State(state): count for state, count in tx.execute(by_state.group_by(deliveries.c.state))}
