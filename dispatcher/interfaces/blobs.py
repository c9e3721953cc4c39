"""What keeps attachments."""

from typing import BinaryIO, Protocol

from dispatcher.mail import Blob


class Blobs(Protocol):
    """Attachments by content: the SHA-256 of the bytes is the id, so the same file is stored once."""

    def put(self, stream: BinaryIO) -> Blob:
        """Store what the stream holds, durably before this returns."""
        ...

    def get(self, blob: str) -> bytes:
        """Raises NotFound."""
        ...

    def touch(self, blob: str) -> Blob:
        """The one that is stored under this id, as if it had been put again now. Raises NotFound."""
        ...

    def old(self, seconds: float, *, after: str = "", limit: int = 500) -> list[str]:
        """Ids that were last put longer ago than that, in their order, from behind ``after``."""
        ...

    def remove(self, blob: str, seconds: float) -> bool:
        """Remove it, unless it was put again since ``seconds`` ago; whether it is gone."""
        ...
