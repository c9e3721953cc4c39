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
from dispatcher.adapters.journal import HEADER, PAGE, FileJournal, Header, uptime
from dispatcher.errors import ConfigurationError
from dispatcher.journal import DeadJournal, Entry

_SETTING = "DISPATCHER_DATA_DIR"
_ABANDONED_SECONDS = 60.0  # an unfinished file of a process that was killed while it made it


@dataclass(frozen=True, slots=True)
class Overdue:
    """A process that lives, and holds a lease that is over; ``started`` tells it from another with its number."""

    owner: str
    pid: int
    started: int


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
        except OSError as error:
            raise ConfigurationError(_SETTING, f"{error.filename or folder}: {error.strerror}") from None

    @classmethod
    def of(cls, data_dir: Path) -> "FileJournals":
        """Those of the worker processes that run on a data folder."""
        return cls(data_dir.resolve() / "journal")

    def open(self, build: str) -> FileJournal:
        """A new file: made and locked under a passing name, so that nobody meets it half done."""
        own, size = uuid4().hex, HEADER + 2 * self._page
        passing, path = self._path / f"{own}.new", self._path / f"{own}.journal"
        try:
            file = os.open(passing, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _allocate(file, size)
            os.pwrite(file, Header.make(self._facts(own, build)), 0)
            passing.rename(path)
        except OSError as error:
            passing.unlink(missing_ok=True)
            raise ConfigurationError(_SETTING, f"no journal can be made in {self._path}: {error.strerror}") from None
        return FileJournal(f"{self.folder}/{own}", file, size)

    def living(self) -> set[str]:
        """By their locks."""
        return {owner for owner, _ in self._locked()}

    def overdue(self, seconds: float = 0.0) -> list[Overdue]:
        """The processes that hold a lease which is over since ``seconds``, and live: one of them is stuck."""
        return [
            Overdue(owner, head.facts["pid"], head.facts["started"])
            for owner, head in self._locked()
            if head is not None and head.holding and uptime() > head.term + seconds
        ]

    def end_stuck(self, seconds: float) -> list[int]:
        """SIGKILL, which ends a stopped process too. One in another container cannot be seen from here: its number is
        nobody's, or that of a process which began at another time."""
        ended = []
        for stuck in self.overdue(seconds):
            if stuck.started == started(stuck.pid) > 0:
                with suppress(ProcessLookupError, PermissionError):  # it has ended, or is another user's
                    os.kill(stuck.pid, signal.SIGKILL)
                    ended.append(stuck.pid)
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

    def remove(self, owner: str) -> None:
        self._named(owner).unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"<FileJournals {self._path}>"

    def _take(self, files: list[int]) -> Iterator[DeadJournal]:
        for path in self._path.glob("*.journal"):
            if (file := _lock(path)) is not None:
                files.append(file)
                yield self._dead(path, file)
        for path in self._path.glob("*.new"):
            self._clear_unfinished(path)

    def _dead(self, path: Path, file: int) -> DeadJournal:
        owner = self._owner(path)
        try:
            head = Header.parse(os.pread(file, HEADER, 0))
        except ValueError:  # nothing of it can be believed: a machine went down before it was on disk
            return DeadJournal(owner, dict, rebooted=True)
        rebooted = head.facts["boot"] != boot()
        return DeadJournal(
            owner,
            lambda: _entries(path, head),
            closed=head.closed,
            rebooted=rebooted,
            over=rebooted or uptime() > head.term,
            build=head.facts["build"],
        )

    def _locked(self) -> Iterator[tuple[str, Header | None]]:
        for path in self._path.glob("*.journal"):
            try:
                with path.open("rb") as file:
                    if not _free(file.fileno()):
                        yield self._owner(path), _header(file.read(HEADER))
            except FileNotFoundError:
                continue  # it was replayed meanwhile

    def _clear_unfinished(self, path: Path) -> None:
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return  # it was finished meanwhile

    def _owner(self, path: Path) -> str:
        return f"{self.folder}/{path.stem}"

    def _named(self, owner: str) -> Path:
        return self._path / f"{owner.rpartition('/')[2]}.journal"

    def _facts(self, own: str, build: str) -> dict[str, Any]:
        pid = os.getpid()
        return {
            "owner": f"{self.folder}/{own}", "boot": boot(), "pid": pid, "started": started(pid),
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
    except FileNotFoundError:
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
    except ValueError:
        return None


def _entries(path: Path, head: Header) -> Mapping[tuple[str, int], Entry]:
    """What both pages hold, the older one first."""
    content, size = path.read_bytes(), head.facts["page"]
    starts = (HEADER, HEADER + size)
    pages = sorted(
        (turn, content[start : start + size]) for turn, start in zip(head.turns, starts, strict=True) if turn
    )
    return {(entry.token, entry.message): entry for turn, page in pages for entry in journal_record.entries(page, turn)}
