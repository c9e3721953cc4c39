"""Templates are read from folders: by name, never beyond them, and again when they have changed."""

import os
import re
from pathlib import Path

import pytest

from dispatcher.adapters.folder import TemplateFolder, shipped
from dispatcher.errors import ConfigurationError, TemplateError, UnknownTemplate
from dispatcher.render import Template


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


OWN = {"welcome/subject.txt": "own", "welcome/body.txt": "own", "welcome/parts/row.html": "row"}


def test_the_shipped_templates_are_found_and_complete() -> None:
    names = [
        *("birthday", "campaign_report", "newsletter", "order_confirmation", "password_reset", "report_ready"),
        *("report_sent", "review_request", "shipment_notice", "welcome", "welcome_first_steps", "welcome_invitation"),
    ]
    folder = TemplateFolder(shipped())
    assert folder.names() == names
    assert all(Template(folder.load(name)).description for name in names)


def test_a_folder_of_ones_own_goes_over_the_shipped_one_by_name(tmp_path: Path) -> None:
    write(tmp_path, {**OWN, "invoice/subject.txt": "x", "invoice/body.txt": "x"})
    folder = TemplateFolder(tmp_path, shipped())
    assert folder.load("welcome").files["subject.txt"] == "own"
    assert "body.html" not in folder.load("welcome").files
    assert "body.html" in folder.load("birthday").files
    assert "invoice" in folder.names()


def test_a_layout_of_ones_own_dresses_the_shipped_templates(tmp_path: Path) -> None:
    write(tmp_path, {"_layout/base.html": "<html><body>OURS {% block content %}{% endblock %}</body></html>"})
    made = Template(TemplateFolder(tmp_path, shipped()).load("birthday"))
    html = made.render("en", made.samples).html
    assert html is not None
    assert html.startswith("<html><body>OURS")


def test_a_version_holds_the_layouts_that_it_may_extend_and_no_other_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            **OWN,
            "_layout/base.html": "b",
            "welcome/logo.png": "x",
            "welcome/.secret.txt": "x",
            "other/subject.txt": "x",
        },
    )
    assert set(TemplateFolder(tmp_path).load("welcome").files) == {
        "subject.txt", "body.txt", "parts/row.html", "_layout/base.html",
    }  # fmt: skip


def test_a_template_is_read_once_and_again_when_any_of_its_files_changes(tmp_path: Path) -> None:
    write(tmp_path, {**OWN, "_layout/base.html": "b"})
    folder = TemplateFolder(tmp_path)
    first = folder.load("welcome")
    assert folder.load("welcome") is first
    for name in ("welcome/subject.txt", "_layout/base.html", "welcome/parts/row.html"):
        path = tmp_path / name
        before = folder.load("welcome")
        path.write_text("new", encoding="utf-8")
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        assert folder.load("welcome").digest != before.digest
    before = folder.load("welcome")
    (tmp_path / "welcome/body.zh.txt").write_text("x")
    assert folder.load("welcome").digest != before.digest
    (tmp_path / "welcome/body.zh.txt").unlink()
    assert folder.load("welcome").digest == before.digest
    (tmp_path / "_more").mkdir()
    assert folder.load("welcome").digest == before.digest
    (tmp_path / "_more/x.html").write_text("x")
    assert folder.load("welcome").digest != before.digest
    (tmp_path / "_more/x.html").unlink()
    assert folder.load("welcome").digest == before.digest


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../welcome",
        "welcome/../welcome",
        "/etc",
        "_layout",
        ".git",
        "welcome/",
        "a\\b",
        "a\0b",
        "x" * 300,
    ],
)
def test_a_name_leads_nowhere_but_to_a_template(tmp_path: Path, name: str) -> None:
    write(tmp_path, {**OWN, "_layout/base.html": "b", ".git/subject.txt": "x"})
    with pytest.raises(UnknownTemplate):
        TemplateFolder(tmp_path / "welcome", tmp_path).load(name)


def test_a_near_miss_is_pointed_out() -> None:
    folder = TemplateFolder(shipped())
    with pytest.raises(UnknownTemplate) as caught:
        folder.load("order_confirmaton")
    assert str(caught.value) == "template: no template is called 'order_confirmaton'; did you mean order_confirmation?"
    with pytest.raises(UnknownTemplate, match="there are birthday, campaign_report, newsletter, order_confirmation"):
        folder.load("zzz")


def test_a_file_that_is_no_text_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, OWN)
    (tmp_path / "welcome/body.html").write_bytes(b"fine\nnot \xff\n")
    with pytest.raises(TemplateError, match=r"^welcome/body\.html:2: is not UTF-8$"):
        TemplateFolder(tmp_path).load("welcome")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {**OWN, "welcome/body.html": "x" * (1 << 20) + "x"})
    with pytest.raises(TemplateError, match=r"^welcome/body\.html: is larger than 1 MB$"):
        TemplateFolder(tmp_path).load("welcome")


def test_windows_line_ends_and_a_byte_order_mark_make_no_other_version(tmp_path: Path) -> None:
    write(tmp_path / "a", {"welcome/subject.txt": "one\ntwo\n"})
    write(tmp_path / "b", {"welcome/subject.txt": "x"})
    (tmp_path / "b/welcome/subject.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    digests = {TemplateFolder(tmp_path / name).load("welcome").digest for name in "ab"}
    assert len(digests) == 1


def test_a_folder_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^templates_dir: .*gone is no folder"):
        TemplateFolder(tmp_path / "gone")


def test_the_first_template_of_the_manual_works(tmp_path: Path) -> None:
    manual = (shipped().parent / "docs" / "templates.md").read_text(encoding="utf-8")
    files = re.findall(r"`(invoice/[\w.]+)`\n\n```\w+\n(.*?)```", manual, re.DOTALL)
    made = Template(TemplateFolder(write(tmp_path, dict(files)), shipped()).load("invoice"))
    made.check(made.samples)
    rendered = made.render("zh-CN", made.sample("zh"))
    assert rendered.subject == "Invoice 2026-0042"
    assert "Hi 李雷, your invoice of €119.00 is ready." in rendered.text
