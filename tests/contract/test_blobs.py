"""What every store of attachments promises: in memory, in a folder."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.blobs import FileBlobs
from dispatcher.errors import LedgerUnavailable, NotFound
from dispatcher.interfaces import Blobs
from dispatcher.memory import MemoryBlobs


@pytest.fixture(params=["memory", "folder"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return MemoryBlobs() if request.param == "memory" else FileBlobs(tmp_path / "blobs")


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 12289], ids=["empty", "short", "3 MB"])
def test_what_was_put_comes_back(blobs: Blobs, content: bytes) -> None:
    blob = blobs.put(io.BytesIO(content))
    assert (blob.id, blob.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert blobs.get(blob.id) == content
    assert blobs.size(blob.id) == len(content)


@pytest.mark.parametrize(
    "name", ["0" * 64, "", "0" * 63, "A" * 64, "../" * 21 + "x", "/etc/passwd", "0" * 64 + "\n", "0" * 62 + "/.", "\0"]
)
def test_an_id_that_is_nobodys_is_not_found(blobs: Blobs, name: str) -> None:
    with pytest.raises(NotFound):
        blobs.get(name)
    with pytest.raises(NotFound):
        blobs.size(name)


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_the_same_bytes_are_stored_once_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    first, second = blobs.put(io.BytesIO(b"same")), blobs.put(io.BytesIO(b"same"))
    assert first == second
    assert files(tmp_path) == {Path(first.id[:2]) / first.id}


class Breaking(io.BytesIO):
    """A stream that ends with an error, as an upload may."""

    def read(self, *_: Any) -> bytes:
        if self.tell():
            raise ConnectionResetError("peer is gone")
        return super().read(10)


def test_a_stream_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="peer is gone"):
        FileBlobs(tmp_path).put(Breaking(b"x" * 100))
    assert files(tmp_path) == set()


def test_a_folder_that_cannot_be_used_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file stands where the folder should be")
    with pytest.raises(LedgerUnavailable, match=r"attachments in .*blobs"):
        FileBlobs(tmp_path / "blobs").put(io.BytesIO(b"x"))


def test_a_full_disk_is_temporary_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(LedgerUnavailable, match="attachments in") as caught:
            FileBlobs(tmp_path).put(io.BytesIO(b"x" * (3 << 20)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.temporary
    assert files(tmp_path) == set()
