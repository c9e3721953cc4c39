"""Who hears what has happened."""

from typing import Any, Protocol


class EventSink(Protocol):
    """Any callable that takes one frozen event. It may fail; delivery may not."""

    def __call__(self, event: Any, /) -> None: ...
