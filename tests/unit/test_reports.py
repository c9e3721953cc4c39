"""Reports on fakes: who gets what, what goes on after a stop, and what the owner is told."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import pytest

from dispatcher import reports
from dispatcher.delivery import Lane, Selector, State
from dispatcher.distribution import COLUMNS
from dispatcher.errors import FileFault, InvalidToken, LedgerUnavailable, SubmissionError
from dispatcher.events import Event, ReportEnded
from dispatcher.report_job import Report, ReportState
from dispatcher.schedule import ScheduleSpec
from tests.reports import HEADER, KEYS, PEOPLE, Table, check, send, spec, staged
from tests.stage import ANNA, Stage


@pytest.fixture
def stage() -> Stage:
    return staged()


def test_each_gets_their_own_and_all_get_the_shared_one(stage: Stage) -> None:
    report = send(stage, attach=["terms.pdf"])
    assert (report.state, report.total) == (ReportState.SENDING, 2)
    stage.dispatcher.deliver(Lane.BULK)
    contents = {rcpt: message.content for message in stage.transport.sent for _, rcpt in message.rcpt_to}
    assert contents.keys() == {"ada@example.com", "li@example.com"}
    for address, own, other in (("ada@example.com", "1001", "1002"), ("li@example.com", "1002", "1001")):
        assert f"{own}.pdf".encode() in contents[address]
        assert b"terms.pdf" in contents[address]
        assert f"{other}.pdf".encode() not in contents[address]


def test_a_file_that_is_changed_after_the_check_does_not_go(stage: Stage) -> None:
    checked = check(stage)
    stage.files_of_reports.files["out/1002.pdf"] = b"%PDF-1.4 another one"
    with pytest.raises(FileFault, match="was changed after it was checked"):
        stage.dispatcher.reports.send("november", spec(), checked, ANNA)
    assert stage.dispatcher.deliver(Lane.BULK) == 0


def test_the_same_command_goes_on_after_a_stop(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "CHUNK", 1)

    def stops(done: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.dispatcher.reports.send("november", spec(), check(stage), ANNA, progress=stops)
    assert stage.dispatcher.reports.get("november").cursor == 1
    assert stage.dispatcher.deliver(Lane.BULK) == 0  # as a whole, or not at all
    assert send(stage).cursor == 2
    assert send(stage).cursor == 2  # and once more
    assert stage.dispatcher.deliver(Lane.BULK) == 2
    with pytest.raises(SubmissionError, match="it is another one"):
        send(stage, attach=["terms.pdf"])


def test_the_owner_gets_the_distribution_once(stage: Stage) -> None:
    send(stage, owner="me@example.com")
    report = stage.dispatcher.reports.get("november")
    assert stage.dispatcher.distribution.document(report) is not None
    stage.dispatcher.deliver(Lane.BULK)
    assert stage.ledger.reports.finish(report)
    document = stage.dispatcher.distribution.document(stage.dispatcher.reports.get("november"))
    assert document is not None
    assert document["to"] == ["me@example.com"]
    assert document["data"]["states"] == [{"state": "sent", "count": 2}]
    assert [each["filename"] for each in document["attachments"]] == ["distribution.csv", "distribution.json"]


def test_the_signed_document_says_what_the_ledger_says(stage: Stage) -> None:
    send(stage, attach=["terms.pdf"])
    stage.dispatcher.deliver(Lane.BULK)
    report, distribution = stage.dispatcher.reports.get("november"), stage.dispatcher.distribution
    text = distribution.signed(report, 0.0)
    assert distribution.verify(text) == ("november", 4, ())
    more = json.loads(text)
    more["signature"]["also"] = "by somebody else"
    with pytest.raises(InvalidToken):
        distribution.verify(json.dumps(more, indent=1) + "\n")
    with pytest.raises(InvalidToken):
        distribution.verify(f"\ufeff{text}")
    for place in range(0, len(text), 97):
        with pytest.raises(InvalidToken):
            distribution.verify(text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :])


def test_what_has_changed_since_is_named(stage: Stage) -> None:
    send(stage)
    report, distribution = stage.dispatcher.reports.get("november"), stage.dispatcher.distribution
    text = distribution.signed(report, 0.0)
    stage.dispatcher.deliver(Lane.BULK)
    said = distribution.verify(text).differ
    assert said is not None
    assert said[0].startswith("mail 1, ada@example.com, 1001.pdf: state was queued, is sent")


def test_no_cell_is_a_formula(stage: Stage) -> None:
    stage.files_of_reports.files["out/=1+1.pdf"] = b"%PDF-1.4 x"
    del stage.files_of_reports.files["out/1002.pdf"]
    report = send(stage, Table(("ada@example.com", "1001", None, "en"), ("li@example.com", "=1+1", None, "en")))
    file = io.StringIO()
    csv.writer(file).writerows([COLUMNS, *stage.dispatcher.distribution.cells(report)])
    assert {row["file"] for row in csv.DictReader(io.StringIO(file.getvalue()))} == {"1001.pdf", "'=1+1.pdf"}


def test_those_who_did_not_get_it_get_the_same_file_where_they_are_now(stage: Stage) -> None:
    send(stage, attach=["terms.pdf"])
    stage.dispatcher.deliver(Lane.BULK)
    stage.transport.sent.clear()
    again = stage.dispatcher.reports.resend(
        "november", "november-again", (State.SENT,), {"LI@example.com": "Li <li.lei@example.com>"}, ANNA
    )
    assert (again.total, again.files[0].name) == (1, "terms.pdf")
    stage.dispatcher.deliver(Lane.BULK)
    (mail,) = stage.transport.sent
    assert [rcpt for _, rcpt in mail.rcpt_to] == ["li.lei@example.com"]
    assert all(name in mail.content for name in (b"terms.pdf", b"1002.pdf"))
    with pytest.raises(SubmissionError, match=r"bo@example.com is nobody of november that is sent"):
        stage.dispatcher.reports.resend("november", "x", (State.SENT,), {"bo@example.com": "x@example.com"}, ANNA)
    with pytest.raises(SubmissionError, match="nobody of it is bounced"):
        stage.dispatcher.reports.resend("november", "x", (State.BOUNCED,), None, ANNA)


def test_a_resend_gives_nobody_what_is_somebody_elses(stage: Stage) -> None:
    send(stage)
    stage.dispatcher.deliver(Lane.BULK)
    resend = stage.dispatcher.reports.resend
    ada, li = "ada@example.com", "li@example.com"
    with pytest.raises(SubmissionError, match=r"to_list: LI@example\.com is another recipient of november"):
        resend("november", "x", (State.SENT,), {ada: "LI@example.com"}, ANNA)
    with pytest.raises(SubmissionError, match=rf"to_list: {ada} and {li} would both go to x@example\.com"):
        resend("november", "x", (State.SENT,), {ada: "x@example.com", li: "x@example.com"}, ANNA)
    assert resend("november", "swapped", (State.SENT,), {ada: li, li: ada}, ANNA).total == 2  # their files were


def test_nobody_gets_it_twice_by_two_resends(stage: Stage) -> None:
    resend = stage.dispatcher.reports.resend
    send(stage)
    stage.dispatcher.reports.cancel("november", ANNA)
    resend("november", "a", (State.CANCELLED,), {"ada@example.com": "ada@example.com"}, ANNA)
    with pytest.raises(SubmissionError, match=r"november: ada@example\.com has it under way by a: wait for that"):
        resend("november", "b", (State.CANCELLED,), None, ANNA)
    stage.dispatcher.reports.cancel("a", ANNA)
    resend("november", "b", (State.CANCELLED,), None, ANNA)
    with pytest.raises(SubmissionError, match=r"a: ada@example\.com has it under way by b"):
        resend("a", "c", (State.CANCELLED,), None, ANNA)
    stage.dispatcher.deliver(Lane.BULK)
    assert len(stage.transport.sent) == 2
    for name in ("november", "a"):
        with pytest.raises(SubmissionError, match="nobody of it is cancelled, other resends counted in"):
            resend(name, "c", (State.CANCELLED,), None, ANNA)
    assert resend("november", "c", (State.CANCELLED, State.SENT), None, ANNA).total == 2  # as it is asked for


def test_what_may_still_go_is_not_sent_again(stage: Stage) -> None:
    send(stage)
    with pytest.raises(SubmissionError, match="only: queued is not over: it may still go, and would go twice"):
        stage.dispatcher.reports.resend("november", "x", (State.SENT, State.QUEUED), None, ANNA)


def test_who_had_no_file_made_yet_has_one_made_beside_the_others(stage: Stage) -> None:
    stage.renderers._functions = {"letter": lambda values: f"%PDF-1.4 {values['customer']}".encode()}
    report = send(stage, renderer="letter", filename="letter {customer}.pdf")
    stage.dispatcher.reports.cancel(report.name, ANNA)
    stage.dispatcher.reports.resend("november", "again", (State.CANCELLED,), None, ANNA)
    stage.dispatcher.deliver(Lane.BULK)
    rows = stage.dispatcher.reports.rows(stage.dispatcher.reports.get("again"))
    assert [[file.name for file in row.files] for row in rows] == [
        ["1001.pdf", "letter 1001.pdf"], ["1002.pdf", "letter 1002.pdf"],
    ]  # fmt: skip
    for message in stage.transport.sent:
        assert message.content.count(b"Content-Disposition: attachment") == 2


def test_one_that_is_cancelled_on_its_way_is_not_gone_on_with(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "CHUNK", 1)

    def cancels(done: int) -> None:
        if done:
            stage.dispatcher.reports.cancel("november", ANNA)

    with pytest.raises(SubmissionError, match="november: was cancelled; send it under another name"):
        stage.dispatcher.reports.send("november", spec(), check(stage), ANNA, progress=cancels)
    with pytest.raises(SubmissionError, match="november: was cancelled"):
        send(stage)
    with pytest.raises(SubmissionError, match="november: is cancelled"):
        stage.dispatcher.reports.cancel("november", ANNA)
    assert stage.dispatcher.deliver(Lane.BULK) == 0
    stage.dispatcher.advance(5.0)
    over = stage.dispatcher.reports.get("november")
    assert (over.state, over.finished_at is not None) == (ReportState.CANCELLED, True)
    assert stage.dispatcher.reports.sums("november") == {State.CANCELLED: 1}


def test_one_that_was_cancelled_is_not_sent_by_the_same_command(stage: Stage) -> None:
    send(stage)
    stage.dispatcher.reports.cancel("november", ANNA)
    with pytest.raises(SubmissionError, match="november: was cancelled; send it under another name"):
        send(stage)


@pytest.mark.parametrize("sent", [False, True])
def test_two_resends_at_the_same_moment_are_not_both_sent(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    send(stage)
    stage.dispatcher.reports.cancel("november", ANNA)
    resend, begin = stage.dispatcher.reports.resend, stage.ledger.reports.begin

    def beaten(*given: Any) -> Report:
        monkeypatch.setattr(stage.ledger.reports, "begin", begin)
        resend("november", "b", (State.CANCELLED,), None, ANNA)
        if sent:
            stage.dispatcher.deliver(Lane.BULK)
        return begin(*given)

    monkeypatch.setattr(stage.ledger.reports, "begin", beaten)
    why = "was sent it by another resend just now" if sent else "has it under way by b"
    with pytest.raises(SubmissionError, match=rf"november: ada@example\.com {why}"):
        resend("november", "a", (State.CANCELLED,), None, ANNA)
    assert stage.dispatcher.reports.get("a").state is ReportState.CANCELLED
    stage.dispatcher.deliver(Lane.BULK)
    assert len(stage.transport.sent) == 2


def test_a_resend_that_was_stopped_says_that_it_is_for_others_now(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "CHUNK", 1)
    send(stage)
    stage.dispatcher.deliver(Lane.BULK)
    add = stage.ledger.reports.add

    def stops(*given: Any) -> bool:
        add(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage.ledger.reports, "add", stops)
    resend = stage.dispatcher.reports.resend
    with pytest.raises(KeyboardInterrupt):
        resend("november", "again", (State.SENT,), None, ANNA)
    monkeypatch.setattr(stage.ledger.reports, "add", add)
    with pytest.raises(SubmissionError, match="again: was stopped on its way, and is for others by now: cancel it"):
        resend("november", "again", (State.SENT,), {"ada@example.com": "ada@example.com"}, ANNA)
    assert resend("november", "again", (State.SENT,), None, ANNA).cursor == 2


def test_a_cancel_that_was_killed_half_way_is_ended(stage: Stage) -> None:
    send(stage)
    stage.ledger.reports.cancel("november", ANNA)
    assert stage.dispatcher.deliver(Lane.BULK) == 0
    stage.dispatcher.advance(5.0)
    assert stage.dispatcher.reports.sums("november") == {State.CANCELLED: 2}


def told(stage: Stage) -> list[Event]:
    """Send one, end it, and answer what was said of its end."""
    stage.files = {"subject.txt": "Report {{ report }}", "body.txt": "{{ mails }} mails"}
    send(stage, owner="me@example.com")
    stage.dispatcher.deliver(Lane.BULK)
    while stage.dispatcher.advance(5.0, again=True):
        pass
    return [event for event in stage.events if isinstance(event, ReportEnded)]


def test_an_owner_who_was_told_before_a_kill_is_no_fault(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: Report) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage.ledger.reports, "reported", killed)
    with pytest.raises(KeyboardInterrupt):
        told(stage)
    monkeypatch.undo()
    stage.dispatcher.distribution._keys = ("another-key-that-signs-it", *KEYS)  # and its bytes are others
    while stage.dispatcher.advance(5.0, again=True):
        pass
    (ended,) = [event for event in stage.events if isinstance(event, ReportEnded)]
    assert ended.fault == ""
    assert len(list(stage.ledger.find(Selector(tag="report-sent")))) == 1


def test_a_distribution_that_fits_into_no_mail_is_written_by_the_command(stage: Stage) -> None:
    stage = staged(max_bytes=66_000)
    (ended,) = told(stage)
    assert ended.fault == ""
    stage.dispatcher.deliver(Lane.TRANSACTIONAL)
    (sent,) = [each for each in stage.transport.sent if each.rcpt_to[0][1] == "me@example.com"]
    assert b"distribution.csv" not in sent.content


def test_a_file_is_rendered_once_however_often_its_mail_is_sent(stage: Stage) -> None:
    calls = list[str]()

    def statement(values: Mapping[str, Any]) -> bytes:
        calls.append(values["customer"])
        return f"%PDF-1.4 {values['customer']} {len(calls)}".encode() if values["customer"] != "1002" else b"<html>"

    stage.renderers._functions = {"statement": statement}
    stage.files_of_reports.files.clear()
    made = {"files": [], "folder": None, "renderer": "statement", "filename": "{customer}.pdf"}
    report = send(stage, Table(*PEOPLE._rows, header=HEADER), **made)
    stage.dispatcher.deliver(Lane.BULK)
    ada, li = stage.dispatcher.reports.rows(report)
    assert (ada.state, li.state) == (State.SENT, State.INVALID)
    assert "has made 1002.pdf, which is no PDF" in li.text
    assert [file.name for file in ada.files] == ["1001.pdf"]
    assert calls == ["1001", "1002"]
    stage.dispatcher.reports.resend("november", "again", (State.SENT,), None, ANNA)
    stage.dispatcher.deliver(Lane.BULK)
    assert calls == ["1001", "1002"]


def scheduled(stage: Stage, **more: Any) -> str:
    """What becomes of the first occurrence of a schedule that runs a report."""
    stage.manifests.rows["people.csv"] = PEOPLE
    document = {**spec().document(), "manifest": "people.csv", **more}
    document = {name: value for name, value in document.items() if value is not None}
    stage.dispatcher.schedules.add("monthly", ScheduleSpec(every="1h", report=document), ANNA)
    stage.clock.now += 3601
    while stage.dispatcher.advance(5.0, again=True):
        pass
    return str(stage.dispatcher.schedules.history("monthly")[0].outcome)


def test_a_schedule_runs_one_for_each_occurrence(stage: Stage) -> None:
    outcome = scheduled(stage)
    name = outcome.removeprefix("report ")
    assert name.startswith("monthly-2027-")
    assert stage.dispatcher.reports.get(name).total == 2
    assert stage.dispatcher.deliver(Lane.BULK) == 2
    stage.clock.now += 3600
    while stage.dispatcher.advance(5.0, again=True):
        pass
    assert len(stage.dispatcher.reports.listed()) == 2


def test_a_report_that_has_no_room_keeps_no_other_waiting(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    look = stage.files_of_reports.look

    def full(folder: str | None, name: str) -> Any:
        if folder == "bad":
            raise LedgerUnavailable("No space left on device")
        return look(folder, name)

    monkeypatch.setattr(stage.files_of_reports, "look", full)
    stage.manifests.rows["people.csv"] = PEOPLE
    for name, folder in (("a-bad", "bad"), ("b-good", "out")):
        document = {**spec(folder=folder).document(), "manifest": "people.csv"}
        stage.dispatcher.schedules.add(name, ScheduleSpec(every="1h", report=document), ANNA)
    stage.clock.now += 3601
    with pytest.raises(LedgerUnavailable):
        stage.dispatcher.advance(5.0, again=True)
    assert [str(each.outcome)[:13] for each in stage.dispatcher.schedules.history("b-good")] == ["report b-good"]
    assert stage.dispatcher.schedules.history("a-bad")[0].outcome == ""


def test_an_occurrence_whose_check_fails_says_what_was_found(stage: Stage) -> None:
    del stage.files_of_reports.files["out/1002.pdf"]
    assert "its check has failed: missing: row 3 (li@example.com): 1002.pdf: is not in out" in scheduled(stage)
    assert stage.dispatcher.reports.listed() == []


def test_a_schedule_names_programs_by_their_names_only(stage: Stage) -> None:
    for more, said in (
        ({"manifest": None}, "report.manifest: give either a manifest or a manifest_command"),
        ({"manifest": None, "manifest_command": "rm -rf /"}, r"\[reports\] manifests has no 'rm -rf /'"),
        ({"manifest": 7}, "report.manifest: must be a text"),
        (
            {"renderer": "pdf", "filename": "a.pdf"},
            r"report.renderer: \[reports\] renderers has no 'pdf'; there is none",
        ),
        ({"files": "x"}, "report.files: must be a list of texts"),
    ):
        with pytest.raises(SubmissionError, match=said):
            scheduled(stage, **more)
