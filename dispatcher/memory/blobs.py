"""Attachments in a dict."""

import hashlib
import time
from typing import BinaryIO

from dispatcher.errors import NotFound
from dispatcher.interfaces import Clock
from dispatcher.mail import Blob


class MemoryBlobs:
    """``interfaces.Blobs`` that forgets with the process; ``clock`` is its clock."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._now = clock.time if clock else time.time
        self._contents: dict[str, bytes] = {}
        self._touched: dict[str, float] = {}

    def put(self, stream: BinaryIO) -> Blob:
        content = stream.read()
        blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
        self._contents[blob.id], self._touched[blob.id] = content, self._now()
        return blob

    def touch(self, blob: str) -> Blob:
        found = Blob(blob, len(self.get(blob)))
        self._touched[blob] = self._now()
        return found

    def get(self, blob: str) -> bytes:
        try:
            return self._contents[blob]
        except KeyError:
            raise NotFound(f"no stored attachment {blob}") from None

    def old(self, seconds: float, *, after: str = "", limit: int = 500) -> list[str]:
        before = self._now() - seconds
        return sorted(blob for blob, at in self._touched.items() if blob > after and at <= before)[:limit]

    def remove(self, blob: str, seconds: float) -> bool:
        if self._touched.get(blob, 0.0) > self._now() - seconds:
            return False
        self._contents.pop(blob, None)
        self._touched.pop(blob, None)
        return True
