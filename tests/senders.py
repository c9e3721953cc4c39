"""Plain processes that send as fast as the limits of their relay allow, with nothing of the ledger or Celery."""

import contextlib
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dispatcher.adapters.journal import MemoryJournal
from dispatcher.adapters.redis_limiter import RedisLimiter
from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.broker import BrokerAddress
from dispatcher.dispatcher import SystemClock
from dispatcher.errors import LimitReached
from dispatcher.mail import Message
from dispatcher.rate import Rate
from dispatcher.relay import Relay
from dispatcher.throttle import Throttle

BATCH = 100
ROOT = Path(__file__).parent.parent


@contextmanager
def senders(number: int, redis_url: str, relay_url: str, *rate: str) -> Iterator[None]:
    """So many processes that send one mail after the other until the end of the block."""
    processes = [
        subprocess.Popen([sys.executable, "-m", "tests.senders", redis_url, relay_url, *rate], cwd=ROOT)
        for _ in range(number)
    ]
    try:
        yield
        assert [process.poll() for process in processes] == [None] * number  # none of them ended by itself
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


class Sender:
    """One such process."""

    def __init__(self, redis_url: str, relay: Relay) -> None:
        self.relay, self.stopping = relay, threading.Event()
        self.limiter = RedisLimiter(BrokerAddress(redis_url), SystemClock())
        self.limiter.limits({relay.name: relay})
        self.throttle = Throttle(self.limiter, SystemClock())
        self.transport = SmtpTransport(relay, limiter=self.limiter)
        self.numbers = itertools.count()

    def run(self) -> None:
        """Send until told to stop."""
        threading.Thread(target=self.tend, daemon=True).start()
        while not self.stopping.is_set():
            if wait := self.throttle.closed(self.relay.name):
                self.stopping.wait(min(wait, 0.2))
                continue
            with contextlib.suppress(LimitReached):
                for outcome in self.transport.send(self.messages(), MemoryJournal()):
                    self.throttle.told(self.relay.name, outcome.seconds)
        self.transport.close()
        self.limiter.close()

    def messages(self) -> Iterator[Message]:
        for number in itertools.islice(self.numbers, self.throttle.room(self.relay.name, BATCH)):
            if self.throttle.admit(self.relay.name, 1, self.stopping.is_set):
                return
            yield Message(number, "erp@example.com", ((number, "a@example.com"),), b"Subject: hi\r\n\r\nhi\r\n")

    def tend(self) -> None:
        while not self.stopping.is_set():
            self.limiter.keep()
            self.transport.tend()
            time.sleep(1)


def main() -> None:
    """Arguments: the Redis, the relay, and its rate."""
    redis_url, relay_url, *rate = sys.argv[1:]
    relay = Relay.parse("main", relay_url, setting="url", rate=Rate.parse(rate, "rate"))
    sender = Sender(redis_url, relay)
    signal.signal(signal.SIGTERM, lambda *_: sender.stopping.set())
    sender.run()


if __name__ == "__main__":
    main()
