"""What every source of a report's files promises: what is looked at is what is stored."""

import hashlib
import io
import random
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.report_files import ReportFolder
from dispatcher.errors import FileFault
from dispatcher.interfaces import FileSource
from dispatcher.memory import MemoryBlobs, MemoryFiles

FILES = {
    "out/one.pdf": b"%PDF-1.4 one" * 9,
    "out/deep/one.pdf": b"%PDF-1.4 deep" * 9,
    "out/two.txt": b"two",
    "terms.pdf": b"x",
}


class Files:
    """A source, what it stores, and a way to change a file."""

    def __init__(self, source: FileSource, blobs: MemoryBlobs, write: Callable[[str, bytes], object]) -> None:
        self.source, self.blobs, self.write = source, blobs, write


def _in_memory(_: Path) -> Files:
    blobs = MemoryBlobs()
    source = MemoryFiles(blobs)
    return Files(source, blobs, source.files.__setitem__)


def _on_disk(folder: Path) -> Files:
    def write(name: str, content: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    blobs = MemoryBlobs()
    return Files(ReportFolder(blobs, (folder,)), blobs, write)


@pytest.fixture(params=[_in_memory, _on_disk], ids=["memory", "disk"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    made: Files = request.param(tmp_path)
    for name, content in FILES.items():
        made.write(name, content)
    return made


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_is_looked_at_is_what_is_stored(files: Files) -> None:
    found = files.source.look("out", "one.pdf")
    assert found.file == ("one.pdf", digest(FILES["out/one.pdf"]), 108)
    files.source.store(found)
    assert files.blobs.get(found.file.sha256) == FILES["out/one.pdf"]
    files.write("out/one.pdf", b"%PDF-1.4 another")
    with pytest.raises(FileFault, match="was changed after it was checked"):
        files.source.store(found)


@pytest.mark.parametrize(
    ("folder", "name", "what", "said"),
    [
        ("out", "nobody.pdf", "missing", "nobody.pdf: is not in out"),
        (None, "nobody.pdf", "missing", "nobody.pdf: is not there"),
        ("out", "../terms.pdf", "missing", "is not in out"),
        ("out", "a\0b", "missing", "is not in out"),
        (None, "terms.pdf", "wrong type", "terms.pdf: is no PDF"),
    ],
)
def test_a_fault_is_named(files: Files, folder: str | None, name: str, what: str, said: str) -> None:
    with pytest.raises(FileFault, match=said) as caught:
        files.source.look(folder, name)
    assert caught.value.what == what


def test_what_nobody_uses_is_left_over(files: Files) -> None:
    used = {files.source.look("out", name).path for name in ("one.pdf", "two.txt")}
    assert files.source.left_over("out", used) == ["deep/one.pdf"]


def test_an_archive_is_the_same_whenever_it_is_made(files: Files) -> None:
    some = [files.source.look("out", name) for name in ("one.pdf", "deep/one.pdf")]
    packed = files.source.pack(some, "all.zip")
    assert packed is not None
    assert packed == files.source.pack(some, "all.zip")
    files.source.store(packed)
    content = files.blobs.get(packed.file.sha256)
    assert len(content) == packed.file.size
    assert _read(content) == {"one.pdf": FILES["out/one.pdf"], "one (2).pdf": FILES["out/deep/one.pdf"]}
    files.write("out/deep/one.pdf", b"%PDF-1.4 another")
    with pytest.raises(FileFault, match=r"all.zip: was changed after it was checked"):
        files.source.store(packed)


def test_what_would_be_no_smaller_is_not_packed(files: Files) -> None:
    files.write("out/noise.pdf", b"%PDF-1.4" + random.Random(1).randbytes(1000))
    assert files.source.pack([files.source.look("out", "noise.pdf")], "noise.zip") is None


def _read(archive: bytes) -> Mapping[str, Any]:
    with zipfile.ZipFile(io.BytesIO(archive)) as found:
        return {name: found.read(name) for name in found.namelist()}
