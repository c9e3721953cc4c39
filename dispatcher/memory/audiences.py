"""Audiences of the ledger in memory."""

import json
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any

from dispatcher.audience import Audience, AudienceVersion, BadRow, Column, Member, same_as, unready
from dispatcher.delivery import Actor
from dispatcher.errors import AudienceError, NotFound
from dispatcher.ledger import signature, storable
from dispatcher.written import Written, encode


@dataclass(slots=True, eq=False)
class VersionRow:
    """A version with its rows, by their numbers."""

    version: AudienceVersion
    members: dict[int, Member] = field(default_factory=dict)
    rejects: dict[int, BadRow] = field(default_factory=dict)

    def count(self) -> None:
        """Let the version say what there is."""
        doubled = sum(reject.doubled for reject in self.rejects.values())
        kept, bad = len(self.members), len(self.rejects) - doubled
        self.version = replace(self.version, rows=kept + bad + doubled, kept=kept, bad=bad, doubled=doubled)


class MemoryAudiences:
    """``interfaces.Audiences`` under a memory ledger's lock and clock. ``used``: what a campaign that is not over says
    of these versions, None where none goes by them."""

    def __init__(
        self,
        lock: threading.RLock,
        now: Callable[[], float],
        act: Callable[..., Any],
        used: Callable[[Collection[int]], str | None] = lambda _: None,
    ) -> None:
        self._lock, self._now, self._act, self._used = lock, now, act, used
        self._rows: dict[int, VersionRow] = {}
        self._created: dict[str, float] = {}
        self._numbers = count(1)

    def begin(self, name: str, source: str, columns: Sequence[Column], actor: Actor) -> AudienceVersion:
        with self._lock:
            now = self._now()
            self._created.setdefault(name, now)
            last = max((row.version.version for row in self._of(name)), default=0)
            made = AudienceVersion(
                id=next(self._numbers),
                name=name,
                version=last + 1,
                source=storable(source),
                columns=tuple(replace(column, source=storable(column.source)) for column in columns),
                rows=0,
                kept=0,
                bad=0,
                doubled=0,
                made_at=now,
                ready_at=None,
                actor=storable(signature(actor)),
            )
            self._rows[made.id] = VersionRow(made)
            return made

    def _of(self, name: str) -> list[VersionRow]:
        return [row for row in self._rows.values() if row.version.name == name]

    def _ready(self, name: str) -> list[VersionRow]:
        return [row for row in self._of(name) if row.version.ready_at is not None]

    def _open(self, version_id: int) -> VersionRow:
        row = self._rows.get(version_id)
        if row is None or row.version.ready_at is not None:
            raise NotFound(f"audience version {version_id} is not being read any more: it is ready, or was given up")
        return row

    def add(self, version_id: int, members: Sequence[Member], rejects: Sequence[BadRow]) -> None:
        with self._lock:
            row = self._open(version_id)
            row.members |= {member.n: member for member in members}
            row.rejects |= {reject.n: _kept(reject) for reject in rejects}
            row.count()

    def ready(self, version_id: int, actor: Actor) -> AudienceVersion:
        with self._lock:
            row = self._open(version_id)
            first: dict[str, int] = {}
            for n, member in sorted(row.members.items()):
                if first.setdefault(member.address, n) != n:
                    row.rejects[n] = BadRow(n, "", same_as(first[member.address]), member.shown, doubled=True)
                    del row.members[n]
            row.count()
            made = row.version = replace(row.version, ready_at=self._now())
            self._act(actor, "import", f"audience {made.name} version {made.version}", count=made.kept)
            return made

    def current(self, name: str) -> AudienceVersion:
        with self._lock:
            found = self._ready(name)
            if not found:
                raise NotFound(unready(name, self._created))
            return max((row.version for row in found), key=lambda version: version.version)

    def version(self, name: str, number: int) -> AudienceVersion:
        with self._lock:
            found = [row.version for row in self._ready(name) if row.version.version == number]
            if not found:
                raise NotFound(f"audience {name!r} has no version {number}: see `dispatcher audiences list`")
            return found[0]

    def by_id(self, version_id: int) -> AudienceVersion:
        with self._lock:
            if version_id not in self._rows:
                raise NotFound(f"no audience version {version_id}")
            return self._rows[version_id].version

    def list(self) -> list[Audience]:
        with self._lock:
            found = []
            for name, at in sorted(self._created.items()):
                versions = [row.version for row in self._ready(name)]
                newest = max(versions, key=lambda version: version.version, default=None)
                found.append(Audience(name, at, len(versions), newest))
            return found

    def members(self, version_id: int, after: int, limit: int) -> Sequence[tuple[int, str, str, str]]:
        with self._lock:
            rows = self._rows[version_id].members if version_id in self._rows else {}
            numbers = islice(sorted(n for n in rows if n > after), limit)
            return [(n, rows[n].address, rows[n].shown, _text(rows[n].attributes)) for n in numbers]

    def rejects(self, version_id: int, after: int, limit: int) -> Sequence[BadRow]:
        with self._lock:
            rows = self._rows[version_id].rejects if version_id in self._rows else {}
            return [rows[n] for n in islice(sorted(n for n in rows if n > after), limit)]

    def drop(self, name: str, number: int | None, actor: Actor) -> int:
        with self._lock:
            found = self._ready(name)
            if number is not None:
                self.version(name, number)
                found = [row for row in found if row.version.version == number]
            elif not found:
                raise NotFound(unready(name, self._created))
            if (busy := self._used([row.version.id for row in found])) is not None:
                raise AudienceError(f"audience {name}", busy)
            for row in found:
                row.version = replace(row.version, ready_at=None, made_at=0.0)
            what = f"audience {name}" if number is None else f"audience {name} version {number}"
            self._act(actor, "drop", what, count=len(found))
            return len(found)

    def forget(self, seconds: float, limit: int) -> int:
        with self._lock:
            since = self._now() - seconds
            old = [row for row in self._rows.values() if row.version.ready_at is None and row.version.made_at <= since]
            if not old:
                return 0
            row = old[0]
            for rows in (row.members, row.rejects):
                if numbers := list(islice(sorted(rows), limit)):
                    for n in numbers:
                        del rows[n]
                    return len(numbers)
            del self._rows[row.version.id]
            if not self._of(row.version.name):
                del self._created[row.version.name]
            return 1


def _kept(reject: BadRow) -> BadRow:
    n, name, reason, payload, doubled = reject
    return BadRow(n, storable(name), storable(reason), storable(payload), doubled)


def _text(attributes: Written | dict[str, Any]) -> str:
    return attributes.text if isinstance(attributes, Written) else encode(json.loads(json.dumps(attributes)))
