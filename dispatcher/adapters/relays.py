"""The transports of the settings, made anew when a file of settings or secrets was written: a changed password must
not need a restart."""

import time
from collections.abc import Callable, Mapping

from dispatcher.dispatcher import Refreshed
from dispatcher.errors import DispatcherError
from dispatcher.events import SettingsKept
from dispatcher.interfaces import EventSink, Transport
from dispatcher.relay import Relay

_LOOK_SECONDS = 1.0
Stamp = tuple[tuple[str, int, int], ...]


class Relays:
    """``read`` answers the relays by name, in the order of their priority, as the settings have them now; ``stamp``
    what tells whether those were written since; ``make`` a relay's transport. Connects nowhere by itself."""

    def __init__(
        self,
        relays: Mapping[str, Relay],
        make: Callable[[Relay], Transport],
        *,
        read: Callable[[], Mapping[str, Relay]],
        stamp: Callable[[], Stamp],
        sink: EventSink,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._relays, self._make, self._read, self._stamp = dict(relays), make, read, stamp
        self._sink, self._clock = sink, clock
        self._seen, self._looked = stamp(), clock()
        self.transports: dict[str, Transport] = {name: make(relay) for name, relay in relays.items()}

    def refreshed(self) -> Refreshed | None:
        """What changed since the last look, if a second has passed and something did. What cannot be read changes
        nothing, and is told once. One thread at a time may ask."""
        now = self._clock()
        if now - self._looked < _LOOK_SECONDS:
            return None
        self._looked = now
        seen = self._stamp()
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            relays = dict(self._read())
        except DispatcherError as error:
            self._sink(SettingsKept(str(error)))
            return None
        return self._take(relays)

    def _take(self, relays: dict[str, Relay]) -> Refreshed | None:
        changed = tuple(name for name, relay in relays.items() if self._relays.get(name) != relay)
        if not changed and list(relays) == list(self._relays):
            return None
        kept = {name: self.transports[name] for name in relays if name in self._relays and name not in changed}
        dropped = tuple(transport for name, transport in self.transports.items() if name not in kept)
        self.transports = {name: kept.get(name) or self._make(relay) for name, relay in relays.items()}
        self._relays = relays
        return Refreshed(self.transports, changed, dropped)
