"""Ledger, attachments and limits that live as long as the process: for tests. Contract suites run on them."""

from dispatcher.memory.blobs import MemoryBlobs
from dispatcher.memory.journal import MemoryJournal, MemoryJournals
from dispatcher.memory.ledger import MemoryLedger
from dispatcher.memory.limiter import MemoryLimiter
from dispatcher.memory.report_files import MemoryFiles, MemoryManifests, MemoryRenderers

__all__ = [
    "MemoryBlobs",
    "MemoryFiles",
    "MemoryJournal",
    "MemoryJournals",
    "MemoryLedger",
    "MemoryLimiter",
    "MemoryManifests",
    "MemoryRenderers",
]
