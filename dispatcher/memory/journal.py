"""Journals in memory: for processes that send nothing, and for tests."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from dispatcher.delivery import Lease
from dispatcher.errors import LeaseLost
from dispatcher.journal import DeadJournal, Entry
from dispatcher.mail import Message
from dispatcher.reply import Outcome, Result


@dataclass(slots=True)
class _Held:
    token: str
    until: float
    entry: Entry | None = None


class MemoryJournal:
    """Lives and dies with its process. Implements interfaces.Journal. Thread-safe.

    ``strict``: a message has to be leased before it is begun, as it has to be with a file.
    """

    def __init__(
        self, owner: str = "memory/1", *, strict: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.owner = owner
        self._strict, self._clock = strict, clock
        self._term = float("inf")
        self._held: dict[int, _Held] = {}
        self._entries: dict[tuple[str, int], Entry] = {}
        self._lock = threading.Lock()

    def leasing(self, seconds: float) -> None:
        self._term = self._clock() + seconds

    def over(self) -> bool:
        """Whether the term of its last lease is."""
        return self._clock() > self._term

    def leased(self, lease: Lease) -> None:
        with self._lock:
            for message in lease.messages:
                self._held[message.id] = _Held(lease.token, self._term)

    def begin(self, message: Message, refused: Sequence[tuple[int, Result]]) -> None:
        with self._lock:
            held = self._held.get(message.id)
            if held is None:
                if self._strict:
                    raise LeaseLost("it is not leased any more")
                held = self._held.setdefault(message.id, _Held("", float("inf")))
            if self._clock() > held.until:
                raise LeaseLost("the term of its lease is over")
            deliveries = tuple(delivery for delivery, _ in message.rcpt_to)
            held.entry = Entry(held.token, message.id, deliveries, dict(refused), sha256=message.sha256)
            self._entries[held.token, message.id] = held.entry

    def reply(self, outcome: Outcome) -> None:
        with self._lock:
            held = self._held.get(outcome.message)
            if held is None or held.entry is None or held.entry.reply is not None:
                return
            refused = held.entry.refused
            said = next((result for delivery, result in outcome.results if delivery not in refused), None)
            held.entry = replace(held.entry, reply=said, relay=outcome.relay, at=time.time(), seconds=outcome.seconds)
            self._entries[held.token, outcome.message] = held.entry

    def rest(self) -> None:
        """Nothing watches over this process."""

    def begun(self) -> dict[int, tuple[int, ...]]:
        with self._lock:
            open_entries = [held.entry for held in self._held.values() if held.entry and held.entry.reply is None]
        return {
            entry.message: tuple(delivery for delivery in entry.deliveries if delivery not in entry.refused)
            for entry in open_entries
        }

    def tokens(self) -> set[str]:
        with self._lock:
            return {held.token for held in self._held.values()}

    def abandon(self, lease: Lease) -> None:
        with self._lock:
            for message in lease.messages:
                self._held.pop(message.id, None)

    def settled(self, token: str, messages: Iterable[int]) -> None:
        with self._lock:
            for message in messages:
                if message in self._held and self._held[message].token == token:
                    del self._held[message]
                    self._entries.pop((token, message), None)

    def entries(self) -> Mapping[tuple[str, int], Entry]:
        with self._lock:
            return dict(self._entries)

    def close(self) -> None:
        """Nothing is kept."""

    def __repr__(self) -> str:
        return f"<MemoryJournal held={len(self._held)}>"


class MemoryJournals:
    """The journals of one process. Implements interfaces.Journals; ``kill`` is for tests."""

    def __init__(self, *, strict: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._strict, self._clock = strict, clock
        self._living: dict[str, MemoryJournal] = {}
        self._dead: dict[str, tuple[MemoryJournal, bool]] = {}
        self._told = set[str]()

    def open(self, build: str) -> MemoryJournal:  # noqa: ARG002 - the interface's; all is built by this process
        journal = MemoryJournal(f"memory/{uuid4().hex}", strict=self._strict, clock=self._clock)
        self._living[journal.owner] = journal
        return journal

    def kill(self, journal: MemoryJournal, *, rebooted: bool = False) -> None:
        """As if its process had ended."""
        self._dead[journal.owner] = self._living.pop(journal.owner), rebooted

    def owners(self) -> set[str]:
        return {*self._living, *self._dead}

    def end_stuck(self, seconds: float) -> list[int]:  # noqa: ARG002 - the interface's; a process does not end itself
        return []

    @contextmanager
    def dead(self) -> Iterator[Iterator[DeadJournal]]:
        yield (
            DeadJournal(owner, journal.entries, told=owner in self._told, rebooted=rebooted, over=journal.over())
            for owner, (journal, rebooted) in tuple(self._dead.items())
        )

    def note_told(self, owner: str) -> None:
        self._told.add(owner)

    def remove(self, owner: str) -> None:
        del self._dead[owner]
