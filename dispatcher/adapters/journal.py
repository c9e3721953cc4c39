"""The journal of a worker process: a preallocated file, mapped into memory.

A store into the mapping takes a microsecond, needs no commit and outlives the process, however it ends; only the end
of the machine may take the last of it along. Two pages take turns: the next one is written over when all that was begun
in it is settled, so what was answered stays readable for a while after that.

    header   magic · what never changes, as JSON · closed, term, holding, turns of the pages, told (8 bytes each)
    page     record, record, ...                                            see journal_record
    page     the same

The lock on the file is the sign of life: the kernel lets go of it when the process ends.
"""

import json
import mmap
import os
import threading
import time
import weakref
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from dispatcher.adapters import journal_record
from dispatcher.delivery import Lease
from dispatcher.errors import JournalFull, LeaseLost
from dispatcher.journal import Entry
from dispatcher.mail import Message
from dispatcher.reply import Outcome, Result

MAGIC = b"mailjrn1"
HEADER = 4096
PAGE = 8 * 1024 * 1024
_CLOSED, _TERM, _HOLDING, _TURNS, TOLD, _FACTS = 8, 16, 24, (32, 40), 48, 64  # places in the header
NUMBER, _SECONDS, _LENGTH = Struct("<Q"), Struct("<d"), Struct("<II")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # counts on while the machine sleeps


def uptime() -> float:
    """Seconds that no setting of the clock and no sleep of the machine changes; the same for all its processes."""
    return time.clock_gettime(_CLOCK)


class NewerJournal(Exception):
    """Its format is that of a version to come."""


@dataclass(frozen=True, slots=True)
class Header:
    """What stands at the head of a journal. ``facts`` never change: owner, boot, pid, space, started, build, page."""

    facts: dict[str, Any]
    closed: bool
    term: float
    holding: bool
    turns: tuple[int, int]
    told: bool

    @classmethod
    def parse(cls, head: bytes) -> "Header":
        """Raises ValueError for what is no journal, or one that its maker did not finish; NewerJournal."""
        head = head.ljust(HEADER, b"\0")
        checksum, length = _LENGTH.unpack_from(head, _FACTS)
        facts = head[_FACTS + _LENGTH.size : _FACTS + _LENGTH.size + length]
        if head.startswith(MAGIC[:-1]) and not head.startswith(MAGIC):
            raise NewerJournal
        if head[: len(MAGIC)] != MAGIC or zlib.crc32(facts) != checksum:
            raise ValueError("not a journal")
        turns = (NUMBER.unpack_from(head, _TURNS[0])[0], NUMBER.unpack_from(head, _TURNS[1])[0])
        closed, holding, told = (NUMBER.unpack_from(head, place)[0] != 0 for place in (_CLOSED, _HOLDING, TOLD))
        return cls(json.loads(facts), closed, _SECONDS.unpack_from(head, _TERM)[0], holding, turns, told)

    @staticmethod
    def make(facts: Mapping[str, Any]) -> bytes:
        """The head of a new journal."""
        encoded = json.dumps(facts).encode()
        head = bytearray(HEADER)
        head[: len(MAGIC)] = MAGIC
        head[_FACTS : _FACTS + _LENGTH.size + len(encoded)] = _LENGTH.pack(zlib.crc32(encoded), len(encoded)) + encoded
        NUMBER.pack_into(head, _TURNS[0], 1)
        return bytes(head)


@dataclass(slots=True)
class _Page:
    """One of the two: where it begins and ends in the file, where the next record goes, what is open in it."""

    start: int
    end: int
    turn: int
    place: int
    open: set[int] = field(default_factory=set)  # messages begun here and not settled
    unanswered: int = 0


@dataclass(slots=True)
class _Held:
    """A message that is leased and not settled: its lease, until when it may be begun, and where it was begun."""

    token: str
    until: float
    page: _Page | None = None
    answered: bool = False
    unknown: tuple[int, ...] = ()


_mine: "weakref.WeakSet[FileJournal]" = weakref.WeakSet()


class FileJournal:
    """Writes into an open, locked and mapped file, which ``journals.FileJournals`` makes. Implements
    interfaces.Journal. Thread-safe. A process that is forked off lets go of it."""

    def __init__(self, owner: str, file: int, size: int) -> None:
        self.owner = owner
        self._file, self._map = file, mmap.mmap(file, size)
        half = (size - HEADER) // 2
        first, second = HEADER, HEADER + half
        self._pages = [_Page(first, first + half, 1, first), _Page(second, second + half, 0, second)]
        self._page = self._pages[0]
        self._held: dict[int, _Held] = {}
        self._term = 0.0
        self._lock = threading.Lock()
        _mine.add(self)

    def leasing(self, seconds: float) -> None:
        """Note the end of the term before the ledger is asked: a lease may come into being after our death."""
        with self._lock:
            self._term = uptime() + seconds
            _SECONDS.pack_into(self._map, _TERM, self._term)
            NUMBER.pack_into(self._map, _HOLDING, 1)

    def leased(self, lease: Lease) -> None:
        with self._lock:
            for message in lease.messages:
                if (before := self._held.get(message.id)) is not None:
                    self._forget(message.id, before)
                self._held[message.id] = _Held(lease.token, self._term)

    def rest(self) -> None:
        with self._lock:
            NUMBER.pack_into(self._map, _HOLDING, 0)

    def begin(self, message: Message, refused: Sequence[tuple[int, Result]]) -> None:
        """Raises LeaseLost, or JournalFull while what is in it waits for the ledger."""
        with self._lock:
            held = self._held.get(message.id)
            if held is None:
                raise LeaseLost("it is not leased any more")
            if uptime() > held.until:
                raise LeaseLost("the term of its lease is over")
            deliveries = tuple([delivery for delivery, _ in message.rcpt_to])
            payload = journal_record.begin(held.token, message.id, message.sha256, deliveries, refused)
            page = self._room(len(payload) + 2 * journal_record.REPLY_ROOM)
            if held.page is not None:  # begun before, and not sent: the connection turned out to be closed
                self._forget(message.id, held)
            self._write(page, payload)
            held.page, held.answered, held.unknown = page, False, deliveries
            if refused:
                known = {delivery for delivery, _ in refused}
                held.unknown = tuple([delivery for delivery in deliveries if delivery not in known])
            page.open.add(message.id)
            page.unanswered += 1

    def reply(self, outcome: Outcome) -> None:
        """What was never begun is known to be unsent without a record."""
        with self._lock:
            held = self._held.get(outcome.message)
            if held is None or held.page is None or held.answered:
                return
            results = [result for delivery, result in outcome.results if delivery in held.unknown]
            if not results:
                return
            payload = journal_record.reply(outcome.message, time.time(), outcome.seconds, outcome.relay, results[0])
            self._write(held.page, payload)
            held.answered = True
            held.page.unanswered -= 1

    def begun(self) -> dict[int, tuple[int, ...]]:
        with self._lock:
            return {
                number: held.unknown
                for number, held in self._held.items()
                if held.page is not None and not held.answered
            }

    def tokens(self) -> set[str]:
        with self._lock:
            return {held.token for held in self._held.values()}

    def abandon(self, lease: Lease) -> None:
        """What was begun stays readable."""
        self.settled(lease.token, (message.id for message in lease.messages))

    def settled(self, token: str, messages: Iterable[int]) -> None:
        with self._lock:
            for message in messages:
                held = self._held.get(message)
                if held is not None and held.token == token:  # else it was leased again meanwhile
                    del self._held[message]
                    self._forget(message, held)

    def entries(self) -> Mapping[tuple[str, int], Entry]:
        with self._lock:
            pages = sorted(self._pages, key=lambda page: page.turn)
            read = [(self._map[page.start : page.place], page.turn) for page in pages]
        return {
            (entry.token, entry.message): entry for page, turn in read for entry in journal_record.entries(page, turn)
        }

    def close(self) -> None:
        """Let go of the file, which stays as long as the ledger may need it; its empty room is given back."""
        with self._lock:
            if self._map.closed:
                return
            used = max(page.place for page in self._pages if page.turn)
            if not self._held:
                NUMBER.pack_into(self._map, _CLOSED, 1)
            self._map.close()
            os.ftruncate(self._file, used)
            os.close(self._file)
            _mine.discard(self)

    def let_go(self) -> None:
        """In a process that was forked off: the lock must end with its owner."""
        self._lock = threading.Lock()
        if not self._map.closed:
            self._map.close()
            os.close(self._file)

    def __repr__(self) -> str:
        return f"<FileJournal {self.owner} held={len(self._held)}>"

    def _room(self, wanted: int) -> _Page:
        """The page to write into, so that each message begun in it keeps the room for its reply."""
        page = self._page
        if page.place + wanted + page.unanswered * journal_record.REPLY_ROOM <= page.end:
            return page
        other = self._pages[1 - self._pages.index(page)]
        if other.open or other.start + wanted > other.end:
            raise JournalFull("the journal is full of mails that the ledger has not taken yet")
        other.turn, other.place = max(each.turn for each in self._pages) + 1, other.start
        NUMBER.pack_into(self._map, _TURNS[self._pages.index(other)], other.turn)
        self._page = other
        return other

    def _write(self, page: _Page, payload: bytes) -> None:
        record = journal_record.framed(payload, page.turn)
        end = page.place + len(record)
        self._map[page.place : end] = record
        page.place = end

    def _forget(self, message: int, held: _Held) -> None:
        if held.page is not None:
            held.page.open.discard(message)
            held.page.unanswered -= not held.answered


def _after_fork() -> None:
    for journal in list(_mine):
        journal.let_go()


os.register_at_fork(after_in_child=_after_fork)
