"""Which relay takes a message: the one that its submission names, else the first by priority that is not paused."""

from collections.abc import Collection, Sequence


def choose(wanted: str | None, relays: Sequence[str], paused: Collection[str]) -> str | None:
    """The relay's name, or None when there is none to be had now. ``relays`` are in the order of their priority."""
    if wanted is not None:
        return wanted if wanted in relays and wanted not in paused else None
    return next((name for name in relays if name not in paused), None)
