"""Wall clocks: moments of a day where somebody lives. Zones are names of the IANA database: ``Asia/Shanghai``."""

from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

EARLIEST = timedelta(hours=14)  # how far the easternmost clock (Pacific/Kiritimati) is ahead of UTC
LATEST = timedelta(hours=12)  # and the westernmost one (Etc/GMT+12) behind it


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Raises ValueError for a name that is none; nothing is looked up outside the database's folder."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # no such file, a folder, or a path
        raise ValueError(f"{name[:60]!r} is no time zone; write one such as Asia/Shanghai") from None


def moment(wall: datetime, name: str) -> float:
    """When a clock there shows ``wall`` (without an offset): seconds since the epoch.

    A time that the clock skips in spring counts on from before the jump (02:30 is when it shows 03:30); of one that
    comes twice in autumn it is the first.
    """
    return wall.replace(tzinfo=zone(name), fold=0).timestamp()


def wall(at: float, name: str) -> datetime:
    """What a clock there shows at this moment, without an offset."""
    return datetime.fromtimestamp(at, zone(name)).replace(tzinfo=None)
