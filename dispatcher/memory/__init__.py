"""Ledger, attachments and limits that live as long as the process: for tests. Contract suites run on them."""

from dispatcher.memory.blobs import MemoryBlobs
from dispatcher.memory.journal import MemoryJournal, MemoryJournals
from dispatcher.memory.ledger import MemoryLedger
from dispatcher.memory.limiter import MemoryLimiter

__all__ = ["MemoryBlobs", "MemoryJournal", "MemoryJournals", "MemoryLedger", "MemoryLimiter"]
