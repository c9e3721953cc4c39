"""A year on a real ledger whose clock is the test's: two beats that get into each other's way, deaths at the worst
moments, fifty downtimes."""

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dispatcher.adapters.attachments import Attachments
from dispatcher.adapters.sql import engine
from dispatcher.adapters.sql.database import Transaction
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.dispatcher import Dispatcher
from dispatcher.memory import MemoryBlobs, MemoryFiles, MemoryJournals, MemoryLimiter, MemoryManifests, MemoryRenderers
from dispatcher.policy import Policy
from dispatcher.template import TemplateVersion
from dispatcher.testing import MemoryQueue, MemoryTransport

HOUR, DAY = 3600.0, 86400.0
BEGIN = datetime(2028, 1, 1, tzinfo=UTC).timestamp()
END = datetime(2029, 1, 1, tzinfo=UTC).timestamp()
DOWNTIMES = 50
POLICY = Policy(sender="shop@example.com", secret_keys=("k" * 16,), public_url="https://mail.example")


class Killed(BaseException):
    """A process ends here."""


class House:
    """Two beats with workers on one ledger, whose clock stands still but for ``tick``. ``work`` does all that one of
    them finds to do; ``risky`` names a part of a ledger's store and its methods, at which it may be killed."""

    def __init__(
        self,
        url: str,
        seed: int,
        work: Callable[[Dispatcher], None],
        risky: Sequence[tuple[str, str]] = (),
        templates: Callable[[str], TemplateVersion] = lambda name: TemplateVersion(name, {}),
    ) -> None:
        self.url, self.now, self.random, self._work, self._risks = url, BEGIN, random.Random(seed), work, risky
        self._templates = templates
        self.beats = [self._beat() for _ in range(2)]
        self.complete: list[float] = []  # when somebody did all that was to be done
        self.deaths = Counter[str]()
        self._within = False

    def _beat(self) -> Dispatcher:
        ledger, blobs = SqlLedger(self.url), MemoryBlobs()
        made = Dispatcher(
            ledger=ledger, queue=MemoryQueue(), blobs=blobs, templates=self._templates,
            attach=Attachments(blobs, (), 1 << 20), transports={"main": MemoryTransport("main")},
            journals=MemoryJournals(), limiter=MemoryLimiter(self.time), policy=POLICY, clock=self,
            files=MemoryFiles(blobs), renderers=MemoryRenderers(blobs), manifests=MemoryManifests(),
        )  # fmt: skip
        for part, method in self._risks:
            owner = getattr(ledger, part) if part else ledger
            setattr(owner, method, self._risky(method, getattr(owner, method)))
        return made

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def _risky(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """The same, but that others come first now and then, and that its process may end before or after."""

        def call(*given: Any) -> Any:
            chance = self.random.random()
            if not self._within and chance < 0.10:
                self._within = True
                self.run(self.random.choice(self.beats))
                self._within = False
            self._die(0.10 <= chance < 0.13, f"before {name}")
            answer = real(*given)
            self._die(0.13 <= chance < 0.16, f"after {name}")
            return answer

        return call

    def _die(self, now: bool, where: str) -> None:
        if now and not self._within:
            self.deaths[where] += 1
            raise Killed

    def run(self, beat: Dispatcher) -> None:
        self._work(beat)
        self.complete.append(self.now)

    def live(self, rest: float) -> None:
        """Through the year, with a tick of each beat every ``rest`` seconds on average, to an end that is whole."""
        for at in self._ticks(rest):
            self.tick(at)
        while not self.complete or self.complete[-1] < END:
            self.tick(END)

    def tick(self, at: float) -> None:
        self.now = at
        try:
            self.run(self.random.choice(self.beats))
        except Killed:
            return

    def accepted(self) -> dict[str, float]:
        """When each submission was, by its key; every key once."""
        made = engine.create(self.url)
        with made.connect() as connection:
            found = [tuple(row) for row in connection.execute(text("SELECT key, accepted_at FROM submissions"))]
        made.dispose()
        assert len(dict(found)) == len(found)
        return dict(found)

    def close(self) -> None:
        for beat in self.beats:
            beat.close()

    def _ticks(self, rest: float) -> list[float]:
        """Of both beats, at random, but for the downtimes."""
        chance = self.random
        begins = [chance.uniform(BEGIN, END - 4 * DAY) for _ in range(DOWNTIMES)]
        down = [(begin, begin + chance.choice((2, 12, 30, 80)) * HOUR) for begin in begins]
        found = {END}
        for _ in self.beats:
            at = BEGIN
            while (at := at + chance.expovariate(1 / rest)) < END:
                if not any(begin <= at < end for begin, end in down):
                    found.add(at)
        return sorted(found)

    def nobody_could(self, since: float, until: float) -> bool:
        """Whether no tick came to its end in that time."""
        return not any(since <= at <= until for at in self.complete)


def stands_still(monkeypatch: pytest.MonkeyPatch, house: House) -> None:
    """The ledger's clock is the house's from now on, SQLite's and PostgreSQL's too."""
    monkeypatch.setattr(Transaction, "now", property(lambda _: house.now))


def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite does not wait for the disk: nobody cuts the power here."""

    def configure(connection: sqlite3.Connection, record: Any) -> None:
        configured(connection, record)
        connection.execute("PRAGMA synchronous = OFF").close()

    configured = engine._configure_sqlite
    monkeypatch.setattr(engine, "_configure_sqlite", configure)


def copied(template: Path, to: Path) -> str:
    """The URL of a new SQLite ledger."""
    shutil.copy(template, to)
    return f"sqlite:///{to}"
