"""What every store of attachments promises: in memory, in a folder, in a ledger, on the way from one to the other."""

import fcntl
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dispatcher import bootstrap
from dispatcher.adapters.blobs import FileBlobs, MovingBlobs
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.errors import LedgerUnavailable, NotFound
from dispatcher.interfaces import Blobs
from dispatcher.mail import Blob
from dispatcher.memory import MemoryBlobs
from dispatcher.sources import load
from tests.ledgers import InSql, StandingClock

HOUR = 3600.0


@dataclass
class Stored:
    """A store with a hand on its clock."""

    blobs: Blobs
    age: Callable[[float], None]


def in_memory() -> Stored:
    clock = StandingClock()

    def age(seconds: float) -> None:
        clock.now += seconds

    return Stored(MemoryBlobs(clock), age)


def in_folder(folder: Path) -> Stored:
    def age(seconds: float) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                os.utime(path, (0, path.stat().st_mtime - seconds))

    return Stored(FileBlobs(folder), age)


@pytest.fixture(params=["memory", "folder", "moving", "sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Stored:
    if request.param == "memory":
        return in_memory()
    if request.param == "folder":
        return in_folder(tmp_path / "blobs")
    if request.param == "moving":
        new = in_memory()
        return Stored(MovingBlobs(new.blobs, FileBlobs(tmp_path / "blobs")), new.age)
    kept: InSql = request.getfixturevalue(f"{request.param}_ledger")
    return Stored(kept.ledger.blobs(), kept.age)


@pytest.fixture
def blobs(stored: Stored) -> Blobs:
    return stored.blobs


def put(blobs: Blobs, content: bytes) -> str:
    return blobs.put(io.BytesIO(content)).id


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 12289], ids=["empty", "short", "3 MB"])
def test_what_was_put_comes_back(blobs: Blobs, content: bytes) -> None:
    blob = blobs.put(io.BytesIO(content))
    assert (blob.id, blob.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert blobs.get(blob.id) == content
    assert blobs.touch(blob.id) == blob
    assert blobs.put(io.BytesIO(content)) == blob


@pytest.mark.parametrize(
    "name", ["0" * 64, "", "0" * 63, "A" * 64, "../" * 21 + "x", "/etc/passwd", "0" * 64 + "\n", "0" * 62 + "/.", "\0"]
)
def test_an_id_that_is_nobodys_is_not_found(blobs: Blobs, name: str) -> None:
    with pytest.raises(NotFound):
        blobs.get(name)
    with pytest.raises(NotFound):
        blobs.touch(name)


def test_what_was_put_long_ago_is_listed_in_pages_in_the_order_of_the_ids(stored: Stored) -> None:
    assert stored.blobs.old(0) == []
    old = sorted(put(stored.blobs, f"old {n}".encode()) for n in range(30))
    stored.age(2 * HOUR)
    put(stored.blobs, b"new")
    assert stored.blobs.old(3 * HOUR) == []
    assert stored.blobs.old(HOUR) == old
    assert stored.blobs.old(HOUR, limit=20) == old[:20]
    assert stored.blobs.old(HOUR, after=old[19]) == old[20:]
    assert stored.blobs.old(HOUR, after=old[-1]) == []


@pytest.mark.parametrize("again", ["put", "touch"])
def test_what_is_put_again_is_new_again(stored: Stored, again: str) -> None:
    blob = put(stored.blobs, b"x")
    stored.age(2 * HOUR)
    assert stored.blobs.old(HOUR) == [blob]
    if again == "put":
        put(stored.blobs, b"x")
    else:
        stored.blobs.touch(blob)
    assert stored.blobs.old(HOUR) == []
    assert not stored.blobs.remove(blob, HOUR)
    assert stored.blobs.get(blob) == b"x"


def test_what_is_removed_is_gone_and_can_be_put_again(stored: Stored) -> None:
    blob, other = put(stored.blobs, b"x"), put(stored.blobs, b"y")
    assert not stored.blobs.remove(blob, HOUR)
    stored.age(2 * HOUR)
    assert stored.blobs.remove(blob, HOUR)
    assert stored.blobs.remove(blob, HOUR)  # it is gone, whoever removed it
    with pytest.raises(NotFound):
        stored.blobs.get(blob)
    assert stored.blobs.old(HOUR) == [other]
    assert put(stored.blobs, b"x") == blob
    assert stored.blobs.get(blob) == b"x"


def test_two_who_put_the_same_at_once_store_it_once(blobs: Blobs) -> None:
    content = os.urandom(200_000)
    start = threading.Barrier(4)

    def act(_: int) -> str:
        start.wait(10)
        return put(blobs, content)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(act, range(4))) == {hashlib.sha256(content).hexdigest()}
    assert len(blobs.old(-HOUR)) == 1


@pytest.fixture(params=["folder", "sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Stored, Blobs]]:
    """A store as two processes see it."""
    if request.param == "folder":
        yield in_folder(tmp_path / "blobs"), FileBlobs(tmp_path / "blobs")
        return
    kept: InSql = request.getfixturevalue(f"{request.param}_ledger")
    other = SqlLedger(kept.url)
    yield Stored(kept.ledger.blobs(), kept.age), other.blobs()
    other.close()


def test_what_was_just_put_is_never_what_is_removed(shared: tuple[Stored, Blobs]) -> None:
    """One puts an old attachment again and reads it, the other removes it all the time, unless it is new."""
    stored, other = shared
    blob = put(stored.blobs, b"x" * 1000)
    done = threading.Event()
    removed = []

    def remove() -> None:
        while not done.is_set():
            if other.old(HOUR):
                removed.append(other.remove(blob, HOUR))

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for n in range(60):
            stored.age(2 * HOUR)
            if n % 2:
                put(stored.blobs, b"x" * 1000)
            else:
                try:
                    stored.blobs.touch(blob)
                except NotFound:  # removed before it was touched, and so said
                    put(stored.blobs, b"x" * 1000)
            assert stored.blobs.get(blob) == b"x" * 1000
    finally:
        done.set()
        remover.join(20)


def test_whoever_removes_waits_for_whoever_puts(tmp_path: Path) -> None:
    stored = in_folder(tmp_path)
    blob = put(stored.blobs, b"x")
    stored.age(2 * HOUR)
    lock = os.open(tmp_path / ".lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_SH)  # as somebody does who puts it
    with ThreadPoolExecutor(1) as pool:
        removing = pool.submit(stored.blobs.remove, blob, HOUR)
        with pytest.raises(TimeoutError):
            removing.result(0.2)
        os.utime(tmp_path / blob[:2] / blob)
        os.close(lock)
        assert removing.result(10) is False
    assert stored.blobs.get(blob) == b"x"


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_the_same_bytes_are_stored_once_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    first, second = blobs.put(io.BytesIO(b"same")), blobs.put(io.BytesIO(b"same"))
    assert first == second
    assert files(tmp_path) == {Path(".lock"), Path(first.id[:2]) / first.id}


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


@pytest.mark.parametrize("act", [MovingBlobs.get, MovingBlobs.touch])
def test_what_was_put_before_is_moved_when_it_is_asked_for(
    sqlite_ledger: InSql, tmp_path: Path, act: Callable[[MovingBlobs, str], object]
) -> None:
    store, before = sqlite_ledger.ledger.blobs(), FileBlobs(tmp_path)
    blob = put(before, b"accepted long ago")
    moving = MovingBlobs(store, before)
    with pytest.raises(NotFound):
        store.get(blob)
    assert act(moving, blob) in (b"accepted long ago", Blob(blob, 17))
    assert store.get(blob) == b"accepted long ago"  # as every server finds it from now on
    assert files(tmp_path) >= {Path(blob[:2]) / blob}


def test_what_is_put_while_others_are_moved_is_not_put_where_they_were(tmp_path: Path) -> None:
    blob = put(MovingBlobs(store := MemoryBlobs(), FileBlobs(tmp_path)), b"x")
    assert store.get(blob) == b"x"
    assert files(tmp_path) == set()


def test_a_file_that_is_not_what_its_name_says_is_not_moved(tmp_path: Path) -> None:
    blob = put(FileBlobs(tmp_path), b"whole")
    (tmp_path / blob[:2] / blob).write_bytes(b"who")
    with pytest.raises(NotFound):
        MovingBlobs(MemoryBlobs(), FileBlobs(tmp_path)).get(blob)


@pytest.mark.parametrize("url", ["ledger:", "file:{}/blobs"])
def test_what_1_0_kept_in_the_data_folder_is_found_by_whatever_the_settings_say(
    sqlite_ledger: InSql, tmp_path: Path, url: str
) -> None:
    settings = load({}, data_dir=tmp_path, blobs_url=url.format(tmp_path), **{"from": "shop@example.com"})
    blob = put(FileBlobs(tmp_path / "blobs"), b"x")
    assert bootstrap.blobs(settings, sqlite_ledger.ledger).get(blob) == b"x"


def test_where_1_0_kept_nothing_there_is_nothing_to_move(sqlite_ledger: InSql, tmp_path: Path) -> None:
    settings = load({}, data_dir=tmp_path, blobs_url="ledger:", **{"from": "shop@example.com"})
    assert not isinstance(bootstrap.blobs(settings, sqlite_ledger.ledger), MovingBlobs)
