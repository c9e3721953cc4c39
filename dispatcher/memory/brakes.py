"""Brakes and ticks of the ledger in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dispatcher.delivery import Actor
from dispatcher.ledger import holds, pause_seconds, signature, storable
from dispatcher.records import Pause


@dataclass(slots=True, eq=False)
class PauseRow:
    """A pause, and until when somebody tries the relay after it (None: there is nothing to be tried)."""

    pause: Pause
    probe_until: float | None

    def at(self, now: float) -> Pause:
        """The pause as it stands, over or not."""
        own = self.pause.actor is None and self.probe_until is not None
        return replace(self.pause, half_open=own and not holds(self.pause, now))


@dataclass(slots=True, eq=False)
class Brakes:
    """What is not leased now, and who is to do what comes round. ``now`` is the ledger's clock; the caller locks."""

    now: Callable[[], float]
    _rows: dict[tuple[str, str], PauseRow] = field(default_factory=dict)
    _ticks: dict[str, float] = field(default_factory=dict)

    def pause(self, kind: str, name: str, seconds: float | None, reason: str, actor: Actor | None) -> Pause:
        """See interfaces.Ledger.pause."""
        kind, name, now = storable(kind), storable(name), self.now()
        before = self._rows[kind, name].at(now) if (kind, name) in self._rows else None
        length = seconds if actor else pause_seconds(before, seconds, now)
        if before and length is None and not actor:
            return before
        until = None if length is None else now + length
        made = Pause(kind, name, until, storable(reason), now, storable(signature(actor)) if actor else None)
        self._rows[kind, name] = PauseRow(made, None if actor else 0.0)
        return made

    def hold(self, kind: str, name: str, reason: str, actor: str) -> None:
        """Pause until a person lifts it, although no person has set it."""
        pause = Pause(storable(kind), storable(name), None, storable(reason), self.now(), actor)
        self._rows[pause.kind, pause.name] = PauseRow(pause, None)

    def lift(self, kind: str, name: str, actor: str) -> None:
        """End such a pause, if there is one."""
        row, now = self._rows.get((storable(kind), storable(name))), self.now()
        if row is not None and holds(row.pause, now):
            row.pause = replace(row.pause, until=now, actor=actor)

    def probe(self, relay: str, seconds: float) -> bool:
        """See interfaces.Ledger.probe."""
        row, now = self._rows.get(("relay", storable(relay))), self.now()
        if row is None or row.probe_until is None or not row.at(now).half_open or row.probe_until > now:
            return False
        row.probe_until = now + seconds
        return True

    def resume(self, kind: str, name: str, actor: Actor | None) -> bool:
        """See interfaces.Ledger.resume."""
        row, now = self._rows.get((storable(kind), storable(name))), self.now()
        if row is None or not (row.at(now).half_open or (actor and holds(row.pause, now))):
            return False
        row.probe_until = None
        if actor:
            who, why = storable(signature(actor)), storable(actor.reason)
            row.pause = replace(row.pause, until=now, actor=who, reason=why)
        return True

    def reopen(self, relay: str) -> None:
        """See interfaces.Ledger.reopen."""
        row, now = self._rows.get(("relay", storable(relay))), self.now()
        if row is None or row.pause.actor:
            return
        if holds(row.pause, now):
            row.pause, row.probe_until = replace(row.pause, until=now), 0.0
        elif row.probe_until is not None:
            row.probe_until = 0.0

    def forget(self, kind: str, name: str) -> None:
        """What was paused is gone."""
        self._rows.pop((kind, name), None)

    def standing(self) -> list[Pause]:
        """See interfaces.Ledger.pauses."""
        now = self.now()
        found = (row.at(now) for row in self._rows.values())
        return sorted((p for p in found if p.half_open or holds(p, now)), key=lambda pause: pause.since)

    def tick(self, name: str, every: float) -> bool:
        """See interfaces.Ledger.tick."""
        now = self.now()
        if name in self._ticks and self._ticks[name] > now - every:
            return False
        self._ticks[name] = now
        return True

    def granted(self) -> dict[str, float]:
        """See interfaces.Ledger.ticks."""
        return {name: self.now() - at for name, at in self._ticks.items()}
