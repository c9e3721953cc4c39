"""What every ledger promises of reports: held until the last row is there, each row once, and a file that was rendered
stays what it was."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dispatcher.campaign import Expanded
from dispatcher.delivery import Lane, Selector, State
from dispatcher.errors import NotFound, SubmissionError
from dispatcher.report_job import Asked, Report, ReportFile, ReportState
from dispatcher.retention import Retention
from dispatcher.suppression import ALL, Reason, Suppression
from dispatcher.written import encode
from tests.ledgers import ANNA, DAY, Kept, accepted, add, lease, settle

TERMS, ONE, TWO, MADE = (ReportFile(f"{name}.pdf", name[0] * 64, 5) for name in ("terms", "one", "two", "made"))


def attachment(file: ReportFile) -> dict[str, Any]:
    return {"blob": file.sha256, "filename": file.name, "size": file.size, "content_type": "application/pdf"}


def asked(total: int = 2, digest: str = "d" * 64, name: str = "november") -> Asked:
    return Asked(name, {"owner": "me@example.com"}, digest, (TERMS,), ("cy@example.com",), total)


def begun(kept: Kept, total: int = 2) -> Report:
    made = replace(accepted(), messages=(), lane="bulk")
    shared = {**made.shared, "attachments": [attachment(TERMS)]}
    return kept.ledger.reports.begin(asked(total), replace(made, shared=shared), ANNA)


def row(n: int, address: str, file: ReportFile | None = None, **own: Any) -> Expanded:
    content: Mapping[str, Any] = {"to": [address], **own} | ({"attachments": [attachment(file)]} if file else {})
    return Expanded(n, address, address, encode(content), time.time() - 60)


ROWS = [row(1, "ada@example.com", ONE), row(2, "li@example.com", TWO)]
BLOBS = [ONE.sha256, TWO.sha256]


def sent(kept: Kept) -> Report:
    """A report of two mails, which are sent."""
    report = begun(kept)
    assert kept.ledger.reports.add(report, ROWS, BLOBS)
    assert settle(kept.ledger, lease(kept.ledger, Lane.BULK), relay="main", code=250, text="Ok") == 2
    return kept.ledger.reports.get("november")


def test_a_report_is_kept_as_it_was_asked_for(kept: Kept) -> None:
    report = begun(kept)
    assert (report.name, report.state, report.files, report.missing) == (
        "november", ReportState.TAKING, (TERMS,), ("cy@example.com",),
    )  # fmt: skip
    assert (report.cursor, report.total, report.owner, report.actor) == (0, 2, "me@example.com", "anna@desk-7")
    assert kept.ledger.reports.get("november") == report
    assert kept.ledger.reports.listed() == [report]
    assert [(act.act, act.subject, act.count) for act in kept.ledger.acts()] == [("send", "report november", 2)]
    with pytest.raises(NotFound, match="did you mean november"):
        kept.ledger.reports.get("novembr")


def test_the_same_report_goes_on_and_another_one_is_refused(kept: Kept) -> None:
    report = begun(kept)
    assert begun(kept) == report
    assert len(kept.ledger.acts()) == 1
    with pytest.raises(SubmissionError, match="another one, which was stopped on its way: dispatcher reports cancel"):
        kept.ledger.reports.begin(asked(digest="e" * 64), accepted(), ANNA)


def test_nothing_goes_before_the_last_row_is_there(kept: Kept) -> None:
    report, store = begun(kept), kept.ledger.reports
    assert store.add(report, ROWS[:1], BLOBS[:1])
    assert not lease(kept.ledger, Lane.BULK).messages
    assert store.get("november").state is ReportState.TAKING
    assert store.add(store.get("november"), ROWS[1:], BLOBS[1:])
    assert store.get("november").state is ReportState.SENDING
    found = lease(kept.ledger, Lane.BULK).messages
    assert [each.own["attachments"][0]["filename"] for each in found] == ["one.pdf", "two.pdf"]
    assert [each.shared["attachments"][0]["filename"] for each in found] == ["terms.pdf"] * 2


def test_a_row_is_added_once_whoever_adds_it_twice(kept: Kept) -> None:
    report, store = begun(kept), kept.ledger.reports
    assert store.add(report, ROWS[:1], ())
    assert not store.add(report, ROWS[:1], ())
    assert store.add(store.get("november"), ROWS[1:], ())
    assert not store.add(store.get("november"), ROWS[1:], ())
    assert store.sums(report) == {State.QUEUED: 2}
    assert kept.ledger.unbalanced() == []


def test_who_is_suppressed_gets_none(kept: Kept) -> None:
    kept.ledger.suppressions.add([Suppression("li@example.com", ALL, Reason.HAND)])
    report = begun(kept)
    kept.ledger.reports.add(report, ROWS, ())
    assert kept.ledger.reports.sums(report) == {State.QUEUED: 1, State.SUPPRESSED: 1}


def test_the_rows_say_who_got_which_file(kept: Kept) -> None:
    report = sent(kept)
    rows = kept.ledger.reports.rows(report, 0, 10)
    assert [(each.n, each.address, each.files, each.state) for each in rows] == [
        (1, "ada@example.com", (ONE,), State.SENT), (2, "li@example.com", (TWO,), State.SENT),
    ]  # fmt: skip
    assert {(each.relay, each.code, each.text) for each in rows} == {("main", 250, "Ok")}
    assert kept.ledger.reports.rows(report, 1, 10) == rows[1:]
    assert kept.ledger.reports.rows(report, 0, 1) == rows[:1]


def test_it_is_over_when_no_mail_is_live(kept: Kept) -> None:
    report, store = begun(kept), kept.ledger.reports
    assert not store.pending()
    store.add(report, ROWS, ())
    assert store.pending()
    assert not store.finish(report)
    settle(kept.ledger, lease(kept.ledger, Lane.BULK))
    assert store.finish(report)
    assert not store.finish(report)
    over = store.get("november")
    assert over.state is ReportState.FINISHED
    assert over.finished_at is not None
    assert store.moving() == [over]  # its owner was not told
    store.reported(over)
    assert not store.pending()
    assert store.moving() == []


def test_what_was_rendered_first_stays(kept: Kept) -> None:
    report, store = begun(kept, 1), kept.ledger.reports
    store.add(report, [row(1, "ada@example.com", render={"name": "pdf"})], ())
    (message,) = lease(kept.ledger, Lane.BULK).messages
    assert store.made(message.id) is None
    assert store.keep_made(message.id, attachment(MADE)) == attachment(MADE)
    assert store.keep_made(message.id, attachment(ONE)) == attachment(MADE)
    assert store.made(message.id) == attachment(MADE)
    assert store.rows(report, 0, 1)[0].files == (MADE,)
    assert kept.ledger.unused([MADE.sha256, ONE.sha256]) == [ONE.sha256]


def test_its_files_are_used_as_long_as_its_mails_are_kept(kept: Kept) -> None:
    report = sent(kept)
    mine = [TERMS.sha256, *BLOBS]
    assert kept.ledger.unused([*mine, MADE.sha256]) == [MADE.sha256]
    assert kept.ledger.reports.finish(report)
    kept.age(100 * DAY)
    assert kept.ledger.retire(Retention(), 100).deliveries == 2
    while kept.ledger.retire(Retention(), 100).more:
        pass
    assert sorted(kept.ledger.unused(mine)) == sorted(mine)
    assert kept.ledger.reports.rows(report, 0, 10) == []
    assert kept.ledger.reports.sums(report) == {State.SENT: 2}  # as they stood when it was over


def test_one_that_was_stopped_for_longer_than_a_lifetime_goes_as_a_whole(kept: Kept) -> None:
    report, store = begun(kept), kept.ledger.reports
    assert store.add(report, ROWS[:1], BLOBS[:1])
    kept.age(30 * DAY)
    assert store.add(store.get("november"), ROWS[1:], BLOBS[1:])
    assert len(lease(kept.ledger, Lane.BULK).messages) == 2


def test_one_that_is_taken_in_is_not_over_its_retention(kept: Kept) -> None:
    report = begun(kept)
    kept.age(100 * DAY)
    while kept.ledger.retire(Retention(), 100).more:
        pass
    assert kept.ledger.reports.add(report, ROWS, BLOBS)
    assert len(lease(kept.ledger, Lane.BULK).messages) == 2


def test_other_mail_is_none_of_a_report(kept: Kept) -> None:
    report = sent(kept)
    add(kept.ledger, accepted("bo@example.com", lane="bulk"))
    assert len(kept.ledger.reports.rows(report, 0, 10)) == 2
    assert kept.ledger.reports.finish(report)


def test_a_cancelled_one_takes_nothing_more_and_ends_when_nothing_is_live(kept: Kept) -> None:
    report, store = begun(kept), kept.ledger.reports
    store.add(report, ROWS[:1], ())
    cancelled = store.cancel("november", ANNA)
    assert (cancelled.state, cancelled.cursor) == (ReportState.CANCELLED, 1)
    assert not store.add(cancelled, ROWS[1:], ())
    assert not lease(kept.ledger, Lane.BULK).messages
    assert store.moving() == [cancelled]
    assert not store.finish(cancelled)
    mine = Selector(ids=(cancelled.submission,))
    assert kept.ledger.change(mine, State.CANCELLED, ANNA) == 1
    assert store.finish(cancelled)
    over = store.get("november")
    assert (over.state, over.finished_at is not None) == (ReportState.CANCELLED, True)
    assert store.sums(over) == {State.CANCELLED: 1}
    with pytest.raises(SubmissionError, match="november: is cancelled"):
        store.cancel("november", ANNA)
    assert kept.ledger.change(mine, State.QUEUED, ANNA) == 0  # it was cancelled as a whole
    assert kept.ledger.change(Selector(), State.QUEUED, ANNA) == 0


def test_a_number_that_is_given_again_is_no_cancelled_reports(kept: Kept) -> None:
    report, store = begun(kept), kept.ledger.reports
    store.add(report, ROWS, ())
    cancelled = store.cancel("november", ANNA)
    kept.ledger.change(Selector(ids=(cancelled.submission,)), State.CANCELLED, ANNA)
    assert store.finish(cancelled)
    kept.age(100 * DAY)
    while kept.ledger.retire(Retention(), 100).more:
        pass
    add(kept.ledger, accepted())  # SQLite numbers it like the one that is gone
    assert kept.ledger.change(Selector(), State.CANCELLED, ANNA) == 1
    assert store.sums(store.get("november")) == {State.CANCELLED: 2}
    assert kept.ledger.change(Selector(), State.QUEUED, ANNA) == 1


def test_one_that_is_cancelled_while_it_is_ended_stays_held_by_nobody(kept: Kept) -> None:
    report, store = begun(kept), kept.ledger.reports
    store.add(report, ROWS, ())
    before = store.get("november")
    mine = Selector(ids=(store.cancel("november", ANNA).submission,))
    kept.ledger.change(mine, State.CANCELLED, ANNA)
    assert store.finish(before)
    assert store.get("november").state is ReportState.CANCELLED
    assert [pause for pause in kept.ledger.pauses() if pause.kind == "submission"] == []


def test_one_that_is_over_is_not_cancelled(kept: Kept) -> None:
    kept.ledger.reports.finish(sent(kept))
    with pytest.raises(SubmissionError, match="november: is finished"):
        kept.ledger.reports.cancel("november", ANNA)
