"""A process whose wall clock is wrong; its monotonic clocks are right."""

import datetime as dt
import time
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
