"""The world that fault tests play on."""

from tests.faults.world import world

__all__ = ["world"]
