"""The folder of journals: one file for each worker process of a host, and what processes that ended left there."""

import fcntl
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from dispatcher.adapters import journal_record, mounts
from dispatcher.adapters.journal import HEADER, NUMBER, PAGE, TOLD, FileJournal, Header, NewerJournal, uptime
from dispatcher.errors import ConfigurationError
from dispatcher.journal import DeadJournal, Entry

_SETTING = "DISPATCHER_DATA_DIR"
_STILL_LOOKS = 3
_ABANDONED_SECONDS = 60.0  # an unfinished file of a process that was killed while it made it


@dataclass(frozen=True, slots=True)
class Overdue:
    """A process that lives after the term of its last lease; ``started`` and ``space`` tell it from another with its
    number. ``holding``: it has not let go of that lease."""

    owner: str
    pid: int
    started: int
    space: str
    holding: bool


class FileJournals:
    """The journals in a folder, which is made when it is not there. Implements interfaces.Journals.

    Raises ConfigurationError for a folder that cannot be used: a lock on a network file system may not end with its
    process.
    """

    def __init__(self, folder: Path, page: int = PAGE) -> None:
        self._path, self._page = folder, page
        if kind := mounts.network(folder):
            raise ConfigurationError(
                _SETTING, f"{folder} is on a network file system ({kind}): journals need a local one"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder = self._identity()
            self._still: dict[str, int] = {}
        except OSError as error:
            raise ConfigurationError(_SETTING, f"{error.filename or folder}: {error.strerror}") from None

    @classmethod
    def of(cls, data_dir: Path) -> "FileJournals":
        """Those of the worker processes that run on a data folder."""
        return cls(data_dir.resolve() / "journal")

    def open(self, build: str) -> FileJournal:
        """A new file: made, locked and mapped under a passing name, so that nobody meets it half done."""
        own, size = uuid4().hex, HEADER + 2 * self._page
        passing = self._path / f"{own}.new"
        try:
            file = os.open(passing, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _allocate(file, size)
            os.pwrite(file, Header.make(self._facts(own, build)), 0)
            journal = FileJournal(f"{self.folder}/{own}", file, size)
            passing.rename(self._path / f"{own}.journal")
        except OSError as error:
            passing.unlink(missing_ok=True)
            os.close(file)
            raise self._unusable(error) from None
        return journal

    def _unusable(self, error: OSError) -> ConfigurationError:
        reason = "it is not a folder" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        return ConfigurationError(_SETTING, f"no journal can be made in {self._path}: {reason}")

    def owners(self) -> set[str]:
        """Those whose files can be read: what cannot be is not replayed either."""
        return {owner for owner, _, _ in self._read()}

    def living(self) -> set[str]:
        """Those whose processes live, by their locks."""
        return {owner for owner, _, free in self._read() if not free}

    def overdue(self, seconds: float = 0.0) -> list[Overdue]:
        """The processes that live, and hold a lease which is over since ``seconds``: one of them is stuck."""
        return [
            Overdue(owner, head.facts["pid"], head.facts["started"], head.facts["space"], head.holding)
            for owner, head, free in self._read()
            if head is not None and not free and uptime() > head.term + seconds
        ]

    def end_stuck(self, seconds: float) -> list[int]:
        """SIGKILL, which ends a stopped process too. One in another container cannot be seen from here, whatever number
        it has."""
        ended, still = [], {}
        for stuck in self.overdue(seconds):
            if stuck.space != space() or not stuck.started == started(stuck.pid) > 0:
                continue
            # In looks, since seconds would also count those in which we stood still ourselves.
            still[stuck.owner] = self._still.get(stuck.owner, 0) + 1 if _stopped(stuck.pid) else 0
            if stuck.holding or still[stuck.owner] >= _STILL_LOOKS:
                with suppress(ProcessLookupError, PermissionError):  # it has ended, or is another user's
                    os.kill(stuck.pid, signal.SIGKILL)
                    ended.append(stuck.pid)
        self._still = still
        return ended

    @contextmanager
    def dead(self) -> Iterator[Iterator[DeadJournal]]:
        """Each is locked from when it is met until the block ends."""
        files: list[int] = []
        try:
            yield self._take(files)
        finally:
            for file in files:
                os.close(file)

    def note_told(self, owner: str) -> None:
        """Also gives back the room that nothing was written into."""
        with self._named(owner).open("r+b") as file:
            content = file.read()
            if (head := _header(content[:HEADER])) is not None:
                file.truncate(_used(content, head))
                file.seek(TOLD)
                file.write(NUMBER.pack(1))

    def remove(self, owner: str) -> None:
        self._named(owner).unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"<FileJournals {self._path}>"

    def _take(self, files: list[int]) -> Iterator[DeadJournal]:
        for path in self._path.glob("*.journal"):
            if (file := _lock(path)) is not None:
                files.append(file)
                with suppress(NewerJournal):  # a worker of its version takes it up
                    yield self._dead(path, file)
        for path in self._path.glob("*.new"):
            self._clear_unfinished(path)

    def _dead(self, path: Path, file: int) -> DeadJournal:
        try:
            head = Header.parse(os.pread(file, HEADER, 0))
        except ValueError:  # nothing of it can be believed: a machine went down before it was on disk
            return DeadJournal(f"{self.folder}/{path.stem}", dict, rebooted=True)
        rebooted = head.facts["boot"] != boot()
        return DeadJournal(
            head.facts["owner"],
            lambda: _entries(path, head),
            told=head.told,
            closed=head.closed,
            rebooted=rebooted,
            over=rebooted or uptime() > head.term,
            build=head.facts["build"],
        )

    def _read(self) -> Iterator[tuple[str, Header | None, bool]]:
        """The owner and header of each journal that can be read, and whether its lock is free."""
        for path in self._path.glob("*.journal"):
            try:
                with path.open("rb") as file:
                    head = _header(file.read(HEADER))
                    free = _free(file.fileno())
            except OSError:
                continue  # it was replayed meanwhile, or is another user's
            yield head.facts["owner"] if head else f"{self.folder}/{path.stem}", head, free

    def _clear_unfinished(self, path: Path) -> None:
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return  # it was finished meanwhile

    def _named(self, owner: str) -> Path:
        return self._path / f"{owner.rpartition('/')[2]}.journal"

    def _facts(self, own: str, build: str) -> dict[str, Any]:
        owner, pid = f"{self.folder}/{own}", os.getpid()
        return {
            "owner": owner, "boot": boot(), "pid": pid, "space": space(), "started": started(pid),
            "build": build, "page": self._page,
        }  # fmt: skip

    def _identity(self) -> str:
        """The folder's own name, which a container that comes back with its volume finds again."""
        path = self._path / "folder"
        if not path.exists():
            passing = self._path / f"folder.{uuid4().hex}"
            passing.write_text(uuid4().hex)
            try:
                os.link(passing, path)  # of several that begin at once, one is first
            except FileExistsError:
                pass
            finally:
                passing.unlink()
        return path.read_text().strip()


def boot() -> str:
    """Names the time since the machine was started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(round((time.time() - uptime()) / 60))


def space() -> str:
    """Names the space in which process numbers are counted: a container has its own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:  # no such folder here, or it has ended
        return False


def started(pid: int) -> int:
    """When a process began, in ticks since the machine did; 0 where that cannot be told, or when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return 0


def _allocate(file: int, size: int) -> None:
    """Take the room now: a full disk must not be met by a store into the mapping, which would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.pwrite(file, bytes(size), 0)


def _lock(path: Path) -> int | None:
    """The open and locked file of a dead process; None when it lives, or somebody else has it in hand."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # it was replayed meanwhile, or is another user's
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:  # else it was replayed and removed between our open and our lock
            return file
    except BlockingIOError:
        pass
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None


def _free(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def _header(head: bytes) -> Header | None:
    try:
        return Header.parse(head)
    except (ValueError, NewerJournal):
        return None


def _entries(path: Path, head: Header) -> Mapping[tuple[str, int], Entry]:
    """What both pages hold, the older one first."""
    return {
        (entry.token, entry.message): entry
        for turn, _, page in sorted(_pages(path.read_bytes(), head))
        for entry in journal_record.entries(page, turn)
    }


def _used(content: bytes, head: Header) -> int:
    """Where the last record ends."""
    return max(start + journal_record.length(page, turn) for turn, start, page in _pages(content, head))


def _pages(content: bytes, head: Header) -> Iterator[tuple[int, int, bytes]]:
    """Turn, place and bytes of each page that was ever written into."""
    size = head.facts["page"]
    for turn, start in zip(head.turns, (HEADER, HEADER + size), strict=True):
        if turn:
            yield turn, start, content[start : start + size]
