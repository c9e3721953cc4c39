"""Settings of relays that are read again while a worker runs."""

from dispatcher.adapters.relays import Relays, Stamp
from dispatcher.errors import ConfigurationError
from dispatcher.events import Event, SettingsKept
from dispatcher.interfaces import Transport
from dispatcher.relay import Relay
from dispatcher.testing import MemoryTransport


class Files:
    """What stands in the settings now, and when it was written."""

    def __init__(self, **relays: str) -> None:
        self.relays, self.written, self.now, self.broken = relays, 0, 0.0, ""
        self.told: list[Event] = []
        self.made: dict[str, MemoryTransport] = {}
        self.watched = Relays(
            self.read(), self.make, read=self.read, stamp=self.stamp, sink=self.told.append, clock=self.clock
        )

    def clock(self) -> float:
        return self.now

    def stamp(self) -> Stamp:
        return (("dispatcher.toml", self.written, 0),)

    def read(self) -> dict[str, Relay]:
        if self.broken:
            raise ConfigurationError("relays.main.url", self.broken)
        return {name: Relay(name, host, 25) for name, host in self.relays.items()}

    def make(self, relay: Relay) -> Transport:
        self.made[relay.host] = MemoryTransport(relay.name)
        return self.made[relay.host]

    def write(self, **relays: str) -> None:
        self.relays, self.written, self.now = relays, self.written + 1, self.now + 1


def test_a_changed_relay_gets_a_new_transport_and_the_others_keep_theirs() -> None:
    files = Files(main="a", backup="b")
    files.write(main="c", backup="b")
    found = files.watched.refreshed()
    assert found is not None
    assert found.changed == ("main",)
    assert list(found.transports.values()) == [files.made["c"], files.made["b"]]
    assert found.dropped == (files.made["a"],)


def test_what_was_not_written_is_not_read() -> None:
    files = Files(main="a")
    files.relays, files.now = {"main": "b"}, 5.0
    assert files.watched.refreshed() is None


def test_it_looks_once_a_second() -> None:
    files = Files(main="a")
    files.write(main="b")
    files.now -= 0.5
    assert files.watched.refreshed() is None
    files.now += 0.5
    assert files.watched.refreshed() is not None


def test_relays_come_and_go_and_change_their_order() -> None:
    files = Files(main="a", backup="b")
    files.write(backup="b", main="a")
    first = files.watched.refreshed()
    assert first is not None
    assert (first.changed, list(first.transports)) == ((), ["backup", "main"])
    files.write(main="a")
    second = files.watched.refreshed()
    assert second is not None
    assert list(second.transports) == ["main"]
    assert second.dropped == (files.made["b"],)


def test_what_cannot_be_read_changes_nothing_and_is_told_once() -> None:
    files = Files(main="a")
    files.write(main="a")
    files.broken = "names no host"
    assert files.watched.refreshed() is None
    files.now += 5
    assert files.watched.refreshed() is None
    assert files.told == [SettingsKept("relays.main.url: names no host")]
    files.broken = ""
    files.write(main="b")
    assert files.watched.refreshed() is not None
