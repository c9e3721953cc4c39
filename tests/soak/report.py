"""What a soak has shown: its table, and whether the promise was kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.soak.deaths import Death

KILLS_PER_DOUBT = 10  # with fewer doubts than one in so many kills, nothing was under way: it proves nothing


@dataclass(frozen=True, slots=True)
class Report:
    """``again``: submits that met a ledger that was away. ``struck``: faults by name. ``unexplained``: doubts that no
    death explains. ``proof`` and ``printed``: what ``dispatcher verify`` said, as a document and for a person."""

    kind: str
    seed: int
    seconds: float
    accepted: int
    again: int
    trouble: str
    struck: Mapping[str, int]
    deaths: Sequence[Death] = field(repr=False)
    unexplained: int
    proof: Mapping[str, Any]
    printed: str = field(repr=False)

    @property
    def killed(self) -> list[Death]:
        """The worker processes that we ended, or stopped until they were ended."""
        return [death for death in self.deaths if death.connections is not None]

    @property
    def in_doubt(self) -> int:
        """Messages that a worker's end left in doubt."""
        return sum(len(death.in_doubt) for death in self.killed)

    def broken(self) -> Iterator[str]:
        """What of the promise was not kept, and what keeps the soak from proving it."""
        if self.trouble:
            yield self.trouble
        proof = self.proof
        if not proof["ok"]:
            yield "the proof of `dispatcher verify` does not hold"
        if proof["accepted"] != self.accepted or proof["states"] != {"sent": self.accepted}:
            yield f"{self.accepted:,} were accepted, the ledger has {proof['accepted']:,}: {proof['states']}"
        if proof["doubled"] > proof["in_doubt_events"]:
            yield f"{proof['doubled']} doubles, but {proof['in_doubt_events']} mails came to be in doubt"
        if proof["host_lost"]:
            yield f"{proof['host_lost']} leases were taken for a lost host's"
        if self.unexplained:
            yield f"{self.unexplained} doubts that no death explains"
        yield from self._broken_by_death()
        if self.in_doubt < len(self.killed) // KILLS_PER_DOUBT:
            yield f"{self.in_doubt} in doubt after {len(self.killed)} kills: nothing was under way"

    def _broken_by_death(self) -> Iterator[str]:
        for death in self.killed:
            most = max(len(death.begun), len(death.in_doubt))
            if death.connections is not None and most > death.connections:
                yield f"pid {death.pid}: {most} in doubt over {death.connections} connections"
        for death in self.deaths:
            # A process sends over one connection at a time; the product ends one that is stuck.
            if death.connections is None and len(death.in_doubt) > 1:
                yield f"pid {death.pid}: {len(death.in_doubt)} in doubt, and we had not killed it"

    def table(self) -> Iterator[str]:
        """For a person, a line each."""
        yield f"seed {self.seed}, {self.kind}, {self.seconds / 60:.1f} min, {self.accepted:,} mails"
        yield ""
        yield f"{'fault':32} {'times':>7}"
        yield from (f"{name:32} {times:7}" for name, times in sorted(self.struck.items()))
        yield f"{'all':32} {sum(self.struck.values()):7}"
        yield ""
        yield f"{'worker processes':32} {'number':>7} {'connected':>10} {'begun':>7} {'in doubt':>9}"
        for fault in sorted({death.fault for death in self.deaths}, reverse=True):
            yield self._row(fault or "ended otherwise", [death for death in self.deaths if death.fault == fault])
        yield ""
        proof = self.proof
        yield f"in doubt {proof['in_doubt_events']}, of them by a kill {self.in_doubt}; doubled {proof['doubled']}"
        yield f"submits that met a ledger that was away: {self.again}"

    @staticmethod
    def _row(name: str, found: Sequence[Death]) -> str:
        connected = sum(death.connections or 0 for death in found)
        begun, in_doubt = sum(len(death.begun) for death in found), sum(len(death.in_doubt) for death in found)
        return f"{name:32} {len(found):7} {connected:10} {begun:7} {in_doubt:9}"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        deaths = [asdict(d) | {"begun": sorted(d.begun), "in_doubt": sorted(d.in_doubt)} for d in self.deaths]
        found = {name: getattr(self, name) for name in ("kind", "seed", "seconds", "accepted", "again", "struck")}
        found |= {"unexplained": self.unexplained, "proof": self.proof, "deaths": deaths}
        return found | {"broken": list(self.broken())}
