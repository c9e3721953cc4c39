"""What the check of a report finds before anything goes."""

import hashlib
import io
import random
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from typing import Any

import pytest

from dispatcher.delivery import Lane
from dispatcher.errors import SubmissionError
from tests.reports import FILES, PEOPLE, Table, check, found, send, staged
from tests.stage import Stage


@pytest.fixture
def stage() -> Stage:
    return staged()


def test_everything_that_is_wrong_is_found_at_once(stage: Stage) -> None:
    files = stage.files_of_reports.files
    files |= {"out/1003.pdf": b"<html>", "out/1004.pdf": b"%PDF" + noise(1) * 58, "out/9999.pdf": b"%PDF-1.4 whose"}
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
        "too large": (
            "row 5 (di@example.com): 40,600,468 bytes of files, 55,558,535 in a mail, which may have 26,214,400",
        ),
        "left over": ("1002.pdf", "1003.pdf", "9999.pdf"),
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
        ({"too_large": "split"}, "too_large: split goes with a template"),
        ({"under": "report", "data": {"report": "x"}}, "data.report: must be an object"),
        ({"owner": "nobody"}, "owner: "),
        ({"subject": "For {{ name }}"}, r"subject: \{\{ name  ?would stand in the mail like this"),
        ({"subject": None}, "subject: required"),
        ({"files": "x.pdf"}, "files: must be a list of texts"),
        ({"folders": "x"}, "folders: unknown field"),
    ],
)
def test_what_is_wrong_for_all_of_them_is_one_error(stage: Stage, more: dict[str, Any], said: str) -> None:
    with pytest.raises(SubmissionError, match=said):
        check(stage, **more)


def templated(stage: Stage, **more: Any) -> dict[str, Any]:
    stage.files = {
        "meta.toml": 'description = "x"\n[schema]\ntype = "object"\n[sample]\nname = "Ada"\n',
        "subject.txt": "Statement{% if report.part is defined %} {{ report.part }}{% endif %}",
        "body.txt": "{{ report.title }}{% if report.url is defined %} {{ report.url }}{% endif %}",
    }
    given = {"template": "statement", "subject": None, "text": None, "data": {"report": {"title": "Yours"}}}
    return {**given, **more}


@pytest.mark.parametrize(
    ("rule", "shown"), [({"too_large": "split"}, "part"), ({"too_large": "link", "link": "https://x.example/a"}, "url")]
)
def test_a_template_that_does_not_show_what_becomes_of_large_files_is_refused(
    stage: Stage, rule: dict[str, str], shown: str
) -> None:
    given = templated(stage, **rule)
    stage.files |= {"subject.txt": "Statement", "body.txt": "{{ report.title }}"}
    with pytest.raises(SubmissionError, match=rf"template: statement does not show report\.{shown}"):
        check(stage, **given)


@pytest.mark.parametrize("field", ["subject", "text", "html"])
def test_a_columns_name_in_braces_is_not_mailed_as_it_stands(stage: Stage, field: str) -> None:
    with pytest.raises(SubmissionError, match=rf"{field}: \{{customer\}} would stand in the mail like this"):
        check(stage, **{field: "Dear {customer}, {no} column"})
    assert check(stage, **{field: "Dear {no} column"}).ok


def noise(n: int) -> bytes:
    """A document of 700,000 bytes that no archive makes smaller."""
    return b"%PDF-1.4" + random.Random(n).randbytes(700_000)


def large(make: Callable[[int], bytes] = noise) -> tuple[Stage, Table]:
    """Two files that do not fit into a mail together."""
    stage = staged(max_bytes=1 << 20)
    stage.files_of_reports.files = {f"out/large-{n}.pdf": make(n) for n in (1, 2)}
    return stage, Table(("ada@example.com", "1001", "large-1.pdf;large-2.pdf", "en"))


def test_files_that_do_not_fit_are_refused_by_themselves() -> None:
    stage, rows = large()
    assert found(stage, rows, files=[]) == {
        "too large": (
            "row 2 (ada@example.com): 1,400,016 bytes of files, 1,915,811 in a mail, which may have 1,048,576",
        )
    }


def test_files_that_do_not_fit_go_in_several_mails() -> None:
    stage, rows = large()
    split = templated(stage, files=[], too_large="split")
    assert send(stage, rows, **split).total == 2
    stage.dispatcher.deliver(Lane.BULK)
    heads = [message.content.partition(b"\r\n\r\n")[0] for message in stage.transport.sent]
    assert all(f"Subject: Statement {n}/2".encode() in head for n, head in enumerate(heads, 1))


def test_files_that_do_not_fit_are_linked_however_large_they_are() -> None:
    stage, rows = large(lambda n: noise(n) * 3)
    linked = templated(stage, files=[], too_large="link", link="https://files.example.com/{customer}")
    linked["data"]["report"]["attached"] = True
    stage.files["body.txt"] += "{% if report.attached %}attached{% endif %}"
    assert send(stage, rows, **linked).total == 1
    stage.dispatcher.deliver(Lane.BULK)
    (mail,) = stage.transport.sent
    assert b"https://files.example.com/1001" in mail.content
    assert b"large-1.pdf" not in mail.content
    assert b"attached" not in mail.content
    (row,) = stage.dispatcher.reports.rows(stage.dispatcher.reports.get("november"))
    assert row.files == tuple(  # the proof says of which files, as they were then
        ("https://files.example.com/1001", hashlib.sha256(each).hexdigest(), len(each))
        for each in stage.files_of_reports.files.values()
    )


@pytest.mark.parametrize("more", [{"attach": ["terms.pdf", "terms.pdf"]}, {"files": ["{customer}.pdf"] * 2}])
def test_a_file_that_is_asked_for_twice_is_there_once(stage: Stage, more: dict[str, Any]) -> None:
    if "attach" in more:
        with pytest.raises(SubmissionError, match=r"attach: terms\.pdf is there twice"):
            check(stage, **more)
    else:
        assert [len(mail.files) for mail in check(stage, **more).mails] == [1, 1]


def test_files_that_fit_into_an_archive_go_as_one() -> None:
    stage, rows = large(lambda n: b"%PDF-1.4" + bytes([n]) * 700_000)
    report = send(stage, rows, files=[], too_large="link", link="https://example.com/{customer}", **templated(stage))
    stage.dispatcher.deliver(Lane.BULK)
    (mail,) = stage.transport.sent
    (part,) = [part for part in message_from_bytes(mail.content).walk() if part.get_filename()]
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert {f"out/{name}": archive.read(name) for name in archive.namelist()} == stage.files_of_reports.files
    (row,) = stage.dispatcher.reports.rows(report)
    assert row.files == (("large-1.zip", hashlib.sha256(content).hexdigest(), len(content)),)


def test_a_file_for_all_that_fits_into_no_mail_is_one_error() -> None:
    stage = staged(max_bytes=1 << 20)
    stage.files_of_reports.files["terms.pdf"] = noise(1) * 2
    with pytest.raises(
        SubmissionError,
        match=r"attach: 1,400,016 bytes of files, 1,915,811 in a mail, which may have 1,048,576",
    ):
        check(stage, attach=["terms.pdf"])


def test_of_several_files_one_that_is_missing_leaves_none_over(stage: Stage) -> None:
    stage.files_of_reports.files["out/1001-b.pdf"] = b"%PDF-1.4 b"
    made = check(stage, files=["{customer}.pdf", "{customer}-b.pdf"], allow_missing=True)
    assert [(each.what, each.where, each.ok) for each in made.findings] == [
        ("missing", ("row 3 (li@example.com): 1002-b.pdf: is not in out",), True)
    ]
    assert (made.ok, made.missing) == (True, ("li@example.com",))


def test_who_stands_there_twice_is_found_without_files_too(stage: Stage) -> None:
    rows = Table(("ada@example.com",), ("li@example.com",), ("ada@example.com",), header=("email",))
    said = found(stage, rows, files=[], folder=None, attach=["terms.pdf"])
    assert said == {"doubled": ("row 4 (ada@example.com): the mail is that of row 2 (ada@example.com) too",)}


def test_what_all_get_is_nobodys_own(stage: Stage) -> None:
    stage.files_of_reports.files["out/1001.pdf"] = FILES["terms.pdf"]
    said = found(stage, attach=["terms.pdf"])
    assert said == {"doubled": ("row 2 (ada@example.com): 1001.pdf is that of everybody too",)}


def test_a_value_that_is_missing_in_a_name_is_that_rows_fault(stage: Stage) -> None:
    rows = Table(PEOPLE._rows[0], ("li@example.com", None, "1002.pdf", "en"))
    stage.renderers._functions = {"pdf": lambda _: b"%PDF-1.4"}
    made = {"files": [], "renderer": "pdf", "filename": "{customer}.pdf"}
    assert found(stage, rows, **made)["name"] == ("row 3 (li@example.com): {customer}.pdf: there is no 'customer'",)


@pytest.mark.parametrize("column", ["email", "locale", "file", "amount"])
def test_a_renderer_that_asks_for_what_no_row_has_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    stage.renderers._functions = {"pdf": lambda _: b"%PDF-1.4"}
    monkeypatch.setattr(type(stage.renderers), "wanted", lambda *_: {column})
    with pytest.raises(SubmissionError, match=f"pdf: .* has no column '{column}' whose values can stand there"):
        check(stage, files=[], renderer="pdf", filename="{customer}.pdf")


def test_a_value_that_a_renderer_asks_for_and_a_row_has_not_is_that_rows_fault(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.renderers._functions = {"pdf": lambda _: b"%PDF-1.4"}
    monkeypatch.setattr(type(stage.renderers), "wanted", lambda *_: {"customer"})
    rows = Table(("ada@example.com", "1001", None, "en"), ("li@example.com", None, None, "en"))
    said = found(stage, rows, files=[], folder=None, renderer="pdf", filename="a.pdf")
    assert said["name"] == ("row 3 (li@example.com): pdf: there is no 'customer'",)


@pytest.mark.parametrize("filename", ["../{customer}", "a/b.pdf", "..", "a\\b.pdf"])
def test_no_file_is_made_in_another_folder(stage: Stage, filename: str) -> None:
    with pytest.raises(SubmissionError, match=r"filename: .* cannot be in a file's name"):
        check(stage, renderer="pdf", filename=filename)


def test_a_name_that_is_too_long_for_a_file_is_that_rows_fault(stage: Stage) -> None:
    stage.renderers._functions = {"pdf": lambda _: b"%PDF-1.4"}
    rows = Table(("ada@example.com", "李" * 90, None, "en"))
    said = found(stage, rows, files=[], folder=None, renderer="pdf", filename="{customer}.pdf")
    assert "is longer than a file's name may be" in said["name"][0]


def test_a_name_that_values_make_a_way_of_is_that_rows_fault(stage: Stage) -> None:
    stage.renderers._functions = {"pdf": lambda _: b"%PDF-1.4"}
    rows = Table(("ada@example.com", ".", None, "en"), ("li@example.com", "1002\r\nX: y", None, "en"))
    said = found(stage, rows, files=[], folder=None, renderer="pdf", filename="{customer}")
    assert said["name"] == ("row 2 (ada@example.com): {customer}: '.' cannot be in a file's name",)
    assert said["data"][0].startswith("row 3 (li@example.com): render.filename: ")


def test_files_that_the_manifest_names_lie_in_a_folder(stage: Stage) -> None:
    rows = Table(("ada@example.com", "1001", "/home/anna/.ssh/id", "en"))
    with pytest.raises(SubmissionError, match=r"folder: row 2 \(ada@example.com\) names '/home/anna/.ssh/id'"):
        check(stage, rows, files=[], folder=None)


def test_a_column_that_is_no_place_for_an_address_is_that_rows_fault() -> None:
    stage, _ = large()
    rows = Table(("ada@example.com", "large-1.pdf;large-2.pdf", "yes"), header=("email", "file", "report"))
    linked = templated(stage, files=[], too_large="link", link="https://example.com/x")
    assert found(stage, rows, **linked) == {
        "data": ("row 2 (ada@example.com): data.report: is no object; its url or part has no place there",)
    }
