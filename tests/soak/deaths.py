"""What worker processes had under way when they died: read from the outside, from /proc and their journals."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dispatcher.adapters import journal_record
from dispatcher.adapters.journal import HEADER, Header
from dispatcher.adapters.journals import started
from dispatcher.journal import Entry

_LOOK_SECONDS = 0.05
_OPEN = ("01", "04", "05", "08")  # ESTABLISHED, FIN_WAIT1 and 2, CLOSE_WAIT: a socket that was connected


@dataclass(slots=True)
class Death:
    """A worker process that ended. ``fault``: what ended it, empty when it was not us. ``connections``: how many to
    the relay were open then; None when nobody looked. ``begun``: the messages begun and not answered. ``in_doubt``:
    those of them that the ledger came to hold in doubt for it."""

    pid: int
    journal: str
    at: float
    fault: str = ""
    connections: int | None = None
    begun: frozenset[int] = frozenset()
    in_doubt: set[int] = field(default_factory=set)


class Deaths:
    """Those of a stack's worker processes. ``port`` is the relay's."""

    def __init__(self, journals: Path, port: int, clock: Callable[[], float]) -> None:
        self.all: list[Death] = []
        self._journals, self._port, self._clock = journals, port, clock
        self._known: set[str] = set()
        self._expected: dict[str, tuple[str, int]] = {}
        self._looked = clock()
        self._lock = threading.Lock()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look often while the block runs: a journal may be replayed and removed while a fault is being prepared."""
        over, trouble = threading.Event(), list[Exception]()

        def watch() -> None:
            try:
                while not over.wait(_LOOK_SECONDS):
                    self.look()
            except Exception as error:  # noqa: BLE001 - it is raised where the soak sees it
                trouble.append(error)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        self.look()
        if trouble:
            raise trouble[0]

    def foresee(self, pid: int, fault: str) -> None:
        """Look at a process that is stopped and about to be killed."""
        with self._lock:
            self._foresee(pid, fault)

    def _foresee(self, pid: int, fault: str) -> None:
        for name, header, path in self._new():
            if header.facts["pid"] == pid and _lives(header):
                self._note(name, header, path, fault, connections(pid, self._port))
                return
        self.all.append(Death(pid, "", self._clock(), fault, connections(pid, self._port)))  # it had only begun

    def expect(self, pid: int, fault: str) -> None:
        """Look at a process that will die of this fault, but may go on for a moment: what it has begun counts then."""
        with self._lock:
            for name, header, _ in self._new():
                if header.facts["pid"] == pid and _lives(header):
                    self._expected[name] = fault, connections(pid, self._port)

    def spare(self, pid: int) -> None:
        """It was stopped, and was not killed for it after all: its death is still to come."""
        with self._lock:
            for death in [death for death in self.all if death.pid == pid and state(pid) not in ("", "Z")]:
                self.all.remove(death)
                self._known.discard(death.journal)

    def look(self) -> None:
        """See who else has died, at some moment since the last look: its doubts may be settled already."""
        with self._lock:
            since, self._looked = self._looked, self._clock()
            for name, header, path in self._new():
                if not _lives(header):
                    with suppress(FileNotFoundError):
                        self._note(name, header, path, *self._expected.get(name, ()))
                        self.all[-1].at = since

    def _note(self, name: str, header: Header, path: Path, fault: str = "", connections: int | None = None) -> None:
        begun = frozenset(_unanswered(header, path.read_bytes()))
        self._known.add(name)
        self.all.append(Death(header.facts["pid"], name, self._clock(), fault, connections, begun))

    def blame(self, message: int, at: float) -> bool:
        """Lay a doubt that the ledger notes, at a time of its clock, to the last death before it that explains it."""
        explained = [death for death in self.all if message in death.begun and death.at <= at]
        if explained:
            explained[-1].in_doubt.add(message)
        return bool(explained)

    def _new(self) -> Iterator[tuple[str, Header, Path]]:
        for path in self._journals.glob("*.journal"):
            if path.stem not in self._known:
                # It may be replayed and removed at this very moment.
                with suppress(FileNotFoundError), path.open("rb") as file:
                    yield path.stem, Header.parse(file.read(HEADER)), path


def connections(pid: int, port: int) -> int:
    """A process' open connections to a port of this machine."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            sockets.add(str(link.readlink()))
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    ours = [row for row in rows if row[3] in _OPEN and int(row[2].rpartition(":")[2], 16) == port]
    return sum(f"socket:[{row[9]}]" in sockets for row in ours)


def _unanswered(header: Header, content: bytes) -> Iterator[int]:
    size = header.facts["page"]
    entries: dict[tuple[str, int], Entry] = {}
    starts = (HEADER, HEADER + size)
    for turn, start in sorted(zip(header.turns, starts, strict=True)):
        if turn:
            entries |= {(e.token, e.message): e for e in journal_record.entries(content[start : start + size], turn)}
    return (entry.message for entry in entries.values() if entry.reply is None)


def _lives(header: Header) -> bool:
    """Whether the journal's process runs, be it stopped; a zombie does not."""
    pid = header.facts["pid"]
    return state(pid) not in ("", "Z") and started(pid) == header.facts["started"]


def state(pid: int) -> str:
    """The kernel's letter for it: T stands still, Z is dead and not waited for; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
