"""Files of reports on a disk: links, folders that are none, and where nothing may be read."""

import os
import pwd
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dispatcher.adapters.report_files import ReportFolder
from dispatcher.cli.opening import read_text
from dispatcher.cli.report_proof import moved_to
from dispatcher.errors import ConfigurationError, FileFault
from dispatcher.memory import MemoryBlobs


def folder(*allowed: Path) -> ReportFolder:
    return ReportFolder(MemoryBlobs(), allowed)


@pytest.fixture
def closed() -> Iterator[Path]:
    """Two folders, of which the first may be listed, and not entered; not even by root, who is somebody else here."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        for each in ("one/below", "two"):
            (top / each).mkdir(parents=True)
            (top / each / "t.pdf").write_bytes(b"%PDF-1.4 one")
        (top / "one").chmod(0o755)
        (top / "one" / "below").chmod(0o744)
        before = os.geteuid()
        if before == 0:
            os.seteuid(pwd.getpwnam("nobody").pw_uid)
        else:
            (top / "one" / "below").chmod(0o400)
        try:
            yield top
        finally:
            os.seteuid(before)
            (top / "one" / "below").chmod(0o755)


def test_a_folder_that_may_not_be_entered_is_named(closed: Path) -> None:
    with pytest.raises(FileFault, match=r"one: .*below/t\.pdf cannot be read: Permission denied") as caught:
        folder(closed).left_over("one", ())
    assert caught.value.what == "unreadable"
    with pytest.raises(FileFault, match=r"t\.pdf: cannot be read"):
        folder(closed / "one" / "below").look(None, "t.pdf")


def test_what_lies_in_another_allowed_folder_is_found_nevertheless(closed: Path) -> None:
    found = folder(closed / "one" / "below", closed / "two").look(None, "t.pdf")
    assert found.path == str(closed / "two" / "t.pdf")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "v2-final").write_bytes(b"%PDF-1.4 one")
    return tmp_path / "out"


def test_a_link_goes_under_its_own_name_and_is_not_left_over(out: Path) -> None:
    (out / "1001.pdf").symlink_to(out / "v2-final")
    files = folder(out.parent)
    found = files.look("out", "1001.pdf")
    assert found.file.name == "1001.pdf"
    assert files.left_over("out", {found.path}) == []


def test_a_link_to_another_folder_is_not_followed(out: Path) -> None:
    (out.parent / "secret.pdf").write_bytes(b"%PDF-1.4 secret")
    (out / "1001.pdf").symlink_to(out.parent / "secret.pdf")
    with pytest.raises(FileFault, match=r"1001.pdf: is not in out"):
        folder(out.parent).look("out", "1001.pdf")
    (out / "1002.pdf").symlink_to(out / "1002.pdf")
    with pytest.raises(FileFault, match=r"1002.pdf: is not in out"):
        folder(out.parent).look("out", "1002.pdf")


def test_what_is_no_file_is_unreadable(out: Path) -> None:
    (out / "folder.pdf").mkdir()
    os.mkfifo(out / "pipe.pdf")
    for name in ("folder.pdf", "pipe.pdf"):
        with pytest.raises(FileFault, match="is no file") as caught:
            folder(out.parent).look("out", name)
        assert caught.value.what == "unreadable"


@pytest.mark.parametrize(("allowed", "said"), [((), "set DISPATCHER_ATTACHMENTS_DIRS"), (("other",), "is not there")])
def test_only_what_is_allowed_is_read(out: Path, allowed: Sequence[str], said: str) -> None:
    with pytest.raises(FileFault, match=said):
        folder(*(out.parent / name for name in allowed)).look(None, str(out / "v2-final"))


def test_a_folder_that_is_none_is_named(out: Path) -> None:
    with pytest.raises(FileFault, match="v2-final: is no folder"):
        folder(out.parent).left_over("out/v2-final", ())


def test_where_there_is_no_room_for_an_archive_there_is_none(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / "long.pdf").write_bytes(b"%PDF-1.4" * 1000)
    files = folder(out.parent)
    found = files.look("out", "long.pdf")
    monkeypatch.setattr("tempfile.tempdir", str(out / "gone"))
    assert files.pack([found], "long.zip") is None


def test_whoever_moved_is_read_with_the_line_of_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "fix.csv"
    path.write_text('old,new\na@example.com,"b@example.com"\n', encoding="utf-8")
    assert moved_to(path) == {"a@example.com": "b@example.com"}
    for content, said in (
        ("a@example.com\n", ":1: write old"),
        (f"a@example.com,{'x' * 200_000}\n", ":1: field larger"),
        ("a@example.com,b@example.com\nc@example.com,nobody\n", ":2: new address: 'nobody' is not an email address"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=said):
            moved_to(path)


def test_a_document_is_read_as_it_stands_to_its_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(str(path), "FILE", exact=True) == "\ufeff{}"
    assert read_text(str(path), "FILE") == "{}"
