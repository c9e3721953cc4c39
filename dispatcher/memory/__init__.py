"""Ledger and attachments that live as long as the process: for tests, yours too. The contract suite runs on them."""

from dispatcher.memory.blobs import MemoryBlobs
from dispatcher.memory.ledger import MemoryLedger

__all__ = ["MemoryBlobs", "MemoryLedger"]
