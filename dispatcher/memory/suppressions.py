"""Whom not to write to, in memory."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from threading import RLock

from dispatcher.delivery import Actor
from dispatcher.ledger import ADDED, REMOVED, signature, storable, suppressing
from dispatcher.suppression import Reason, Suppression, holding, normal, scopes, stands


class MemorySuppressions:
    """``interfaces.Suppressions`` under the ledger's lock, by its clock; ``act`` notes what a person did: the verb, the
    subject, and how many it changed."""

    def __init__(self, lock: RLock, now: Callable[[], float], act: Callable[[Actor, str, str, int], object]) -> None:
        self._lock, self._now, self._act = lock, now, act
        self._rows: dict[tuple[str, str], Suppression] = {}

    def add(self, suppressions: Iterable[Suppression], actor: Actor | None = None) -> int:
        new = list(suppressions)
        with self._lock:
            count = sum(self._enter(each, actor) for each in new)
            if actor is not None and count:
                self._act(actor, ADDED, suppressing(new), count)
            return count

    def _enter(self, new: Suppression, actor: Actor | None) -> bool:
        key = normal(new.address), new.scope
        if (before := self._rows.get(key)) is not None and stands(before, new):
            return False
        by = new.actor or (signature(actor) if actor else None)
        self._rows[key] = replace(
            new,
            address=key[0],
            evidence=storable(new.evidence),
            origin=storable(new.origin),
            at=new.at or self._now(),
            actor=None if by is None else storable(by),
        )
        return True

    def remove(self, address: str, scope: str | None, actor: Actor, *, reason: Reason | None = None) -> int:
        with self._lock:
            gone = list(self.find(scope=scope, reason=reason, address=address))
            for each in gone:
                del self._rows[each.address, each.scope]
            if gone:
                self._act(actor, REMOVED, f"{normal(address)} {scope or ''}".strip(), len(gone))
            return len(gone)

    def standing(self, address: str) -> list[Suppression]:
        return sorted(self.find(address=address), key=lambda each: each.scope)

    def find(
        self, *, scope: str | None = None, reason: Reason | None = None, address: str | None = None
    ) -> Iterator[Suppression]:
        wanted = None if address is None else normal(address)
        with self._lock:
            now = self._now()
            return iter(
                [
                    row
                    for (of, within), row in sorted(self._rows.items())
                    if wanted in (None, of)
                    and scope in (None, within)
                    and reason in (None, row.reason)
                    and (row.until is None or row.until > now)
                ]
            )

    def count(self, *, scope: str | None = None, reason: Reason | None = None, address: str | None = None) -> int:
        return len(list(self.find(scope=scope, reason=reason, address=address)))

    def held(self, addresses: Collection[str], list: str | None) -> dict[str, Suppression]:  # noqa: A002 - the Protocol's name
        found = {address: self.holding(address, list) for address in map(normal, addresses)}
        return {address: held for address, held in found.items() if held is not None}

    def holding(self, address: str, list: str | None) -> Suppression | None:  # noqa: A002 - as above
        """What holds mail of this list to this address."""
        if not self._rows:
            return None
        with self._lock:
            now, mine = self._now(), normal(address)
            found = [row for scope in scopes(list) if (row := self._rows.get((mine, scope))) is not None]
            return holding([row for row in found if row.until is None or row.until > now], list)
