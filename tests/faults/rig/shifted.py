"""A process whose wall clock is wrong; its monotonic clocks are right."""

import datetime as dt
import mmap
import struct
import time
from pathlib import Path
from typing import Any

_time, _datetime, _ahead = time.time, dt.datetime, 0.0


class _Shown(type(_datetime)):  # type: ignore[misc]  # what was made by the real one is one too
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _datetime)


class _Datetime(_datetime, metaclass=_Shown):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _datetime.fromtimestamp(_time() + _ahead, tz)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(dt.UTC).replace(tzinfo=None)


def set_ahead(seconds: float) -> None:
    """Whatever asks Python for the time is told one that is ahead by so much."""
    global _ahead  # noqa: PLW0603 - one clock for each process
    _ahead = seconds
    time.time = lambda: _time() + _ahead
    dt.datetime = _Datetime  # type: ignore[misc]


_SECONDS = struct.Struct("d")
_shared: mmap.mmap | None = None


def follow(path: Path) -> None:
    """Whoever asks for seconds since the epoch is told what this file says, from moment to moment."""
    global _shared  # noqa: PLW0603 - as above
    with path.open("r+b") as file:
        _shared = mmap.mmap(file.fileno(), _SECONDS.size)
    time.time = lambda: _time() + everybody()


def everybody() -> float:
    """Seconds by which the clocks of all who follow are ahead."""
    return 0.0 if _shared is None else float(_SECONDS.unpack_from(_shared)[0])
