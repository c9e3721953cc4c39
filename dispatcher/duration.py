"""Lengths of time as people write them."""

import re
from typing import Any

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def seconds(value: Any) -> Any:
    """Read ``90``, ``"90s"``, ``"5m"``, ``"1h"``, ``"3d"`` as seconds; ValueError for anything else."""
    if isinstance(value, str):
        if not (found := _DURATION.fullmatch(value.strip())):
            msg = f"{value!r} is no duration: write 90s, 5m, 1h or 3d"
            raise ValueError(msg)
        return float(found[1]) * _UNITS[found[2] or "s"]
    return value
