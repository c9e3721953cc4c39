"""The journal's file: what outlives its process, who may open it, what a torn one says."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.adapters import journals as folder_of
from dispatcher.adapters import mounts
from dispatcher.adapters.journal import HEADER, FileJournal
from dispatcher.adapters.journals import FileJournals
from dispatcher.errors import ConfigurationError, JournalFull
from dispatcher.journal import DeadJournal
from dispatcher.reply import NoReply, Outcome, Phase, Reply
from tests.contract.test_journal import REFUSED, SENT, lease_of
from tests.processes import kill
from tests.smtpd import message
from tests.waiting import wait_for

_OWNER = """
import sys, time
from pathlib import Path
from dispatcher.adapters.journals import FileJournals
from dispatcher.reply import Outcome, Phase, Reply
from tests.contract.test_journal import lease_of
from tests.smtpd import message
journal = FileJournals(Path(sys.argv[1])).open("build 7")
journal.leasing(float(sys.argv[2]))
journal.leased(lease_of("t1", 1, 2, 3))
journal.begin(message(1), ())
journal.reply(Outcome(1, ((10, Reply(250, "Ok", "2.0.0")),), "main"))
journal.begin(message(2), ())
if sys.argv[3] == "True":
    journal.rest()
print(journal.owner, flush=True)
time.sleep(60)
"""


class Owner:
    """A process with a journal: message 1 is answered, 2 begun, 3 only leased."""

    def __init__(self, folder: Path, seconds: float = 60.0, *, rests: bool = False) -> None:
        command = [sys.executable, "-c", _OWNER, str(folder), str(seconds), str(rests)]
        root = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
        )
        assert self.process.stdout is not None
        self.name = self.process.stdout.readline().strip()

    def end(self) -> None:
        kill(self.process.pid)
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    found = Owner(tmp_path)
    yield found
    found.end()


def dead(journals: FileJournals) -> list[DeadJournal]:
    with journals.dead() as found:
        return list(found)


def test_what_a_killed_process_wrote_is_there(tmp_path: Path, owner: Owner) -> None:
    journals = FileJournals(tmp_path)
    assert journals.living() == {owner.name}
    assert dead(journals) == []
    owner.end()
    assert journals.living() == set()
    assert journals.owners() == {owner.name}
    (found,) = dead(journals)
    assert (found.owner, found.build, found.closed, found.rebooted, found.over) == (
        owner.name,
        "build 7",
        False,
        False,
        False,
    )
    entries = found.entries()
    assert entries["t1", 1].result(10) == Reply(250, "Ok", "2.0.0")
    assert entries["t1", 2].result(20) is None
    assert ("t1", 3) not in entries


def test_a_dead_journal_is_one_takers_alone(tmp_path: Path, owner: Owner) -> None:
    owner.end()
    first, second = FileJournals(tmp_path), FileJournals(tmp_path)
    with first.dead() as found:
        assert [each.owner for each in found] == [owner.name]
        assert dead(second) == []
        first.remove(owner.name)
    assert dead(second) == []
    assert not list(tmp_path.glob("*.journal"))


def test_a_process_that_is_forked_off_does_not_keep_the_lock(tmp_path: Path) -> None:
    read, write = os.pipe()
    parent = os.fork()
    if not parent:
        journal = FileJournals(tmp_path).open("build 7")
        grandchild = os.fork()
        if not grandchild:
            os.close(write)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait(60)
            os._exit(0)
        os.write(write, f"{grandchild} {journal.owner}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(write)
    with os.fdopen(read) as lines:
        grandchild, name = lines.readline().split()
    os.waitpid(parent, 0)
    try:
        assert command_lives(int(grandchild))
        assert [each.owner for each in dead(FileJournals(tmp_path))] == [name]
    finally:
        kill(int(grandchild))


def command_lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_one_that_went_down_with_its_machine_says_so(
    tmp_path: Path, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.end()
    monkeypatch.setattr(folder_of, "boot", lambda: "another boot")
    (found,) = dead(FileJournals(tmp_path))
    assert found.rebooted
    assert found.over
    assert found.entries()["t1", 1].result(10) is not None


def test_a_torn_record_ends_what_can_be_read(tmp_path: Path, owner: Owner) -> None:
    owner.end()
    (path,) = tmp_path.glob("*.journal")
    content = bytearray(path.read_bytes())
    place = content.index(b"Ok", HEADER)
    content[place] ^= 1  # in the reply to message 1, before the begin of message 2
    path.write_bytes(content)
    (found,) = dead(FileJournals(tmp_path))
    entries = found.entries()
    assert set(entries) == {("t1", 1)}
    assert entries["t1", 1].reply is None


@pytest.mark.parametrize("content", [b"", bytes(HEADER + 100), b"mailjrn1" + b"x" * HEADER])
def test_what_is_no_journal_leaves_all_in_doubt(tmp_path: Path, content: bytes) -> None:
    journals = FileJournals(tmp_path)
    (tmp_path / "0123.journal").write_bytes(content)
    (found,) = dead(journals)
    assert found.rebooted
    assert found.entries() == {}


def test_an_unfinished_file_is_nobodys_and_cleared_in_time(tmp_path: Path) -> None:
    journals = FileJournals(tmp_path)
    old, new = tmp_path / "1.new", tmp_path / "2.new"
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    assert dead(journals) == []
    assert not old.exists()
    assert new.exists()


def test_a_process_that_outlives_its_lease_is_named(tmp_path: Path) -> None:
    stuck = Owner(tmp_path, seconds=2.0)
    try:
        (found,) = wait_for(lambda: FileJournals(tmp_path).overdue(), 20)
        assert (found.owner, found.pid) == (stuck.name, stuck.process.pid)
        assert found.started == folder_of.started(stuck.process.pid) > 0
        assert FileJournals(tmp_path).overdue(30.0) == []
    finally:
        stuck.end()


def test_one_with_nothing_in_hand_is_not(tmp_path: Path) -> None:
    journals = FileJournals(tmp_path)
    journal = journals.open("")
    journal.leasing(-1.0)
    assert [each.owner for each in journals.overdue()] == [journal.owner]
    journal.rest()
    assert [each.holding for each in journals.overdue()] == [False]
    assert journals.end_stuck(0.0) == []
    journal.close()


def open_with(folder: Path, page: int) -> FileJournal:
    return FileJournals(folder, page=page).open("")


def test_pages_take_turns_as_what_is_in_them_is_settled(tmp_path: Path) -> None:
    journal = open_with(tmp_path, 8192)
    for number in range(500):
        journal.leasing(60)
        journal.leased(lease_of(f"t{number}", number))
        journal.begin(message(number), ())
        journal.reply(Outcome(number, ((number * 10, SENT),), "main"))
        journal.settled(f"t{number}", [number])
    entries = journal.entries()
    kept = sorted(number for _, number in entries)
    assert kept == list(range(kept[0], 500))
    assert 20 < len(kept) < 500
    assert all(entry.reply == SENT for entry in entries.values())
    assert (tmp_path / f"{journal.owner.rpartition('/')[2]}.journal").stat().st_size == HEADER + 2 * 8192
    journal.close()
    assert set(dead(FileJournals(tmp_path))[0].entries()) == set(entries)


def test_a_full_journal_refuses_a_begin_and_keeps_room_for_every_reply(tmp_path: Path) -> None:
    journal = open_with(tmp_path, 8192)
    journal.leasing(60)
    journal.leased(lease_of("t1", *range(1000)))
    begun = 0

    def begin_all() -> None:
        nonlocal begun
        for number in range(1000):
            journal.begin(message(number), ())
            begun += 1

    with pytest.raises(JournalFull):
        begin_all()
    assert begun >= 4
    long = Reply(451, "later " * 200, "4.7.1", Phase.FINAL)
    for number in range(begun):
        journal.reply(Outcome(number, ((number * 10, long),), "a-relay-with-a-rather-long-name"))
    entries = journal.entries()
    assert len(entries) == begun
    for entry in entries.values():
        assert isinstance(entry.reply, Reply)
        assert (entry.reply.code, entry.reply.enhanced, entry.reply.text[:11]) == (451, "4.7.1", "later later")
    journal.settled("t1", range(begun))
    journal.begin(message(999), ())
    journal.close()


def test_silence_and_refusals_are_read_back_as_they_were(tmp_path: Path) -> None:
    journal = open_with(tmp_path, 8192)
    journal.leasing(60)
    journal.leased(lease_of("t1", 1))
    journal.begin(message(1, "a@x.example", "b@x.example"), ((11, REFUSED),))
    silence = NoReply(Phase.FINAL, "zeitüberschritten", closed=True)
    journal.reply(Outcome(1, ((10, silence), (11, REFUSED)), "main"))
    entry = journal.entries()["t1", 1]
    assert (entry.result(10), entry.result(11)) == (silence, REFUSED)
    journal.close()


def test_a_closed_one_gives_its_room_back(tmp_path: Path) -> None:
    journals = FileJournals(tmp_path)
    journals.open("").close()
    (found,) = dead(journals)
    assert found.closed
    assert next(tmp_path.glob("*.journal")).stat().st_size <= HEADER


def test_the_folder_and_its_files_are_private(tmp_path: Path) -> None:
    journals = FileJournals(tmp_path / "journal")
    journals.open("").close()
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
    assert next((tmp_path / "journal").glob("*.journal")).stat().st_mode & 0o777 == 0o600


def test_a_folder_keeps_its_name(tmp_path: Path) -> None:
    assert FileJournals(tmp_path).folder == FileJournals(tmp_path).folder


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"DISPATCHER_DATA_DIR: .*file"):
        FileJournals(tmp_path / "file" / "journal")


_MOUNTS = """22 1 254:0 / / rw,relatime - ext4 /dev/root rw
40 22 0:30 / /srv/mail\\040data rw - nfs4 nas:/export rw
41 40 0:31 / /srv/mail\\040data/local rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/srv", ""), ("/srv/mail data/journal", "nfs4"), ("/srv/mail data/local/journal", ""), ("/srv/mail data2", "")],
)
def test_network_file_systems_are_told_by_their_mounts(folder: str, kind: str) -> None:
    assert mounts.network(Path(folder), _MOUNTS) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "network", lambda _: "nfs4")
    with pytest.raises(ConfigurationError, match="nfs4"):
        FileJournals(tmp_path)


def test_one_that_stands_still_is_ended_although_it_holds_no_lease(tmp_path: Path) -> None:
    still = Owner(tmp_path, seconds=3.0, rests=True)
    try:
        journals = FileJournals(tmp_path)
        assert journals.end_stuck(0.0) == []
        os.kill(still.process.pid, signal.SIGSTOP)
        ended = wait_for(lambda: journals.end_stuck(0.0), 20)
        assert ended == [still.process.pid]
        still.process.wait(10)
        assert journals.living() == set()
    finally:
        still.end()


def test_a_file_of_another_user_is_passed_over(tmp_path: Path, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.journal").mkdir()  # cannot be opened, whoever we are
    journals = FileJournals(tmp_path)
    assert journals.living() == {owner.name}
    owner.end()
    assert [each.owner for each in dead(journals)] == [owner.name]
    assert journals.end_stuck(0.0) == []


def test_a_disk_without_room_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    journals = FileJournals(tmp_path)
    monkeypatch.setattr(folder_of, "_allocate", full)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(ConfigurationError, match="No space left"):
            journals.open("")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_one_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "9.journal").write_bytes(b"mailjrn2" + bytes(HEADER))
    assert dead(FileJournals(tmp_path)) == []
    assert (tmp_path / "9.journal").exists()


def test_what_was_told_is_marked_and_gives_its_room_back(tmp_path: Path, owner: Owner) -> None:
    owner.end()
    journals = FileJournals(tmp_path)
    with journals.dead() as found:
        (first,) = found
        assert not first.told
        before = first.entries()
        journals.note_told(owner.name)
    (second,) = dead(journals)
    assert second.told
    assert second.entries() == before
    assert next(tmp_path.glob("*.journal")).stat().st_size < HEADER + 1000
