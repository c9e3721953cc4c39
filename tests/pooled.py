"""For tests of the pool: sessions without a network, and a clock that stands still."""

from dataclasses import dataclass, field

from dispatcher.errors import ConnectFailed
from dispatcher.relay import Relay

RELAY = Relay(name="main", host="127.0.0.1", port=25, tls="none", max_messages_per_connection=3, idle_seconds=30)


@dataclass(eq=False)
class Session:
    """A session without a network: what the pool reads can be set."""

    number: int
    usable: bool = True
    transactions: int = 0
    hung_up: bool = False
    closed: list[bool] = field(default_factory=list)

    def readable(self) -> bool:
        return self.hung_up

    def close(self, *, polite: bool) -> None:
        self.usable = False
        self.closed.append(polite)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Opener:
    def __init__(self) -> None:
        self.opened: list[Session] = []
        self.down = False

    def __call__(self) -> Session:
        if self.down:
            raise ConnectFailed("main", "connection refused")
        self.opened.append(Session(len(self.opened)))
        return self.opened[-1]
