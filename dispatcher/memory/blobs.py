"""Attachments in a dict."""

import hashlib
from typing import BinaryIO

from dispatcher.errors import NotFound
from dispatcher.mail import Blob


class MemoryBlobs:
    """``interfaces.Blobs`` that forgets with the process."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def put(self, stream: BinaryIO) -> Blob:
        content = stream.read()
        blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
        self._contents[blob.id] = content
        return blob

    def get(self, blob: str) -> bytes:
        try:
            return self._contents[blob]
        except KeyError:
            raise NotFound(f"no stored attachment {blob}") from None

    def size(self, blob: str) -> int:
        return len(self.get(blob))
