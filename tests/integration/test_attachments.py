"""Attachments: what may be read, what is refused, and that the same bytes are stored once."""

import base64
import io
import os
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.attachments import Attachments
from dispatcher.adapters.blobs import FileBlobs
from dispatcher.errors import SubmissionError

AT = "attachments[0]"


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "发票.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


def refusal(attachments: Attachments, **given: Any) -> SubmissionError:
    with pytest.raises(SubmissionError) as caught:
        attachments(given, AT)
    return caught.value


def test_a_path_inside_its_folder_is_stored_with_its_name_and_type(blobs: FileBlobs, allowed: Path) -> None:
    stored = Attachments(blobs, [allowed], 100)({"path": "发票.pdf"}, AT)
    assert (stored["filename"], stored["content_type"], stored["size"]) == ("发票.pdf", "application/pdf", 8)
    assert blobs.get(stored["blob"]) == b"%PDF-1.4"


@pytest.mark.parametrize("path", ["../secret.txt", "link.txt", "gone.txt", ".", "a\0b", "x" * 300])
def test_a_path_that_leads_out_is_no_file(blobs: FileBlobs, allowed: Path, path: str) -> None:
    error = refusal(Attachments(blobs, [allowed], 100), path=path)
    assert (error.field, error.reason) == (f"{AT}.path", f"no file {path!r} inside DISPATCHER_ATTACHMENTS_DIRS")


def test_an_absolute_path_outside_is_no_file_either(blobs: FileBlobs, allowed: Path) -> None:
    error = refusal(Attachments(blobs, [allowed], 100), path=str(allowed.parent / "secret.txt"))
    assert "no file" in error.reason


def test_a_door_without_folders_reads_no_path(blobs: FileBlobs, allowed: Path) -> None:
    error = refusal(Attachments(blobs, [], 100), path=str(allowed / "发票.pdf"))
    assert "a path is not read here" in error.reason


def test_the_command_line_reads_its_own_users_files(blobs: FileBlobs, allowed: Path) -> None:
    assert Attachments(blobs, None, 100)({"path": str(allowed / "发票.pdf")}, AT)["size"] == 8


def test_a_stored_one_that_is_used_again_is_as_good_as_new(blobs: FileBlobs, tmp_path: Path) -> None:
    blob = blobs.put(io.BytesIO(b"x")).id
    os.utime(tmp_path / "blobs" / blob[:2] / blob, (0, 0))
    assert blobs.old(3600) == [blob]
    Attachments(blobs, (), 100)({"blob": blob, "filename": "a.pdf"}, "attachments[0]")
    assert blobs.old(3600) == []  # so that nobody removes it before the submission is in the ledger


def test_the_same_bytes_are_stored_once(blobs: FileBlobs, allowed: Path) -> None:
    attachments = Attachments(blobs, [allowed], 100)
    first = attachments({"path": "发票.pdf"}, AT)
    second = attachments({"content": base64.b64encode(b"%PDF-1.4").decode(), "filename": "b.pdf"}, AT)
    assert first["blob"] == second["blob"]
    assert attachments({"blob": first["blob"], "filename": "c.pdf"}, AT)["size"] == 8


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"content": "???", "filename": "a"}, "content", "not base64"),
        ({"content": "aGk="}, "filename", "required"),
        ({"blob": "0" * 64, "filename": "a"}, "blob", "no stored attachment"),
        ({"blob": "../../etc/passwd", "filename": "a"}, "blob", "no stored attachment"),
        ({"content": base64.b64encode(b"x" * 101).decode(), "filename": "a"}, "content", "over the limit of 100 bytes"),
        ({"content": "aGk=", "filename": "a", "content_type": "nonsense"}, "content_type", ""),
        ({"content": "aGk=", "filename": "a\r\nX: y"}, "filename", ""),
        ({"content": "aGk=", "content_id": "a b"}, "content_id", ""),
    ],
)
def test_a_fault_is_named_by_its_field(blobs: FileBlobs, given: dict[str, Any], field: str, reason: str) -> None:
    error = refusal(Attachments(blobs, [], 100), **given)
    assert error.field == f"{AT}.{field}"
    assert reason in error.reason


def test_a_file_over_the_limit_is_refused_before_it_is_read(blobs: FileBlobs, allowed: Path) -> None:
    error = refusal(Attachments(blobs, [allowed], 7), path="发票.pdf")
    assert "发票.pdf is over the limit of 7 bytes" in error.reason
