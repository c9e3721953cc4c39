"""Reports on fakes: what the check finds, what is refused, what goes on after a stop, and what its owner is told."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from dispatcher import reports
from dispatcher.audience import BadRow
from dispatcher.delivery import Lane, State
from dispatcher.distribution import COLUMNS
from dispatcher.errors import FileFault, InvalidToken, SubmissionError
from dispatcher.report_check import Checked
from dispatcher.report_job import Report, ReportSpec, ReportState
from dispatcher.schedule import ScheduleSpec
from tests.stage import ANNA, Stage

HEADER = "email", "customer", "file", "locale"
KEYS = ("a-key-that-signs-documents",)


class Table:
    """``interfaces.Rows`` of a list."""

    def __init__(self, *rows: Sequence[Any], header: Sequence[str] = HEADER) -> None:
        self.source, self.header, self._rows = "people.csv", header, rows
        self.details: Mapping[str, str] = {}
        self.size: int | None = None
        self.done = 0

    def __iter__(self) -> Iterator[tuple[int, Sequence[Any]] | BadRow]:
        return iter([row if isinstance(row, BadRow) else (n, row) for n, row in enumerate(self._rows, 2)])


PEOPLE = Table(("ada@example.com", "1001", None, "en"), ("li@example.com", "1002", None, "zh-CN"))
FILES = {"out/1001.pdf": b"%PDF-1.4 one", "out/1002.pdf": b"%PDF-1.4 two", "terms.pdf": b"%PDF-1.4 terms"}


def spec(**more: Any) -> ReportSpec:
    usual = {"subject": "Statement", "text": "Yours.", "folder": "out", "files": ["{customer}.pdf"]}
    return ReportSpec.parse({name: value for name, value in {**usual, **more}.items() if value is not None})


@pytest.fixture
def stage() -> Stage:
    made = Stage(secret_keys=KEYS)
    made.files_of_reports.files |= FILES
    return made


def check(stage: Stage, rows: Table = PEOPLE, **more: Any) -> Checked:
    return stage.dispatcher.reports.check(spec(**more), rows)


def found(stage: Stage, rows: Table = PEOPLE, **more: Any) -> dict[str, tuple[str, ...]]:
    return {finding.what: finding.where for finding in check(stage, rows, **more).findings}


def send(stage: Stage, rows: Table = PEOPLE, name: str = "november", **more: Any) -> Report:
    return stage.dispatcher.reports.send(name, spec(**more), check(stage, rows, **more), ANNA)


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


def test_everything_that_is_wrong_is_found_at_once(stage: Stage) -> None:
    files = stage.files_of_reports.files
    files |= {"out/1003.pdf": b"<html>", "out/1004.pdf": b"%PDF" * 300_000, "out/9999.pdf": b"%PDF-1.4 whose"}
    files["out/1006.pdf"] = files["out/1001.pdf"]
    rows = Table(
        ("ada@example.com", "1001", None, "en"),
        ("bo@example.com", "1001", None, "en"),
        ("cy@example.com", "1003", None, "en"),
        ("di@example.com", "1004", None, "en"),
        ("ed@example.com", "1005", None, "en"),
        ("fay@example.com", "1006", None, "en"),
        ("gus", "1002", None, "en"),
        ("hal@example.com", "../1002", None, "en"),
    )
    said = found(stage, rows)
    assert said == {
        "recipient": (said["recipient"][0],),
        "missing": ("row 6 (ed@example.com): 1005.pdf: is not in out",),
        "doubled": (
            "row 3 (bo@example.com): 1001.pdf is that of row 2 (ada@example.com) too",
            "row 7 (fay@example.com): 1006.pdf is that of row 2 (ada@example.com) too",
        ),
        "wrong type": ("row 4 (cy@example.com): 1003.pdf: is no PDF",),
        "too large": ("row 5 (di@example.com): 1004.pdf: has 1,200,000 bytes; 1,048,576 are the most",),
        "left over": ("1002.pdf", "1003.pdf", "1004.pdf", "9999.pdf"),
        "name": ("row 9 (hal@example.com): {customer}.pdf: '../1002' cannot be in a file's name",),
    }
    assert said["recipient"][0].startswith("row 8: email: ")
    with pytest.raises(SubmissionError, match="its check has findings; nothing was sent"):
        send(stage, rows)
    assert stage.dispatcher.reports.listed() == []


def test_those_without_a_file_are_left_out_only_when_that_is_allowed(stage: Stage) -> None:
    rows = Table(*PEOPLE._rows, ("cy@example.com", "1003", None, "en"))
    assert not check(stage, rows).ok
    allowed = check(stage, rows, allow_missing=True)
    assert allowed.ok
    assert allowed.missing == ("cy@example.com",)
    report = send(stage, rows, allow_missing=True)
    assert (report.total, report.missing) == (2, ("cy@example.com",))
    lines = list(stage.dispatcher.distribution.lines(report))
    assert (lines[-1]["address"], lines[-1]["state"]) == ("cy@example.com", "left out")


def test_a_row_names_its_files_itself(stage: Stage) -> None:
    rows = Table(("ada@example.com", "1001", "1001.pdf; 1002.pdf", "en"), ("li@example.com", "1002", None, "en"))
    assert found(stage, rows, files=[]) == {"no file": ("row 3 (li@example.com)",)}
    made = check(stage, rows, files=[], allow_missing=True)
    assert [file.file.name for file in made.mails[0].files] == ["1001.pdf", "1002.pdf"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"files": ["{number}.pdf"]}, "people.csv has no column 'number'"),
        ({"attach": ["nothing.pdf"]}, "attach: nothing.pdf: is not there"),
        ({"renderer": "pdf", "filename": "a.pdf"}, r"\[reports\] renderers has no 'pdf'; there is none"),
        ({"renderer": "pdf"}, "filename: goes with a renderer"),
        ({"too_large": "zip"}, "'zip' is none of refuse, link, split"),
        ({"too_large": "link"}, "link: goes with too_large"),
        ({"subject": None}, "subject: required"),
        ({"files": "x.pdf"}, "files: must be a list of texts"),
        ({"folders": "x"}, "folders: unknown field"),
    ],
)
def test_what_is_wrong_for_all_of_them_is_one_error(stage: Stage, more: dict[str, Any], said: str) -> None:
    with pytest.raises(SubmissionError, match=said):
        check(stage, **more)


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


def templated(stage: Stage, **more: Any) -> dict[str, Any]:
    stage.files = {
        "meta.toml": 'description = "x"\n[schema]\ntype = "object"\n[sample]\nname = "Ada"\n',
        "subject.txt": "Statement{% if report.part is defined %} {{ report.part }}{% endif %}",
        "body.txt": "{{ report.title }}{% if report.url is defined %} {{ report.url }}{% endif %}",
    }
    given = {"template": "statement", "subject": None, "text": None, "data": {"report": {"title": "Yours"}}}
    return {**given, **more}


def large(stage: Stage) -> Table:
    """Of two files that do not fit into a mail together."""
    for n in (1, 2):
        stage.files_of_reports.files[f"out/large-{n}.pdf"] = b"%PDF-1.4" + bytes([n]) * 700_000
    del stage.files_of_reports.files["out/1001.pdf"], stage.files_of_reports.files["out/1002.pdf"]
    return Table(("ada@example.com", "1001", "large-1.pdf;large-2.pdf", "en"))


def test_files_that_do_not_fit_are_refused_split_or_linked(stage: Stage) -> None:
    stage = Stage(secret_keys=KEYS, max_bytes=1 << 20)
    rows = large_on(stage)
    assert list(found(stage, rows, files=[])) == ["too large"]
    split = templated(stage, files=[], too_large="split")
    assert check(stage, rows, **split).ok
    assert send(stage, rows, "split", **split).total == 2
    stage.dispatcher.deliver(Lane.BULK)
    heads = [message.content.partition(b"\r\n\r\n")[0] for message in stage.transport.sent]
    assert all(f"Subject: Statement {n}/2".encode() in head for n, head in enumerate(heads, 1))
    stage.transport.sent.clear()
    linked = templated(stage, files=[], too_large="link", link="https://files.example.com/{customer}")
    assert send(stage, rows, "linked", **linked).total == 1
    stage.dispatcher.deliver(Lane.BULK)
    (mail,) = stage.transport.sent
    assert b"https://files.example.com/1001" in mail.content
    assert b"large-1.pdf" not in mail.content


def large_on(stage: Stage) -> Table:
    stage.files_of_reports.files |= FILES
    return large(stage)


def test_the_owner_gets_the_distribution_once(stage: Stage) -> None:
    send(stage, owner="me@example.com")
    report = stage.dispatcher.reports.get("november")
    assert stage.dispatcher.distribution.document(report, 0.0) is not None
    stage.dispatcher.deliver(Lane.BULK)
    assert stage.ledger.reports.finish(report)
    document = stage.dispatcher.distribution.document(stage.dispatcher.reports.get("november"), 0.0)
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


def test_a_file_is_rendered_once_however_often_its_mail_is_sent(stage: Stage) -> None:
    calls = list[str]()

    def statement(values: Mapping[str, Any]) -> bytes:
        calls.append(values["customer"])
        return f"%PDF-1.4 {values['customer']} {len(calls)}".encode() if values["customer"] != "1002" else b"<html>"

    stage.renderers._functions = {"statement": statement}
    stage.dispatcher.reports._renderers = stage.renderers.names
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


def test_an_occurrence_whose_check_fails_says_what_was_found(stage: Stage) -> None:
    del stage.files_of_reports.files["out/1002.pdf"]
    assert "its check has failed: missing: row 3 (li@example.com): 1002.pdf: is not in out" in scheduled(stage)
    assert stage.dispatcher.reports.listed() == []


def test_a_schedule_names_programs_by_their_names_only(stage: Stage) -> None:
    for more, said in (
        ({"manifest": None}, "report.manifest: give either a manifest or a manifest_command"),
        ({"manifest": None, "manifest_command": "rm -rf /"}, r"\[reports\] manifests has no 'rm -rf /'"),
        ({"manifest": 7}, "report.manifest: must be a text"),
        ({"files": "x"}, "report.files: must be a list of texts"),
    ):
        with pytest.raises(SubmissionError, match=said):
            scheduled(stage, **more)
